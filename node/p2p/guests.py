"""What peers may hold of a host while they ask: streams, bytes of unfinished questions, places to be answered.

A peer that asks has nothing at risk, so each of these has a bound, one for a single peer and one for all. Where the
bound for all is met, whoever has been at it for longest gives way: it is the slow who fill such places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from node.p2p.pace import Paces
from protocol.errors import LostPeerError, RefusedError

__all__ = ["Room", "Stay", "StreamCount"]

_STREAMS_PER_S = 40.0
"""New streams a second of one peer: twice what it may ask on one protocol."""
_STREAMS_AT_ONCE = 200


class StreamCount:
    """Streams that peers have opened.

    Args:
        of_peer: that one peer may have open.
        crowded: streams of all, beyond which one peer may have only `of_peer_then`.
    """

    def __init__(self, *, of_peer: int = 64, crowded: int = 1024, of_peer_then: int = 8) -> None:
        self._of_peer = of_peer
        self._crowded = crowded
        self._of_peer_then = of_peer_then
        self._open: Counter[Hashable] = Counter()
        self._paces = Paces[Hashable](_STREAMS_PER_S, _STREAMS_AT_ONCE)

    @contextmanager
    def opened(self, peer: Hashable) -> Iterator[bool]:
        """While a stream is open; whether it may be."""
        most = self._of_peer if self._open.total() < self._crowded else self._of_peer_then
        if self._open[peer] >= most or not self._paces.allows(peer, trio.current_time()):
            yield False
            return
        self._open[peer] += 1
        try:
            yield True
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]


@dataclass(slots=True, eq=False)
class Stay:
    """One stay in a `Room`."""

    peer: Hashable
    size: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    gives_way: bool = True
    """Whether the peer is what is waited for; if not, nobody may end it."""


class Room:
    """So much at a time, shared by all peers.

    Args:
        size: for all together.
        of_peer: for one.
    """

    def __init__(self, size: int, of_peer: int) -> None:
        self._size = size
        self._of_peer = of_peer
        self._stays: dict[Stay, None] = {}

    @contextmanager
    def stay(self, peer: Hashable, size: int = 1, *, gives_way: bool = True) -> Iterator[Stay]:
        """While `size` of the room is taken; the oldest stay that gives way ends where there is no room.

        Raises:
            RefusedError: this peer has too much of it, or nobody else gives way (code ``busy``).
            LostPeerError: the stay was ended in favour of another.
        """
        if sum(each.size for each in self._stays if each.peer == peer) + size > self._of_peer:
            raise RefusedError("too many requests at once", code="busy")
        while sum(each.size for each in self._stays) + size > self._size:
            oldest = next((each for each in self._stays if each.gives_way), None)
            if oldest is None:
                raise RefusedError("too many requests at once", code="busy")
            del self._stays[oldest]
            oldest.scope.cancel()
        stay = Stay(peer, size, gives_way=gives_way)
        self._stays[stay] = None
        try:
            with stay.scope:
                yield stay
        finally:
            self._stays.pop(stay, None)
        if stay.scope.cancelled_caught:
            raise LostPeerError("gave way to others, after taking longest")
