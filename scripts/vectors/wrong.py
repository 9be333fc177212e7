"""What breaks one clause each, beside the valid example that it was made from: offers, orders, answers, vouchers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from protocol.encoding.codec import Message, encode
from protocol.energy.tariff import MAX_PRICE
from protocol.identity.ids import MAX_BLOCKS, BlockSpan
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.offer import Offer
from protocol.session.agreement import make_session
from protocol.session.frames import Discharged
from protocol.session.messages import (
    Discharge,
    Leg,
    Session,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.session.order import Acceptance, JobOrder
from protocol.session.tab import first_voucher
from protocol.session.terms import Terms, terms_hash
from protocol.settlement.operations import Open
from scripts.vectors.log import new_log
from scripts.vectors.parties import CLIENT, DOMAIN, NOW, PROVIDERS, STRANGER
from scripts.vectors.wrong_bundles import wrong_bundles

if TYPE_CHECKING:
    from scripts.vectors.job import ExampleJob

__all__ = ["wrong"]

Json = dict[str, Any]
"""`name`, `clause`, `check` and what that check takes; docs/spec/index.md says what each check is."""
OTHER = b"\x99" * 32
M = TypeVar("M", bound=Message)


def wrong(jobs: Sequence[ExampleJob]) -> list[Json]:
    """All of them, made from the job of two legs."""
    job = jobs[0]
    return [*_offers(job), *_orders(job), *_acceptances(job), *_vouchers(job), *_discharges(job), *wrong_bundles(job)]


def _beyond(value: M, **changes: object) -> M:
    """A copy with fields that nobody could build: beyond their bounds."""
    copy = value.replace()
    for name, wrong in changes.items():
        object.__setattr__(copy, name, wrong)
    return copy


def _offers(job: ExampleJob) -> Iterator[Json]:
    offer, _ = open_envelope(job.offers[0], Offer)
    energy = offer.energy
    if energy is None:
        raise ValueError("the example offers say what a token takes")

    def one(name: str, clause: str, now: int = NOW, key: SigningKey = PROVIDERS[0], **changes: object) -> Json:
        sealed = seal(_beyond(offer, **changes), key)
        return {"name": name, "clause": clause, "check": "offer", "sealed": sealed.hex(), "now": now}

    yield one("an offer that has ended", "M1", now=offer.expires_at)
    yield one("an offer dated 61 s ahead", "M1", issued_at=NOW + 61)
    yield one("an offer that lasts 901 s", "M1", issued_at=NOW - 300, expires_at=NOW + 601)
    yield one("an offer of a block that the model does not have", "M2", span=BlockSpan(start=0, end=7))
    yield one("an offer from no country", "M2", jurisdiction="QQ", region="")
    yield one("an offer from a region of another country", "M2", region="DE-BE")
    elsewhere = (offer.addresses[0].replace("192.0.2.1", "0.0.0.0"),)  # noqa: S104 - nobody binds to it
    yield one("an offer with an address of no machine", "M2", addresses=elsewhere)
    another = open_envelope(job.offers[1], Offer)[0].addresses
    yield one("an offer with the address of another node", "M2", addresses=another)
    yield one("an offer of a model with too many blocks", "M2", blocks=MAX_BLOCKS + 1)
    yield one("an offer with a data address that cannot be dialled", "M2", data_addresses=("/ip4/192.0.2.1/tcp/4002",))
    yield one("an offer above the greatest price", "M3", rates=_beyond(offer.rates, price_out=MAX_PRICE + 1))
    yield one("an offer that is late by its own figures", "M3", late_us=offer.position_us - 1)
    yield one("an offer of tokens that take no energy", "M3", energy=energy.replace(millijoules_out=0))
    yield one("an offer with more credit than a window", "M3", limits=offer.limits.replace(credit=17))
    yield one("an offer sealed by another node", "M4", key=PROVIDERS[1])


# Orders


def _order_of(job: ExampleJob, terms: Terms, session: Session, pay: SignedVoucher | None = None) -> JobOrder:
    """The first leg's order for a session that is opened on a ledger of its own."""
    log = new_log()
    opening = Open(actor=CLIENT.address, nonce=log.next_nonce(CLIENT), session=session, signature=b"")
    opened = log.prove(log.do(CLIENT, opening, now=NOW))
    first = pay or sign_voucher(DOMAIN, first_voucher(session, terms), CLIENT)
    return job.orders[0].replace(terms=terms, session=session, pay=first, opened=opened)


