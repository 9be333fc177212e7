"""A session whose route changes: who serves which positions, what each leg has earned, and what is refused."""

from __future__ import annotations

from typing import Any

from protocol.encoding.codec import encode
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.offer import Offer
from protocol.models.activations import ActivationType
from protocol.routing.routes import RouteLeg
from protocol.session.agreement import Chosen, make_session, make_terms
from protocol.session.messages import Session, session_id
from protocol.session.metering import owed, stints, work_of
from protocol.session.terms import Assignment, Plan, Reroute, SamplingTerms, Terms, open_reroutes, route_at
from scripts.vectors.parties import BLOCKS, CLIENT, DOMAIN, MANIFEST, NOW, POLICY, STRANGER, sealed_offer

__all__ = ["reroutes"]

Json = dict[str, Any]
POSITIONS = (0, 3, 5, 8, 10, 12, 16)


def reroutes() -> Json:
    """Terms with a standby, the reroutes, and what follows from them."""
    terms, session = _agreed()
    made = _reroutes(session)
    sealed = [seal(each, CLIENT) for each in made]
    found = open_reroutes(sealed, terms, session, blocks=BLOCKS)
    return {
        "terms": encode(terms).hex(),
        "session": encode(session).hex(),
        "sealed": [each.hex() for each in sealed],
        "stints": [{"joined": each.joined, "left": each.left} for each in stints(terms, found)],
        "routes": [
            {
                "position": at,
                "route": [[each.leg, each.span.start, each.span.end] for each in route_at(terms, found, at)],
            }
            for at in POSITIONS
        ],
        "amounts": [{"positions": at, "amounts": _amounts(terms, found, at)} for at in POSITIONS],
        "invalid": _wrong(made),
    }


def _agreed() -> tuple[Terms, Session]:
    offers = [sealed_offer(number, span, activations=ActivationType.FP32) for number, span in enumerate(_SPANS)]
    chosen = []
    for sealed in offers:
        offer, _ = open_envelope(sealed, Offer)
        chosen.append(Chosen(RouteLeg(offer, offer.span, offer.rates.price_in, offer.rates.price_out), sealed))
    terms = make_terms(
        chosen[:2],
        standbys=chosen[2:],
        manifest=MANIFEST,
        venue=DOMAIN.separator,
        policy=POLICY,
        plan=Plan(prompt=5, most=12, chunk=3, window=4),
        sampling=SamplingTerms(temperature_milli=0, seed=0),
        nonces=b"\x08" * 32,
    )
    return terms, make_session(terms, client=CLIENT.address, expiry=NOW + 900, salt=b"\x09" * 32)


_SPANS = ((0, 2), (2, 6), (0, 6))


def _seat(leg: int, start: int, end: int) -> Assignment:
    return Assignment(leg=leg, span=BlockSpan(start=start, end=end))


def _reroutes(session: Session) -> tuple[Reroute, ...]:
    """Leg 1 dies after the window that ends at 8, and its standby takes over; the second one changes nothing."""
    identity = session_id(session)
    route = (_seat(0, 0, 2), _seat(2, 2, 6))
    return (
        Reroute(session=identity, number=1, position=8, route=route),
        Reroute(session=identity, number=2, position=12, route=route),
    )


def _amounts(terms: Terms, found: tuple[Reroute, ...], positions: int) -> list[int]:
    return [
        int(owed(leg.rates, work_of(terms.plan, stint, positions)))
        for leg, stint in zip(terms.legs, stints(terms, found), strict=True)
    ]


def _wrong(made: tuple[Reroute, ...]) -> list[Json]:
    first, second = made

    def one(name: str, *given: Reroute, key: SigningKey = CLIENT) -> Json:
        return {"name": name, "clause": "N6", "sealed": [seal(each, key).hex() for each in given]}

    return [
        one("signed by somebody else", first, key=STRANGER),
        one("of another session", first.replace(session=b"\x99" * 32)),
        one("out of order", second, first),
        one("back behind the one before", first, second.replace(position=4)),
        one("a leg twice", first.replace(route=(_seat(2, 0, 2), _seat(2, 2, 6)))),
        one("a leg that there is not", first.replace(route=(_seat(0, 0, 2), _seat(3, 2, 6)))),
        one("blocks that the leg did not agree to", first.replace(route=(_seat(1, 0, 2), _seat(2, 2, 6)))),
        one("a block left out", first.replace(route=(_seat(0, 0, 2), _seat(2, 3, 6)))),
        one("a leg that was left comes back", first, second.replace(route=(_seat(0, 0, 2), _seat(1, 2, 6)))),
    ]
