"""What came of trying a promise. Importing this costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Claim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One promise, and whether it was kept."""

    name: str
    """What is promised."""
    holds: bool
    """Whether it was kept."""
    apart_ppm: int | None
    """By how much rows differed at most, in millionths; null where no rows are compared."""
    allowed_ppm: int | None
    """By how much they may."""
    trouble: str
    """What was wrong, for people; empty where nothing was."""
