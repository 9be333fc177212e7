"""The signed job order, and what a provider answers: the promise that starts work, or a reasoned refusal.

`check_order` holds every rule that needs no I/O. The node still owes the rest: is there room, has it seen the session
before, and does what it offered suit it.
"""

from __future__ import annotations

import functools
from typing import Annotated

from protocol.encoding.codec import Message, Size, TextSize, Uint, message
from protocol.errors import DishonestError, ExpiredError, MalformedError, RefusedError, SignatureError
from protocol.identity.eip712 import Domain
from protocol.identity.ids import U40, Address, Bytes32, ModelManifest, Name, SignatureBytes, Tokens, keccak256
from protocol.identity.signing import open_envelope
from protocol.market.admission import MAX_RETRY_S
from protocol.market.offer import CLOCK_SKEW_S, MAX_SEALED_OFFER, Offer, check_offer
from protocol.market.rates import share
from protocol.session.messages import LegNumber, Session, SignedVoucher, check_voucher, session_id
from protocol.session.metering import earned, first_stints, most_owed, positions_of, window_end
from protocol.session.terms import LegTerms, Terms, check_terms, terms_hash

__all__ = [
    "MAX_EVIDENCE_BYTES",
    "MAX_ORDER_AGE_S",
    "Acceptance",
    "JobOrder",
    "Refusal",
    "check_acceptance",
    "check_offer_of",
    "check_order",
]

MAX_ORDER_AGE_S = 120
"""An order older than this is refused, so that a recorded one is of no use."""
MAX_EVIDENCE_BYTES = 40 * 1024
"""Of what shows that the session is open, and later that the venue paid."""
_KNOWN_OFFERS = 256
"""The newest that are known to be valid, of at most `MAX_SEALED_OFFER` bytes each."""


@message("order/2")
class JobOrder(Message):
    """What a client asks of one leg, sealed with the client's key."""

    terms: Terms
    """Everything that was agreed; the session holds their hash."""
    session: Session
    """Its hash is the job's name."""
    leg: LegNumber
    """Which leg of the session the receiver is."""
    pay: SignedVoucher
    """The first voucher: it pays this leg's opening charge and the first window at least."""
    opened: Annotated[bytes, Size(1, MAX_EVIDENCE_BYTES)]
    """Evidence that the session is open (`evidence.check_opened`): nobody has to ask the ledger."""
    offer: Annotated[bytes, Size(1, MAX_SEALED_OFFER)]
    """The receiver's own sealed offer, which the terms name."""
    next_offer: Annotated[bytes, Size(0, MAX_SEALED_OFFER)]
    """The sealed offer of the leg after it on the route, which says where to dial it; after the last leg that of the
    first. Empty where the receiver is the only leg, or a standby."""
    issued_at: U40
    """Unix seconds."""


@message("acceptance/2")
class Acceptance(Message):
    """A provider's promise to serve a leg on these terms, sealed with its key."""

    session: Bytes32
    """Session id."""
    leg: LegNumber
    """Index in the session's legs."""
    terms: Bytes32
    """Hash of the terms (`terms.terms_hash`)."""
    cached: Tokens
    """Of the session that this one continues, so many positions are still in its KV."""
    replays: bool
    """Whether it can send again what it sent of these to the leg after it."""
    nonces: Bytes32
    """Anchor of its nonce chain for this job (docs/spec/audit.md, clause F3)."""


@message("refusal/2")
class Refusal(Message):
    """Why a provider will not serve an order, sealed with its key."""

    session: Bytes32
    """Session id."""
    leg: LegNumber
    code: Name
    """Stable, for programs."""
    reason: Annotated[str, TextSize(512)]
    """For people."""
    retry_s: Annotated[int, Uint(16, MAX_RETRY_S)]
    """Seconds after which such an order would be taken, as things are now; 0 where nobody can say."""
    discharge: SignatureBytes | None
    """The leg's signature over a `Discharge` of nothing, so that the client has its reserve back at once; None where
    the session may be ordered here again."""


def check_order(
    order: JobOrder, signer: Address, *, me: bytes, domain: Domain, manifest: ModelManifest, now: int
) -> None:
    """Hold an order against everything that needs no I/O, cheapest first (docs/spec/session.md, clauses O1 to O7).

    Args:
        me: the receiving provider's 33-byte public key.
        domain: of the ledger that the provider settles on.
        manifest: the model that it serves.
        now: unix seconds.

    Raises:
        SignatureError, ExpiredError, MalformedError: the order is not a valid one.
        RefusedError: it is valid, but not for this provider.
    """
    terms, session = order.terms, order.session
    # O1: the session's client signed it.
    if signer != session.client:
        raise SignatureError("the order is not signed by the session's client")
    # O2: it is fresh.
    if not now - MAX_ORDER_AGE_S <= order.issued_at <= now + CLOCK_SKEW_S:
        raise ExpiredError("the order is too old, or dated in the future", hint="compare the clocks of both machines")
    if session.expiry <= now:
        raise ExpiredError("the session has expired")
    # O3: it is for this ledger, this model and this provider.
    if terms.venue != domain.separator:
        raise RefusedError("this provider settles on another ledger", code="venue")
    if terms.model != manifest.root:
        raise RefusedError("this provider serves another model", code="model")
    if order.leg >= len(terms.legs) or terms.legs[order.leg].public_key != me:
        raise RefusedError("this leg is another provider's", code="not-mine")
    # O4: the terms are the session's, and hold together.
    check_terms(terms, session, blocks=manifest.blocks)
    # O5: the plan fits the model and the cap.
    _check_plan(order, manifest)
    # O6: the rates are those that the receiver has offered, in an offer that is still in force.
    check_offer_of(terms.legs[order.leg], order.offer, terms, now=now)
    # O7: the first voucher is one, and pays for opening and the first window.
    _check_first_voucher(order, domain)


