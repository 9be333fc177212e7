"""The place of a leg on the route of its session, which reroutes change: its neighbours, and who may send it what."""

from __future__ import annotations

from node.pipeline.serving.flow import Ends
from protocol.codec import Message
from protocol.frames import Sampled, Step
from protocol.ids import BlockSpan
from protocol.order import JobOrder
from protocol.signing import address_of_public_key
from protocol.terms import Reroute, route_at

__all__ = ["OnRoute"]


class OnRoute:
    """One leg of a session; `route` and `reroutes` change together."""

    def __init__(self, order: JobOrder) -> None:
        self.order = order
        self.terms = order.terms
        self.reroutes: tuple[Reroute, ...] = ()
        """All that are in force, in order."""
        self.route = route_at(order.terms, (), 0)
        """Who serves now, first block to last."""

    @property
    def leg(self) -> int:
        """Index in the session."""
        return self.order.leg

    @property
    def place(self) -> int | None:
        """Its place on the route; None for a standby that is not called."""
        return next((at for at, each in enumerate(self.route) if each.leg == self.leg), None)

    @property
    def span(self) -> BlockSpan:
        """The blocks that it runs, or would."""
        place = self.place
        return self.terms.legs[self.leg].span if place is None else self.route[place].span

    @property
    def ends(self) -> Ends:
        """Which ends of the model it has."""
        return Ends(first=self.is_first, last=self.is_last)

    @property
    def is_first(self) -> bool:
        """Whether token ids, not activations, enter this leg."""
        return self.route[0].leg == self.leg

    @property
    def is_last(self) -> bool:
        """Whether this leg draws the tokens."""
        return self.route[-1].leg == self.leg

    def key_at(self, place: int) -> bytes:
        """Public key of the leg at a place on the route, counted around the ring."""
        return self.terms.legs[self.route[place % len(self.route)].leg].public_key

    def may_send(self, kind: type[Message], sender: bytes) -> bool:
        """Whether the peer with this public key has the part that sends such frames (session.md, clause D1)."""
        place = self.place
        if kind is Step:
            return bool(place) and sender == self.key_at((place or 0) - 1)
        if kind is Sampled:
            return place == 0 and len(self.route) > 1 and sender == self.key_at(-1)
        return address_of_public_key(sender) == self.order.session.client

    def had_part(self, sender: bytes) -> bool:
        """Whether it is a leg of the session at all: what it sends on an older route is void, and no offence."""
        return any(leg.public_key == sender for leg in self.terms.legs)
