"""One site's slots in the event engine, and who waits for them, in order of arrival.

Every service time is known when a request joins, and so is the time at which it begins. Whom a site tells to come back
later is judged as a node does, by `protocol.market.admission`.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import deque

from protocol.errors import RefusedError
from protocol.market.admission import Queued, require_soon
from protocol.units import MICRO

__all__ = ["Queue"]


class Queue:
    """Args:
    slots: requests that are served at once.
    most: requests that wait at most; below 0 for any number.
    admit_us: how long the prompts that wait may take before newcomers are refused; 0 for any time.
    rate: prompt tokens a second.
    """

    __slots__ = ("_admit_us", "_ends", "_most", "_rate", "_slots", "_waiting")

    def __init__(self, slots: int, most: int, admit_us: int, rate: int) -> None:
        self._slots, self._most, self._admit_us, self._rate = slots, most, admit_us, rate
        self._ends: list[int] = []
        """When each of the slots that were used comes free."""
        self._waiting: deque[tuple[int, Queued]] = deque()
        """When each of those that wait begins, and whose prompt it is."""

    def free(self, now: int) -> bool:
        """Whether a slot is."""
        return len(self._ends) < self._slots or self._ends[0] <= now

    def wait_us(self, now: int) -> int:
        """How long a newcomer waits."""
        return 0 if self.free(now) else self._ends[0] - now

    def takes(self, now: int, client: str, rows: int) -> bool:
        """Whether one more may wait here."""
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()
        if 0 <= self._most <= len(self._waiting):
            return False
        if not self._admit_us:
            return True
        try:
            require_soon(
                [queued for _, queued in self._waiting],
                Queued(_address(client), True, rows),
                row_us=-(-MICRO // self._rate),
                bound_us=self._admit_us,
            )
        except RefusedError:
            return False
        return True

    def join(self, now: int, service: int, client: str, rows: int) -> int:
        """Take a request; when it begins."""
        if len(self._ends) < self._slots:
            heapq.heappush(self._ends, now + service)
            return now
        start = max(now, self._ends[0])
        heapq.heapreplace(self._ends, start + service)
        if start > now and (self._most >= 0 or self._admit_us):
            self._waiting.append((start, Queued(_address(client), True, rows)))
        return start


def _address(client: str) -> bytes:
    return hashlib.sha256(client.encode()).digest()[:20]
