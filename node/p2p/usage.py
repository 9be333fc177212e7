"""What connected peers are here for: whom a host would miss, and whom not."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

from node.p2p.places import Use

__all__ = ["Usage"]

_ASKED_S = 60.0
"""A question was asked a short while ago."""
_DELIVERED_S = 600.0
"""Offers are repeated every 30 s, but the others in the mesh may be faster for a while."""
_REMEMBERED = 4096
"""Peers of which the times are kept; the one without use for longest is forgotten."""


class Usage:
    """Takes note of what each peer does. Belongs to the trio thread.

    Args:
        now: seconds of a steady clock.
        listens, in_mesh: whether a peer follows a topic of this host, and whether it is in a mesh of its router.
    """

    def __init__(
        self, now: Callable[[], float], listens: Callable[[Hashable], bool], in_mesh: Callable[[Hashable], bool]
    ) -> None:
        self._now = now
        self._listens = listens
        self._in_mesh = in_mesh
        self._asked: OrderedDict[Hashable, float] = OrderedDict()
        self._delivered: OrderedDict[Hashable, float] = OrderedDict()
        self._served: Counter[Hashable] = Counter()

    @contextmanager
    def serving(self, peer: Hashable) -> Iterator[None]:
        """While a question of this peer is being answered."""
        self._note(self._asked, peer)
        self._served[peer] += 1
        try:
            yield
        finally:
            self._note(self._asked, peer)
            self._served[peer] -= 1
            if not self._served[peer]:
                del self._served[peer]

    def delivered(self, peer: Hashable) -> None:
        """The peer was the first to bring something valid by gossip."""
        self._note(self._delivered, peer)

    def of(self, peer: Hashable) -> tuple[Use, float]:
        """What a peer is of use for, and when it last was; 0 for never."""
        now = self._now()
        asked, delivered = self._asked.get(peer, 0.0), self._delivered.get(peer, 0.0)
        last = max(asked, delivered)
        if peer in self._served:
            return Use.SERVED, last
        if delivered and now - delivered < _DELIVERED_S and self._in_mesh(peer):
            return Use.RELAYING, last
        if asked and now - asked < _ASKED_S:
            return Use.ASKING, last
        return (Use.LISTENING if self._listens(peer) else Use.NONE), last

    def _note(self, times: OrderedDict[Hashable, float], peer: Hashable) -> None:
        times[peer] = self._now()
        times.move_to_end(peer)
        if len(times) > _REMEMBERED:
            times.popitem(last=False)
