"""When answers wait for others before a pass, so that they go round the ring together from then on. Integers only.

Where each leg has a core of its own, groups of answers in different legs are what keeps all of them busy, and one that
finds a leg busy joins those that wait there. But where legs share cores, more groups may be under way than there are
cores, each in a pass that takes nearly as long as one for all: the machine is full, no leg is, and so no group ever
meets another. The first leg of the route then holds one back, once in a while and not for long, until the next comes.
"""

from __future__ import annotations

__all__ = ["Gathering"]

CROWDED = 200
"""Thousandths of its passes that a node waits for a core: as much as this is from sharing cores with other legs."""
WEIGHT = 8
"""One in so many parts of a figure is that of the last pass."""
PASSES = 16
"""Between two times that answers are held back: where it is of no use it costs one in some sixteen."""


class Gathering:
    """Passes as they come."""

    def __init__(self) -> None:
        self._kept = 0
        """Thousandths of a pass that are waited for a core, lately."""
        self._since = 0
        """Passes since answers were held back."""
        self._until: int | None = None
        """The microsecond until which answers are held back now."""

    def passed(self, took_us: int, kept_us: int) -> None:
        """A pass took so long, for `kept_us` of it without a core."""
        share = min(1000, 1000 * kept_us // max(1, took_us))
        self._kept += (share - self._kept) // WEIGHT
        self._since += 1

    def hold_us(self, now_us: int, *, ready: int, live: int, pass_us: int) -> int:
        """For how long the next pass should wait for more answers; 0 to begin.

        Args:
            ready: answers that could run now, all of sessions that begin their round here.
            live: answers under way, those included.
            pass_us: what a pass takes.
        """
        if self._until is None:
            if self._kept < CROWDED or self._since < PASSES or not _is_minor(ready, live):
                return 0
            self._until = now_us + pass_us + pass_us // 2
        if now_us >= self._until or not _is_minor(ready, live):
            self._until, self._since = None, 0
            return 0
        return self._until - now_us


def _is_minor(ready: int, live: int) -> bool:
    """Less than half is here: three groups at least are under way."""
    return 0 < 2 * ready < live
