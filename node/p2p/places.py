"""Who has a place at a host's port, and who gives it up when somebody else needs one. Decisions alone, no sockets.

Nobody is refused because the port is full: the least deserving leaves. Honest and hostile peers may share an address,
so what counts first is what a connection has done. One that has said nothing leaves before one that speaks, and that
before one that has proven a key; among the latter, one without use leaves before one with, and whoever was of no use
for longest leaves first. Addresses count second: where those of an address or a subnet are many, one of them leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import IntEnum

from node.ip_group import subnet_of

__all__ = ["Bounds", "Place", "Places", "Stage", "Use"]

NEW_S = 10.0
"""A peer that came in so recently is not held to be without use."""


UNHEARD_S = 0.2
"""What a connection that is so new has said may not have been read yet."""


class Stage(IntEnum):
    """How far a connection has come."""

    SILENT = 0
    SPEAKING = 1
    AUTHENTIC = 2
    """Its key is proven; a muxer is being agreed on."""
    PROVEN = 3


class Use(IntEnum):
    """What a peer with a proven key is here for, least first."""

    NONE = 0
    LISTENING = 1
    """It has subscribed to a topic that this host follows."""
    NEW = 2
    ASKING = 3
    """It has asked something a short while ago."""
    RELAYING = 4
    """It is in the gossip mesh and was the first to deliver something."""
    SERVED = 5
    """A question of it is being answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Incoming connections at a time."""

    greeting: int = 256
    """That have not proven a key yet; each costs a descriptor and some kilobytes, and is gone within seconds."""
    proven: int = 192
    of_address: int = 128
    """Proven, of one IP address."""
    of_subnet: int = 160
    """Proven, of one IPv4 /24 or IPv6 /48."""
    of_key: int = 4
    useless: int = 32
    """Proven, and of no use (yet): each costs 100 KB, of which the allocator gives little back when they have left."""


@dataclass(slots=True, eq=False)
class Place:
    """One connection's place."""

    address: str
    since: float
    """Seconds of a steady clock."""
    leave: Callable[[], None]
    """Ends the connection soon; called once, when the place is taken from it."""
    stage: Stage = Stage.SILENT
    peer: Hashable = None
    """Whom it belongs to, once proven."""
    subnet: str = ""

    def __post_init__(self) -> None:
        self.subnet = subnet_of(self.address)


class Places:
    """All places of one host.

    Args:
        use: what a peer is of use for, and when it last was (0 for never).
    """

    def __init__(self, bounds: Bounds, use: Callable[[Hashable], tuple[Use, float]]) -> None:
        self._bounds = bounds
        self._use = use
        self._greeting: dict[Place, None] = {}
        self._proven: dict[Place, None] = {}
        self._crowds: Counter[str] = Counter()
        """Connections without a proven key, of each subnet."""

    def __len__(self) -> int:
        return len(self._greeting) + len(self._proven)

    def enter(self, place: Place) -> None:
        """A new connection; another one leaves where there is no room."""
        self._greeting[place] = None
        self._crowds[place.subnet] += 1
        if len(self._greeting) > self._bounds.greeting:
            self._expel(self._least_greeted(place))

    def prove(self, place: Place, peer: Hashable, now: float) -> None:
        """The connection has proven that it is `peer`; others leave where there is no room."""
        if place not in self._greeting:
            return  # it has been sent away meanwhile
        self._leave_greeting(place)
        place.stage, place.peer, place.since = Stage.PROVEN, peer, now
        self._proven[place] = None
        bounds = self._bounds
        for most, alike in (
            (bounds.of_key, lambda each: each.peer == peer),
            (bounds.of_address, lambda each: each.address == place.address),
            (bounds.of_subnet, lambda each: each.subnet == place.subnet),
            (bounds.useless, lambda each: self._use(each.peer)[0] is Use.NONE),
            (bounds.proven, lambda each: True),
        ):
            crowd = [each for each in self._proven if alike(each)]
            if len(crowd) > most:
                self._expel(self._least(crowd, now))

    def leave(self, place: Place) -> None:
        """The connection has ended."""
        if place in self._greeting:
            self._leave_greeting(place)
        self._proven.pop(place, None)

    def dismiss_idle(self, now: float, idle_s: float) -> None:
        """Send away those that have been here, and of no use at all, for so long."""
        for place in tuple(self._proven):
            use, last = self._use(place.peer)
            if use is Use.NONE and now - max(last, place.since) > idle_s:
                self._expel(place)

    def _least_greeted(self, newcomer: Place) -> Place:
        """Looked for at every connection of a flood, so it must be quick."""
        others = [each for each in self._greeting if each is not newcomer]
        heard_by = newcomer.since - UNHEARD_S
        silent = [each for each in others if each.stage is Stage.SILENT and each.since <= heard_by]
        unproven = [each for each in others if each.stage is not Stage.AUTHENTIC]
        return min(silent or unproven or others, key=lambda each: (-self._crowds[each.subnet], each.since))

    def _leave_greeting(self, place: Place) -> None:
        del self._greeting[place]
        self._crowds[place.subnet] -= 1
        if not self._crowds[place.subnet]:
            del self._crowds[place.subnet]

    def _least(self, crowd: Iterable[Place], now: float) -> Place:
        def merit(place: Place) -> tuple[Use, float]:
            use, last = self._use(place.peer)
            if use < Use.NEW and now - place.since < NEW_S:
                use = Use.NEW
            return use, max(last, place.since)

        return min(crowd, key=merit)

    def _expel(self, place: Place) -> None:
        self.leave(place)
        place.leave()
