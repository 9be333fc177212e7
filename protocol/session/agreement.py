"""From a route to what is agreed: terms, the session that names them, and the orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocol.errors import RoutingError
from protocol.identity.ids import Address, ModelManifest, keccak256
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import Offer
from protocol.market.rates import share
from protocol.models.activations import ActivationType
from protocol.policy.policy import Policy
from protocol.reputation.standing import Deed, Standing, Tally, granted_credit
from protocol.routing.routes import RouteLeg
from protocol.session.messages import Leg, Session, SignedVoucher
from protocol.session.metering import most_owed
from protocol.session.order import JobOrder
from protocol.session.terms import Continuation, LegTerms, Plan, SamplingTerms, Speculation, Terms, terms_hash

__all__ = [
    "FLIGHTS",
    "Chosen",
    "Paid",
    "common_activations",
    "common_credit",
    "common_speculation",
    "make_orders",
    "make_session",
    "make_terms",
    "paid_nobody",
]

Paid = Callable[[Address], int]
"""Micro-units that this client has paid a provider, as far as it remembers."""
FLIGHTS = 8
"""Passes with drafts that are under way at once at most: a leg may compute so many times the depth ahead of its pay."""
CREDIT_CLAIMED = 2
"""A client asks for the credit of half of what it remembers: a provider may have forgotten a day that it has not."""


def paid_nobody(_provider: Address) -> int:
    """Of a client that asks for no more than anybody gets."""
    return 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """One leg of a route, with the offer as its provider sealed it."""

    leg: RouteLeg
    sealed: bytes


def common_activations(offers: Sequence[Offer]) -> ActivationType:
    """The number format that the first of these offers likes best among those that all of them take.

    Raises RoutingError where there is none.
    """
    for kind in offers[0].activations:
        if all(kind in offer.activations for offer in offers):
            return kind
    raise RoutingError("the providers on this route have no number format in common", code="activations")


def common_credit(legs: Sequence[Chosen], plan: Plan, paid: Paid = paid_nobody) -> int:
    """Generated tokens that every leg can be expected to serve this client before they are paid (clause M12).

    A leg that refuses it (code ``credit``) is asked again as by a client that has paid nobody.
    """
    return min(_credit_of(chosen.leg, plan, paid) for chosen in legs)


def _credit_of(leg: RouteLeg, plan: Plan, paid: Paid) -> int:
    offer = leg.offer
    amount = paid(address_of_public_key(offer.public_key)) // CREDIT_CLAIMED
    price_out = share(offer.rates, len(leg.span), len(offer.span)).price_out
    standing = Standing({Deed.PAID: Tally(count=1, amount=amount)})
    return granted_credit(standing, price_out=price_out, window=plan.window, least=offer.limits.credit)


def common_speculation(offers: Sequence[Offer]) -> Speculation:
    """How far the first leg may draft ahead: as deep as every leg verifies."""
    depth = min(offer.limits.draft_depth for offer in offers)
    return Speculation(depth=depth, flights=FLIGHTS if depth else 0)


def make_terms(
    route: Sequence[Chosen],
    *,
    manifest: ModelManifest,
    venue: bytes,
    policy: Policy,
    plan: Plan,
    sampling: SamplingTerms,
    nonces: bytes,
    standbys: Sequence[Chosen] = (),
    continues: Continuation | None = None,
    paid: Paid = paid_nobody,
    drafts: bool = True,
) -> Terms:
    """The terms of a job over a route, at the rates of its offers.

    Args:
        venue: domain separator of the ledger.
        nonces: anchor of the client's nonce chain.
        paid: what the client has paid each provider before, for credit.
        drafts: whether the first leg may draft ahead, where all legs verify.

    Raises RoutingError where the legs have no number format in common.
    """
    everybody = (*route, *standbys)
    offers = [chosen.leg.offer for chosen in everybody]
    return Terms(
        venue=venue,
        model=manifest.root,
        policy=policy,
        route=tuple(map(_leg_terms, route)),
        standbys=tuple(map(_leg_terms, standbys)),
        plan=plan,
        sampling=sampling,
        activations=common_activations(offers),
        credit=common_credit(everybody, plan, paid),
        speculation=common_speculation(offers) if drafts else Speculation(depth=0, flights=0),
        nonces=nonces,
        continues=continues,
    )


def _leg_terms(chosen: Chosen) -> LegTerms:
    offer, span = chosen.leg.offer, chosen.leg.span
    return LegTerms(
        public_key=offer.public_key,
        span=span,
        rates=share(offer.rates, len(span), len(offer.span)),
        offer=keccak256(chosen.sealed),
        offer_expires_at=offer.expires_at,
    )


def make_session(terms: Terms, *, client: bytes, expiry: int, salt: bytes) -> Session:
    """The session on these terms, with caps that pay for the whole plan."""
    legs = tuple(
        Leg(
            provider=address_of_public_key(leg.public_key),
            cap=most_owed(leg, terms.plan, standby=index >= len(terms.route)),
        )
        for index, leg in enumerate(terms.legs)
    )
    return Session(client=client, expiry=expiry, terms=terms_hash(terms), salt=salt, legs=legs)


def make_orders(
    terms: Terms, session: Session, *, pay: SignedVoucher, opened: bytes, offers: Sequence[bytes], issued_at: int
) -> tuple[JobOrder, ...]:
    """One order for each leg of the session.

    Args:
        pay: the first voucher (`tab.first_voucher`).
        opened: evidence that the session is open.
        offers: sealed, by leg.
    """
    route = len(terms.route)
    return tuple(
        JobOrder(
            terms=terms,
            session=session,
            leg=leg,
            pay=pay,
            opened=opened,
            offer=offers[leg],
            next_offer=offers[(leg + 1) % route] if leg < route and route > 1 else b"",
            issued_at=issued_at,
        )
        for leg in range(len(session.legs))
    )