def _check_plan(order: JobOrder, manifest: ModelManifest) -> None:
    terms, plan = order.terms, order.terms.plan
    if plan.prompt + plan.most > manifest.max_context:
        raise RefusedError(
            f"{plan.prompt} + {plan.most} tokens do not fit the model's context of {manifest.max_context}",
            code="context",
        )
    if terms.policy.precision != manifest.precision:
        raise RefusedError(f"the model is served in {manifest.precision}", code="precision")
    if (terms.sampling.logprobs or 0) > manifest.vocabulary:
        raise MalformedError(f"log probabilities of more than the model's {manifest.vocabulary} tokens")
    standby = order.leg >= len(terms.route)
    if order.session.legs[order.leg].cap < most_owed(terms.legs[order.leg], plan, standby=standby):
        raise RefusedError("the session's cap does not pay for the whole order", code="cap")


def check_offer_of(leg: LegTerms, sealed: bytes, terms: Terms, *, now: int | None) -> Offer:
    """The offer that a leg's terms come from (docs/spec/session.md, clause O6).

    Args:
        now: unix seconds; None where it is enough that the offer once was in force, as for a receipt.

    Raises:
        MalformedError, SignatureError: not a valid offer (clauses M1 to M4), or not sealed by the leg's provider.
        ExpiredError: it ended before `now`.
        DishonestError: the terms say something else than it does.
    """
    if keccak256(sealed) != leg.offer:
        raise DishonestError("the terms name another offer")
    offer = _offer_by(leg.public_key, sealed)
    if offer.expires_at != leg.offer_expires_at:
        raise DishonestError("the offer ends at another time than the terms say")
    if now is not None and offer.expires_at <= now:
        raise ExpiredError("the offer has expired", hint="order anew with the provider's newest offer")
    if now is not None and offer.issued_at > now + CLOCK_SKEW_S:
        raise ExpiredError("the offer is dated in the future", hint="compare the clocks of both machines")
    if offer.venue != terms.venue or offer.model != terms.model or terms.activations not in offer.activations:
        raise DishonestError("the offer is for another ledger, model or number format")
    if not (offer.span.start <= leg.span.start and leg.span.end <= offer.span.end):
        raise DishonestError(f"the offer is for blocks {offer.span}, not {leg.span}")
    grammar = None if terms.sampling.shaping is None else terms.sampling.shaping.grammar
    if grammar is not None and leg.span.end == terms.route[-1].span.end and offer.masks != grammar.masks:
        raise DishonestError("the offer is not for answers that are held to a grammar by these masks")
    if leg.rates != share(offer.rates, len(leg.span), len(offer.span)):
        raise DishonestError("the rates are not those of the offer")
    return offer


@functools.lru_cache(maxsize=_KNOWN_OFFERS)
def _offer_by(public_key: bytes, sealed: bytes) -> Offer:
    """A provider's offer, valid when it was issued: it comes with every order for it and its neighbours."""
    offer, signer = open_envelope(sealed, Offer)
    if offer.public_key != public_key:
        raise DishonestError("the offer is another provider's")
    check_offer(offer, signer, offer.issued_at)
    return offer


def _check_first_voucher(order: JobOrder, domain: Domain) -> None:
    check_voucher(domain, order.session, order.pay)
    voucher, plan = order.pay.voucher, order.terms.plan
    if voucher.tokens_in > plan.prompt or voucher.tokens_out > plan.most:
        raise MalformedError("the voucher pays for more tokens than were ordered")
    positions, first = positions_of(plan, voucher.tokens_in, voucher.tokens_out), window_end(plan, 0)
    if positions < first:
        raise RefusedError(f"the first voucher pays for {positions} of the first {first} positions", code="unpaid")
    stint = first_stints(order.terms)[order.leg]
    if voucher.amounts[order.leg] < earned(order.terms, order.session, order.leg, stint, positions):
        raise RefusedError(
            "the first voucher does not pay the opening charge and the tokens that it names", code="unpaid"
        )


def check_acceptance(sealed: bytes, session: Session, terms: Terms, leg: int) -> Acceptance:
    """A leg's promise (docs/spec/session.md, clause O9).

    Raises:
        MalformedError, SignatureError: not an acceptance, or not sealed by the leg's provider.
        DishonestError: of another session, leg or terms, or with more cached than there is.
    """
    acceptance, signer = open_envelope(sealed, Acceptance)
    if signer != session.legs[leg].provider:
        raise SignatureError(f"the acceptance of leg {leg} is not sealed by its provider")
    _require_of(acceptance, session, terms, leg)
    return acceptance


def _require_of(acceptance: Acceptance, session: Session, terms: Terms, leg: int) -> None:
    expected = (session_id(session), leg, terms_hash(terms))
    if (acceptance.session, acceptance.leg, acceptance.terms) != expected:
        raise DishonestError(f"the acceptance of leg {leg} is for another session, leg or terms")
    most = 0 if terms.continues is None else terms.continues.positions
    if acceptance.cached > most:
        raise DishonestError(f"leg {leg} says that it holds more positions than the session continues")
