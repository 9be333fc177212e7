"""What a leg says of its energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.offer import Provenance

__all__ = ["Meter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What a leg says of its energy."""

    millijoules_for: Callable[[int, int], int | None]
    """Of so many prompt and generated positions through this leg's blocks; None while nothing is known."""
    source: Callable[[], Provenance]
    pue_milli: int