def _on_terms(job: ExampleJob, **changes: object) -> JobOrder:
    """An order on other terms, which its session names."""
    terms = job.terms.replace(**changes)
    session = make_session(terms, client=CLIENT.address, expiry=job.session.expiry, salt=job.session.salt)
    return _order_of(job, terms, session)


def _orders(job: ExampleJob) -> Iterator[Json]:
    order, terms, plan = job.orders[0], job.terms, job.terms.plan
    first, second = terms.route

    def one(name: str, clause: str, order: JobOrder, *, now: int = NOW, key: SigningKey = CLIENT) -> Json:
        return {
            "name": name,
            "clause": clause,
            "check": "order",
            "leg": 0,
            "sealed": seal(order, key).hex(),
            "now": now,
        }

    yield one("an order sealed by somebody else", "O1", order, key=STRANGER)
    yield one("an order of 121 s ago", "O2", order, now=NOW + 121)
    yield one("an order 61 s ahead", "O2", order, now=NOW - 61)
    yield one("an order on another ledger", "O3", _on_terms(job, venue=OTHER))
    yield one("an order of another model", "O3", _on_terms(job, model=OTHER))
    yield one("an order of another leg", "O3", order.replace(leg=1))
    yield one(
        "terms that the session does not name", "N1", order.replace(terms=terms.replace(continues=None, nonces=OTHER))
    )
    yield one("a session with another provider", "N2", _with_session(job, legs=_legs(job, provider=STRANGER.address)))
    twice = (first, second.replace(public_key=first.public_key))
    yield one("one provider in two places", "N2", _on_terms(job, route=twice))
    gap = (first, second.replace(span=BlockSpan(start=3, end=6)))
    yield one("a route that leaves a block out", "N3", _on_terms(job, route=gap))
    yield one("no window", "N4", _in_old_session(order, plan=plan.replace(window=0)))
    yield one("credit of more than a window", "N4", _on_terms(job, credit=5))
    dear = (first, second.replace(rates=_beyond(second.rates, price_cached=MAX_PRICE + 1)))
    yield one("a rate above the greatest price", "N5", _on_terms(job, route=dear))
    yield one("more tokens than the model attends to", "O5", _on_terms(job, plan=plan.replace(most=60)))
    yield one(
        "a cap that does not pay for the plan",
        "O5",
        _with_session(job, legs=_legs(job, cap=job.session.legs[0].cap - 1)),
    )
    yield one("the offer of another provider", "O6", order.replace(offer=job.offers[1]))
    cheap = (first.replace(rates=first.rates.replace(price_out=1)), second)
    yield one("another rate than the offer's", "O6", _on_terms(job, route=cheap))
    late = NOW + 600
    yield one("an offer that has ended since", "O6", order.replace(issued_at=late), now=late)
    yield from _first_vouchers(job, one)
    yield one("the opening of another session", "O8", order.replace(opened=_on_terms(job, nonces=OTHER).opened))
    yield one("longer windows than were offered", "O10", _on_terms(job, plan=plan.replace(window=17)))
    yield one("more credit than was offered", "O10", _on_terms(job, credit=1))


