"""Whom a client believes about where machines stand: anchors, attestors, and its own clock (market.md, M70 to M73)."""

from __future__ import annotations

from typing import Annotated

from protocol.encoding.codec import Count, Message, Uint, encode, message
from protocol.errors import InvalidError
from protocol.geography.distances import Point
from protocol.geography.jurisdictions import is_place
from protocol.identity.ids import AddressBytes, keccak256
from protocol.policy.corridors import Area

__all__ = ["MAX_TRUSTED", "Anchor", "Trust", "trust_hash"]

MAX_TRUSTED = 64


@message()
class Anchor(Message):
    """A machine whose place is known, and which times others."""

    signer: AddressBytes
    """Of its statements."""
    place: Area
    """The country, or the part of one, that it stands in."""
    at: Point
    """Where it stands."""
    inside_m: Annotated[int, Uint(32, 5_000_000)]
    """Metres from there in which all land is `place`; 0 where that is not known."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        if not is_place(self.place):
            raise InvalidError(f"{self.place!r} is neither a country nor a part of one")


@message("trust/1")
class Trust(Message):
    """Whom a client believes about places. A policy names it by its hash, so that a receipt can be held against it."""

    anchors: Annotated[tuple[Anchor, ...], Count(0, MAX_TRUSTED)]
    """Each with a key of its own."""
    lying: Annotated[int, Uint(8, MAX_TRUSTED)]
    """So many of them may lie."""
    attestors: Annotated[tuple[AddressBytes, ...], Count(0, MAX_TRUSTED)]
    """Who may sign for the place of a machine."""
    stands: Point | None
    """Where the client measures its own round trips from; None where it does not say, and its own count for nothing."""

    def __post_init__(self) -> None:
        Message.__post_init__(self)
        for what, named in (("anchor", [each.signer for each in self.anchors]), ("attestor", self.attestors)):
            if len(set(named)) != len(named):
                raise InvalidError(f"an {what} is named twice")


def trust_hash(trust: Trust) -> bytes:
    """32 bytes that name it in a policy."""
    return keccak256(encode(trust))
