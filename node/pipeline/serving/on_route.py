"""The place of a leg on the route of its session, which reroutes change: its neighbours, and who may send it what."""

from __future__ import annotations

from node.pipeline.serving.flow import Ends
from protocol.encoding.codec import Message
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import address_of_public_key
from protocol.session.frames import Sampled, Step
from protocol.session.order import JobOrder
from protocol.session.terms import Assignment, Reroute, route_at

__all__ = ["OnRoute"]


class OnRoute:
    """One leg of a session. What follows from its route is asked for with every row, and so found once."""

    route: tuple[Assignment, ...]
    """Who serves now, first block to last."""
    reroutes: tuple[Reroute, ...]
    """All that are in force, in order."""
    place: int | None
    """Its place on the route; None for a standby that is not called."""
    ends: Ends
    """Which ends of the model it has."""

    def __init__(self, order: JobOrder) -> None:
        self.order = order
        self.terms = order.terms
        self.follow((), route_at(order.terms, (), 0))

    def follow(self, reroutes: tuple[Reroute, ...], route: tuple[Assignment, ...]) -> None:
        """These reroutes are in force, and have led to this route."""
        self.reroutes, self.route = reroutes, route
        self.place = next((at for at, each in enumerate(route) if each.leg == self.leg), None)
        self.ends = Ends(first=self.place == 0, last=self.place == len(route) - 1)
        self._sender = {
            Step: self.key_at(self.place - 1) if self.place else None,
            Sampled: self.key_at(-1) if self.place == 0 and len(route) > 1 else None,
        }

    @property
    def leg(self) -> int:
        """Index in the session."""
        return self.order.leg

    @property
    def span(self) -> BlockSpan:
        """The blocks that it runs, or would."""
        return self.terms.legs[self.leg].span if self.place is None else self.route[self.place].span

    @property
    def is_first(self) -> bool:
        """Whether token ids, not activations, enter this leg."""
        return self.ends.first

    @property
    def is_last(self) -> bool:
        """Whether this leg draws the tokens."""
        return self.ends.last

    def key_at(self, place: int) -> bytes:
        """Public key of the leg at a place on the route, counted around the ring."""
        return self.terms.legs[self.route[place % len(self.route)].leg].public_key

    def may_send(self, kind: type[Message], sender: bytes) -> bool:
        """Whether the peer with this public key has the part that sends such frames (session.md, clause D1)."""
        if kind is Step or kind is Sampled:
            return sender == self._sender[kind]
        return address_of_public_key(sender) == self.order.session.client

    def had_part(self, sender: bytes) -> bool:
        """Whether it is a leg of the session at all: what it sends on an older route is void, and no offence."""
        return any(leg.public_key == sender for leg in self.terms.legs)
