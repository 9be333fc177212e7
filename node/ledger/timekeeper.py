"""What time it is for the ledger: its clock, as far as that can be believed.

Time never falls in a log, so one entry that is dated far ahead makes every session count as expired until real time has
caught up. A clock that jumps ahead is therefore not believed without the operator's word. While the ledger runs, a jump
is told by a second clock that nobody sets. Over a rest it cannot be told from the rest itself, so a start asks for the
word only where the clock is ahead by more than a rest is likely to last.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from node.events import ClockAhead, ClockBehind, ClockRight, Events
from node.ports import Clock
from protocol.errors import LocalError

__all__ = ["LONGEST_REST_S", "MOST_AHEAD_S", "Timekeeper", "steady_seconds"]

MOST_AHEAD_S = 300
"""Seconds that the clock may gain on the steady one between two looks: more than what time servers correct in steps."""
LONGEST_REST_S = 30 * 24 * 3600
"""Seconds by which the clock may be ahead of the last entry at a start, without the operator's word."""


def steady_seconds() -> float:
    """Seconds that rise at the same pace whoever sets the clock, while the machine sleeps too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Timekeeper:
    """Dates entries.

    Args:
        last: time of the last entry; 0 where there is none.
        steady: seconds that only rise; None where the clock is a test's own, and holds.
        accept: the operator's word that the clock is right at the start.
    """

    def __init__(
        self, clock: Clock, last: int, *, steady: Callable[[], float] | None, accept: bool, events: Events
    ) -> None:
        self._clock = clock
        self._steady = steady
        self._events = events
        self._last = last
        self._told: type[ClockAhead | ClockBehind] | None = None
        now = clock()
        self._looked: tuple[float, float] | None = None
        """What the clock and the steady one said when they were last believed."""
        if accept or not last or now - last <= LONGEST_REST_S:
            self._believe(now)

    def _believe(self, now: int) -> None:
        self._looked = (now, 0.0 if self._steady is None else self._steady())

    def now(self) -> int:
        """The time of the next entry, never below the one before. Raises LocalError while the clock is not believed."""
        now = self._clock()
        ahead_s = self._ahead_s(now)
        if ahead_s > (LONGEST_REST_S if self._looked is None else MOST_AHEAD_S):
            self._tell(ClockAhead(seconds=round(ahead_s)))
            raise LocalError(
                f"the ledger's clock is {_days(ahead_s)} ahead of what it should be",
                code="clock",
                hint="set the clock right; if it is right, the operator restarts with --accept-clock",
            )
        if self._looked is None or ahead_s >= -MOST_AHEAD_S:
            self._believe(now)
        if now < self._last - MOST_AHEAD_S:
            self._tell(ClockBehind(seconds=self._last - now))
        elif self._told is not None:
            self._told = None
            self._events(ClockRight())
        return max(now, self._last)

    def dated(self, at: int) -> None:
        """An entry was taken with this time."""
        self._last = at

    def _ahead_s(self, now: int) -> float:
        if self._looked is None:
            return now - self._last
        if self._steady is None:
            return 0
        clock, steady = self._looked
        return now - clock - (self._steady() - steady)

    def _tell(self, event: ClockAhead | ClockBehind) -> None:
        if self._told is not type(event):
            self._told = type(event)
            self._events(event)


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.1f} days" if seconds >= 86400 else f"{seconds / 60:.0f} minutes"