def _first_vouchers(job: ExampleJob, one: Any) -> Iterator[Json]:
    first = job.orders[0].pay.voucher

    def paying(key: SigningKey = CLIENT, **changes: object) -> JobOrder:
        return job.orders[0].replace(pay=sign_voucher(DOMAIN, first.replace(**changes), key))

    amounts = (first.amounts[0] - 1, *first.amounts[1:])
    yield one("a first voucher of too little", "O7", paying(amounts=amounts))
    yield one("a first voucher for more than was ordered", "O7", paying(tokens_in=6))
    yield one("a first voucher signed by somebody else", "V2", paying(STRANGER))


def _legs(job: ExampleJob, **changes: object) -> tuple[Leg, ...]:
    legs = job.session.legs
    return (legs[0].replace(**changes), *legs[1:])


def _with_session(job: ExampleJob, **changes: object) -> JobOrder:
    return _order_of(job, job.terms, job.session.replace(**changes))


def _in_old_session(order: JobOrder, **changes: object) -> JobOrder:
    """Terms that no session could be made for; the session names them all the same."""
    terms = order.terms.replace(**changes)
    session = order.session.replace(terms=terms_hash(terms))
    pay = order.pay.voucher.replace(session=session_id(session))
    return order.replace(terms=terms, session=session, pay=sign_voucher(DOMAIN, pay, CLIENT))


# Answers, vouchers, discharges


def _acceptances(job: ExampleJob) -> Iterator[Json]:
    acceptance, _ = open_envelope(job.legs[0].acceptance, Acceptance)

    def one(name: str, key: SigningKey = PROVIDERS[0], **changes: object) -> Json:
        sealed = seal(acceptance.replace(**changes), key)
        return {"name": name, "clause": "O9", "check": "acceptance", "leg": 0, "sealed": sealed.hex()}

    yield one("an acceptance by another node", PROVIDERS[1])
    yield one("an acceptance of other terms", terms=OTHER)
    yield one("an acceptance of another leg", leg=1)
    yield one("positions in the KV of a session that continues none", cached=1)


def _vouchers(job: ExampleJob) -> Iterator[Json]:
    second, third = (signed.voucher for signed in job.talk.vouchers[1:3])

    def one(name: str, clause: str, voucher: Voucher, key: SigningKey = CLIENT) -> Json:
        signed = sign_voucher(DOMAIN, voucher, key)
        found = {"name": name, "clause": clause, "check": "voucher", "leg": 1}
        return found | {"before": encode(job.talk.vouchers[1]).hex(), "bytes": encode(signed).hex()}

    yield one("a voucher for another session", "V1", third.replace(session=OTHER))
    yield one("a voucher signed by a leg", "V2", third, PROVIDERS[1])
    yield one("a voucher with an amount for one leg of two", "V3", third.replace(amounts=third.amounts[:1]))
    beyond = (job.session.legs[0].cap + 1, third.amounts[1])
    yield one("a voucher beyond the cap of a leg", "V3", third.replace(amounts=beyond))
    yield one("a voucher for one token more than was ordered", "V4", third.replace(tokens_out=job.terms.plan.most + 1))
    fewer = second.replace(tokens_out=0, tokens_in=second.tokens_in - 1)
    yield one("a voucher for fewer tokens than the one before", "V4", fewer)
    short = (third.amounts[0], third.amounts[1] - 1)
    yield one("a voucher that pays this leg too little", "V5", third.replace(amounts=short))


def _discharges(job: ExampleJob) -> Iterator[Json]:
    good = job.talk.discharges[0].signed.discharge

    def one(name: str, discharge: Discharge, key: SigningKey = PROVIDERS[0]) -> Json:
        signed = sign_discharge(DOMAIN, discharge, key)
        return {"name": name, "clause": "V7", "check": "discharge", "bytes": encode(Discharged(signed=signed)).hex()}

    yield one("a discharge for another session", good.replace(session=OTHER))
    yield one("a discharge for a leg that there is not", good.replace(leg=2))
    yield one("a discharge signed by another leg", good, PROVIDERS[1])
