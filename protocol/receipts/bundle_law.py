"""The law of the whole path in a receipt: each leg and each hop held against the policy (docs/spec/market.md, M78)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from protocol.encoding.codec import Count, Message, message
from protocol.errors import DishonestError
from protocol.identity.ids import U32, Bytes32
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.offer import Evidence, Offer
from protocol.policy.denials import open_denials
from protocol.policy.law import Law
from protocol.policy.policy import Known, Needs, backing_under, excluded
from protocol.policy.residency import Ground, places_of
from protocol.policy.trust import Trust
from protocol.routing.routes import MAX_LEGS
from protocol.session.messages import Session, session_id
from protocol.session.terms import Reroute, Terms, route_at

__all__ = ["LegLaw", "RoundTrips", "check_hops", "judged", "law_behind", "open_round_trips", "seal_round_trips"]


@message("round-trips/1")
class RoundTrips(Message):
    """How far away a client says that its legs were, sealed with its key."""

    session: Bytes32
    """Session id."""
    us: Annotated[tuple[U32, ...], Count(1, MAX_LEGS)]
    """By leg, microseconds there and back; 0 where it has not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegLaw:
    """What a receipt shows of where a leg stands."""

    places: tuple[str, ...]
    """Countries or parts of them, as its offer says."""
    evidence: Evidence
    """How far they are backed by what is in the receipt."""
    grounds: tuple[Ground, ...]
    """What that rests on; empty where it is the operator's word."""


def seal_round_trips(session: Session, measured: Sequence[int | None], key: SigningKey) -> bytes | None:
    """The client's word on its round trips; None where it has measured none."""
    if not any(measured):
        return None
    return seal(RoundTrips(session=session_id(session), us=tuple(us or 0 for us in measured)), key)


def open_round_trips(sealed: bytes | None, session: Session) -> tuple[int | None, ...]:
    """By leg. Raises MalformedError, SignatureError, or DishonestError for those of another session."""
    if sealed is None:
        return (None,) * len(session.legs)
    found, signer = open_envelope(sealed, RoundTrips)
    _require(signer == session.client, "the round trips are not sealed by the session's client")
    _require(found.session == session_id(session), "the round trips are of another session")
    _require(len(found.us) == len(session.legs), "a round trip to each leg, or none")
    return tuple(us or None for us in found.us)


def law_behind(terms: Terms, session: Session, trust: Trust | None, lists: Sequence[bytes]) -> Law:
    """What the hashes in the policy stand for. Raises DishonestError where it is something else."""
    law = Law(trust=trust, lists=tuple(open_denials(each) for each in lists), until=session.expiry)
    _require(law.trust_hash == terms.policy.trust, "the policy believes somebody else than the receipt says")
    _require(tuple(each.hash for each in law.lists) == terms.policy.lists, "the policy names other lists")
    return law


def judged(leg: int, offer: Offer, terms: Terms, needs: Needs, own_us: int | None) -> LegLaw:
    """Hold a leg's offer against the policy; its place and what backs it. Raises DishonestError.

    Its stake, and whether it had a place, are what the client knew.
    """
    policy, now = terms.policy, offer.issued_at
    known = Known(stake=policy.min_stake, has_place=True, round_trip_us=own_us)
    reason = excluded(policy, offer, model=terms.model, venue=terms.venue, now=now, needs=needs, known=known)
    _require(reason is None, f"the policy does not admit leg {leg}: {'' if reason is None else reason.sentence}")
    backing = backing_under(policy, offer, known, needs.law, now)
    return LegLaw(places=places_of(offer), evidence=backing.evidence, grounds=backing.grounds)


def check_hops(terms: Terms, session: Session, offers: Sequence[Offer], reroutes: Sequence[Reroute]) -> None:
    """That data went lawfully from leg to leg, on the first route and on each later one. Raises DishonestError."""
    for route in (route_at(terms, (), 0), *(each.route for each in reroutes)):
        legs = [seat.leg for seat in route]
        hop = terms.policy.unlawful_hop([places_of(offers[leg]) for leg in legs], session.expiry)
        if hop is not None:
            raise DishonestError(f"the policy does not let data go from leg {legs[hop[0]]} to leg {legs[hop[1]]}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DishonestError(otherwise)
