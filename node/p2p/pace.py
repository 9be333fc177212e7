"""How often: token buckets, for what one sends and for what others may ask."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Pace", "Paces"]

K = TypeVar("K", bound=Hashable)


class Pace:
    """A token bucket: `rate` a second in the long run, `burst` at once. Times are seconds of any steady clock."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take one token, on credit if need be; returns how many seconds to wait before acting on it."""
        self._fill(now)
        self._tokens -= 1
        return max(0.0, -self._tokens / self._rate)

    def allows(self, now: float) -> bool:
        """Take one token if there is one."""
        self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Paces(Generic[K]):
    """A bucket for each of those who ask, and never more than `most` of them: the one unused for longest is forgotten.

    A forgotten asker has a full bucket again, so `most` times `burst` bounds what many together get at once.
    """

    def __init__(self, rate: float, burst: int, *, most: int = 4096) -> None:
        self._rate = rate
        self._burst = burst
        self._most = most
        self._paces: OrderedDict[K, Pace] = OrderedDict()

    def __len__(self) -> int:
        return len(self._paces)

    def allows(self, who: K, now: float) -> bool:
        """Whether this one may ask now; counts as asked if so."""
        pace = self._paces.get(who)
        if pace is None:
            pace = self._paces[who] = Pace(self._rate, self._burst, now)
            if len(self._paces) > self._most:
                self._paces.popitem(last=False)
        self._paces.move_to_end(who)
        return pace.allows(now)
