"""How far a node holds back when power is scarce or dear: batch work goes first, then nothing new is taken.

::

    NORMAL    takes every job
    SHED      takes no batch job, and ends those that run
    DRAIN     has no offer out and takes no job; what runs ends at the rates agreed

A node that drains and serves nothing any more is paused. Which level holds is the strictest of what the operator's
ceiling, a signal of the grid and the power cap say. Nothing here knows how a signal is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from protocol.policy.policy import LatencyClass
from protocol.units import ceil_div

__all__ = ["AT_EASE", "Level", "Signal", "admits", "by_ceiling", "places_within", "strictest"]


class Level(IntEnum):
    """How far to hold back; a higher one is stricter."""

    NORMAL = 0
    SHED = 1
    DRAIN = 2

    @property
    def word(self) -> str:
        """As signals and JSON spell it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Signal:
    """What somebody wants of this site for now."""

    level: Level
    reason: str = ""
    """For people; empty at ease."""
    until: int | None = None
    """Unix seconds; None for as long as it is not taken back."""
    limit_w: int | None = None
    """Watts that the site may draw, where that is said."""

    def at(self, now: int) -> Signal:
        """What is left of it by now."""
        return self if self.until is None or now < self.until else AT_EASE


AT_EASE = Signal(Level.NORMAL)


def strictest(signals: Iterable[Signal]) -> Signal:
    """The one that holds among several: the strictest level, with its reason, and the least power that any allows."""
    signals = list(signals)
    chosen = max(signals, key=lambda each: each.level, default=AT_EASE)
    limits = [each.limit_w for each in signals if each.limit_w is not None]
    return Signal(chosen.level, chosen.reason, chosen.until, min(limits, default=None))


def admits(level: Level, latency_class: LatencyClass) -> bool:
    """Whether a job of a class may begin, or go on where the level is `SHED`."""
    if level is Level.SHED:
        return latency_class is not LatencyClass.BATCH
    return level is Level.NORMAL


def by_ceiling(price: int, ceiling: int | None) -> bool:
    """Whether power is too dear to work: above the ceiling, not at it."""
    return ceiling is not None and price > ceiling


def places_within(limit_w: int, millijoules: int, position_us: int, pue_milli: int) -> int:
    """Sessions that draw no more than so many watts at the meter, each counted as if it were alone.

    That is more than they take together, so the cap holds.

    Args:
        millijoules: of a generated token, in a session alone.
        position_us: of such a token.
    """
    # millijoules per microsecond are kilowatts, and a PUE is in thousandths: together they are watts.
    watts_each = ceil_div(millijoules * pue_milli, max(1, position_us))
    return limit_w // max(1, watts_each)
