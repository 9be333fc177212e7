"""What came of attacks on the rows between legs (`leaks`). Importing this costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ATTACKS", "Attacked", "CutLeak"]

ATTACKS = ("nearest", "trained", "search")
"""From the one that needs least to the one that needs most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attacked:
    """What one attack recovered at one cut."""

    attack: str
    """`nearest`, `trained` or `search`."""
    recovered: int
    """Token ids that it told rightly."""
    of: int
    """Tokens that were attacked."""
    share_ppm: int
    """The one by the other, in millionths."""
    low_ppm: int
    """Lower end of the share, in millionths: 95 % by Wilson's interval."""
    high_ppm: int
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutLeak:
    """What rows tell at one cut."""

    cut: int
    """Blocks that they went through: they enter the block of this number. At 0 they are rows of the embedding."""
    attacks: tuple[Attacked, ...]
    """In the order of `ATTACKS`; at 0 `nearest` alone."""
