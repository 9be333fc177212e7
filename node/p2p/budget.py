"""Memory for what is being received, over all links together."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

__all__ = ["RECEIVE_BYTES", "SMALL_BYTES", "STRANGERS_BYTES", "ReceiveBudget", "StrangerRoom"]

RECEIVE_BYTES = 256 * 1024 * 1024
"""Payload bytes of large frames that are on their way in at one time: four of the longest that there are."""
SMALL_BYTES = 64 * 1024
"""A frame up to this waits for nobody; how many there can be is bounded by how many links there are."""
STRANGERS_BYTES = 8 * 1024 * 1024
"""Payload bytes of strangers' orders that are on their way in at one time: 128 of the longest."""


class StrangerRoom:
    """Bytes of frames that those without a session send; the slowest gives way to the newest."""

    def __init__(self, size: int = STRANGERS_BYTES) -> None:
        self._size = size
        self._held = 0
        self._guests: OrderedDict[Hashable, tuple[int, Callable[[], None]]] = OrderedDict()

    def enter(self, guest: Hashable, size: int, end: Callable[[], None]) -> None:
        """A frame of so many bytes begins; `end` is called should it have to give way before `leave`."""
        self.leave(guest)
        while self._guests and self._held + size > self._size:
            _, (bytes_held, end_oldest) = self._guests.popitem(last=False)
            self._held -= bytes_held
            end_oldest()
        self._guests[guest] = size, end
        self._held += size

    def leave(self, guest: Hashable) -> None:
        """It has come, or its link has ended; unknown guests are ignored."""
        held = self._guests.pop(guest, None)
        if held is not None:
            self._held -= held[0]


class ReceiveBudget:
    """Hands out bytes to frames in the order in which they came, and to one large frame of a peer at a time.

    So a peer with many links cannot take it all, and frames behind a peer's second one do not wait for its first.
    """

    def __init__(self, size: int = RECEIVE_BYTES) -> None:
        self._size = size
        self._free = size
        self.strangers = StrangerRoom()
        """For those whose frames are bounded apart from all others'."""
        self._holders: set[bytes] = set()
        self._waiting: deque[tuple[bytes, int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    async def take(self, peer: bytes, size: int) -> None:
        """Hold so many bytes for a peer until `give`; at most all there are. A cancelled call holds nothing."""
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((peer, size, granted))
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._waiting.remove((peer, size, granted))
                self._grant()
            else:
                self.give(peer, size)
            raise

    def give(self, peer: bytes, size: int) -> None:
        """Give back what was taken."""
        self._free += min(size, self._size)
        self._holders.discard(peer)
        self._grant()

    def _grant(self) -> None:
        passed: deque[tuple[bytes, int, asyncio.Future[None]]] = deque()
        while self._waiting:
            peer, size, granted = self._waiting[0]
            if peer not in self._holders and not granted.done():
                if min(size, self._size) > self._free:
                    break  # those behind it may be smaller, and would keep it waiting for ever
                self._free -= min(size, self._size)
                self._holders.add(peer)
                granted.set_result(None)
                self._waiting.popleft()
            else:
                passed.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(passed))
