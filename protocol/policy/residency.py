"""How far a client finds the place of a machine to be backed: by light, by anchors, by attestors (clauses M70 to M73).

Nothing here is read from an offer as its own word. Round trips that a client measured itself are its own; those to
anchors are the anchors' signed word, of whom some may lie; a place that an attestor signs for is the attestor's word.
Light contradicts them all: where a round trip was too short for the place, what others sign is worth nothing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from protocol.errors import PeerError
from protocol.geography.distances import least_m, reach_m
from protocol.geography.jurisdictions import is_in, is_place
from protocol.identity.ids import Address, keccak256
from protocol.identity.signing import open_envelope
from protocol.market.offer import CLOCK_SKEW_S, Evidence, Offer, Statement
from protocol.policy.trust import Trust

__all__ = [
    "NOT_BACKED",
    "PLACE_CLAIM",
    "RTT_CLAIM",
    "Backing",
    "Ground",
    "Said",
    "backing_of",
    "places_of",
    "said_of",
]

PLACE_CLAIM = "place"
"""Of a statement by an attestor: its value is a country, or a part of one."""
RTT_CLAIM = "rtt"
"""Of a statement by an anchor: its value is microseconds, a decimal number."""
OWN_SLACK_M = 25_000
"""How far a client may be from where it says that it stands."""
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")


class Ground(StrEnum):
    """What evidence rests on."""

    ATTESTORS = "attestors"
    """Statements of attestors, in the offer."""
    ANCHORS = "anchors"
    """Statements of anchors, in the offer."""
    CLIENT = "client"
    """A round trip that the client says it has measured."""


@dataclass(frozen=True, slots=True)
class Backing:
    """What a client has found of a place."""

    evidence: Evidence
    grounds: tuple[Ground, ...] = ()
    """What it rests on; empty where it is the operator's word."""
    disproved: str = ""
    """For people, where light contradicts the place; empty elsewhere."""


NOT_BACKED = Backing(Evidence.CLAIMED)


@dataclass(frozen=True, slots=True)
class Said:
    """A statement, opened."""

    statement: Statement
    signer: Address
    hash: bytes
    """Keccak-256 of it as it is sealed: what a revocation names."""


@functools.lru_cache(maxsize=16_384)
def _opened(sealed: bytes) -> Said | None:
    try:
        statement, signer = open_envelope(sealed, Statement)
    except PeerError:
        return None
    return Said(statement, signer, keccak256(sealed))


def said_of(offer: Offer) -> tuple[Said, ...]:
    """What others have signed about the node of an offer."""
    opened = (_opened(sealed) for sealed in offer.statements)
    return tuple(each for each in opened if each is not None and each.statement.subject == offer.public_key)


def places_of(offer: Offer) -> tuple[str, ...]:
    """Everywhere that machines of an offer stand: countries, or parts of them where that is said."""
    return (offer.region or offer.jurisdiction, *offer.places)


def backing_of(
    places: Sequence[str],
    said: Sequence[Said],
    trust: Trust,
    *,
    now: int,
    until: int,
    revoked: frozenset[tuple[bytes, bytes]] = frozenset(),
    own_us: int | None = None,
) -> Backing:
    """How far the places of one offer are backed.

    Args:
        places: of the offer, as finely as it matters: a country stands for any place in it.
        said: statements about its node.
        now: unix seconds; nothing counts that was signed later.
        until: unix seconds; nothing counts that ends before.
        revoked: signer and hash of statements that their own signers took back.
        own_us: a round trip that the client measured; None where it has not.
    """
    lasting = [
        each
        for each in said
        if each.statement.issued_at <= now + CLOCK_SKEW_S
        and each.statement.expires_at >= until
        and (each.signer, each.hash) not in revoked
    ]
    timed = _Timed(lasting, trust, own_us)
    # Which of several machines was timed nobody knows: it has to be able to stand in one of the places at least.
    lies = [timed.lie(place) for place in places]
    if all(lies):
        return Backing(Evidence.CLAIMED, disproved=lies[0])
    if all(_attested(place, lasting, trust) for place in places):
        return Backing(Evidence.ATTESTED, (Ground.ATTESTORS,))
    return timed.backing(places[0]) if len(places) == 1 else NOT_BACKED


def _attested(place: str, said: Sequence[Said], trust: Trust) -> bool:
    return any(
        each.statement.claim == PLACE_CLAIM
        and each.signer in trust.attestors
        and is_place(each.statement.value)
        and is_in(each.statement.value, place)
        for each in said
    )


class _Timed:
    """What round trips say: the client's own, and the shortest that each anchor has signed for."""

    def __init__(self, said: Sequence[Said], trust: Trust, own_us: int | None) -> None:
        self._trust = trust
        self._own_us = None if trust.stands is None else own_us
        shortest: dict[bytes, int] = {}
        for each in said:
            value = each.statement.value
            if each.statement.claim == RTT_CLAIM and _NUMBER.fullmatch(value):
                shortest[each.signer] = min(int(value), shortest.get(each.signer, int(value)))
        self._anchors = [(each, shortest[each.signer]) for each in trust.anchors if each.signer in shortest]

    def lie(self, place: str) -> str:
        """Why the machine cannot stand there, for people; empty where it can."""
        if self._own_us is not None and self._trust.stands is not None:
            away = max(0, least_m(place, self._trust.stands) - OWN_SLACK_M)
            if away > reach_m(self._own_us):
                return _faster(place, away, self._own_us, "you")
        against = [(each, us) for each, us in self._anchors if least_m(place, each.at) > reach_m(us)]
        if len(against) > self._trust.lying:
            each, us = against[0]
            return _faster(place, least_m(place, each.at), us, f"{len(against)} anchors, such as one in {each.place},")
        return ""

    def backing(self, place: str) -> Backing:
        """Of a place that no round trip contradicts."""
        inside = [each for each, us in self._anchors if is_in(each.place, place) and reach_m(us) <= each.inside_m]
        if len(inside) > self._trust.lying:
            return Backing(Evidence.RTT_PROVEN, (Ground.ANCHORS,))
        heard = [each for each, us in self._anchors if least_m(place, each.at) <= reach_m(us)]
        if len(heard) > self._trust.lying:
            return Backing(Evidence.RTT_CONSISTENT, (Ground.ANCHORS,))
        if self._own_us is not None:
            return Backing(Evidence.RTT_CONSISTENT, (Ground.CLIENT,))
        return NOT_BACKED


def _faster(place: str, away_m: int, us: int, who: str) -> str:
    return (
        f"it cannot be in {place}: that is {away_m // 1000} km and more from where {who} measured "
        f"{us / 1000:g} ms, and light in fibre comes {reach_m(us) // 1000} km in that time"
    )
