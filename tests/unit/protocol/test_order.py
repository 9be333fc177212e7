"""The rules that an order and its answer are held against, each with a valid neighbour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agreed_job import CLIENT, RATES, Agreed, agree, offered
from market_offers import NOW, an_offer, key_of, some_limits, some_rates
from paper_ledger import PaperLedger

from protocol.errors import (
    DishonestError,
    ExpiredError,
    MalformedError,
    PeerError,
    RefusedError,
    RoutingError,
    SignatureError,
)
from protocol.identity.ids import MAX_TOKENS, keccak256
from protocol.identity.signing import SigningKey, address_of_public_key, seal
from protocol.market.offer import CLOCK_SKEW_S
from protocol.models.activations import ActivationType
from protocol.routing.routes import MAX_LEGS, RouteLeg
from protocol.session.agreement import Chosen, common_activations, common_credit, make_orders
from protocol.session.messages import SignedVoucher, sign_voucher
from protocol.session.order import MAX_ORDER_AGE_S, JobOrder, check_acceptance, check_offer_of, check_order
from protocol.session.tab import first_voucher
from protocol.session.terms import Terms, terms_hash
from protocol.settlement.evidence import check_opened

STRANGER = SigningKey(b"\x02" * 32)
AGREED = agree(standbys=((0, 6),))


def orders_of(agreed: Agreed, pay: SignedVoucher | None = None) -> tuple[JobOrder, ...]:
    domain = agreed.ledger.domain
    return make_orders(
        agreed.terms,
        agreed.session,
        pay=pay or sign_voucher(domain, first_voucher(agreed.session, agreed.terms), CLIENT),
        opened=agreed.ledger.evidence(agreed.opened),
        offers=agreed.offers,
        issued_at=NOW,
    )


ORDERS = orders_of(AGREED)


def check(
    agreed: Agreed = AGREED,
    order: JobOrder | None = None,
    *,
    signer: SigningKey = CLIENT,
    me: int = 1,
    now: int = NOW,
    **changes: Any,
) -> None:
    order = (order or orders_of(agreed)[1]).replace(**changes)
    check_order(
        order,
        signer.address,
        me=key_of(me).public_key,
        domain=agreed.ledger.domain,
        manifest=agreed.manifest,
        now=now,
    )


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(RefusedError) as refused:
        call()
    return refused.value.code


def test_a_valid_order_is_taken_by_each_leg_and_standby() -> None:
    for leg, order in enumerate(ORDERS):
        check(order=order, me=leg)


def test_an_order_says_where_the_next_leg_is_dialled() -> None:
    assert [order.next_offer for order in ORDERS] == [AGREED.offers[1], AGREED.offers[2], AGREED.offers[0], b""]
    assert orders_of(agree(spans=((0, 6),)))[0].next_offer == b""


def test_o1_only_the_sessions_client_orders() -> None:
    with pytest.raises(SignatureError, match="not signed by the session's client"):
        check(signer=STRANGER)


@pytest.mark.parametrize("issued_at", [NOW - MAX_ORDER_AGE_S, NOW, NOW + CLOCK_SKEW_S])
def test_o2_a_fresh_order_is_taken(issued_at: int) -> None:
    check(issued_at=issued_at)


@pytest.mark.parametrize("issued_at", [0, NOW - MAX_ORDER_AGE_S - 1, NOW + CLOCK_SKEW_S + 1])
def test_o2_a_stale_order_is_refused(issued_at: int) -> None:
    with pytest.raises(ExpiredError, match="too old"):
        check(issued_at=issued_at)


def test_o2_the_session_must_last() -> None:
    lasting = agree(offers={leg: {"issued_at": NOW, "expires_at": NOW + 700} for leg in range(3)})
    order = orders_of(lasting)[1].replace(issued_at=NOW + 600)
    check(lasting, order, now=NOW + 599)
    with pytest.raises(ExpiredError, match="session has expired"):
        check(lasting, order, now=NOW + 600)


def test_o3_the_order_is_for_this_ledger_model_and_provider() -> None:
    assert code_of(lambda: check(terms=AGREED.terms.replace(venue=bytes(32)))) == "venue"
    assert code_of(lambda: check(terms=AGREED.terms.replace(model=bytes(32)))) == "model"
    assert code_of(lambda: check(leg=0)) == "not-mine"
    assert code_of(lambda: check(leg=4)) == "not-mine"
    assert code_of(lambda: check(leg=MAX_LEGS - 1)) == "not-mine"


def test_o4_the_terms_are_those_of_the_session_and_hold_together() -> None:
    with pytest.raises(MalformedError, match="not those that the session names"):
        check(terms=AGREED.terms.replace(credit=1))
    with pytest.raises(MalformedError, match="at least 1"):
        check(agree(change=lambda terms: terms.replace(plan=terms.plan.replace(window=0))))


def test_o5_the_tokens_fit_the_context() -> None:
    offers = {leg: {"limits": some_limits(context=8192)} for leg in range(3)}
    check(agree(prompt=4000, most=96, offers=offers))
    assert code_of(lambda: check(agree(prompt=4000, most=97, offers=offers))) == "context"
    assert code_of(lambda: check(agree(prompt=MAX_TOKENS, most=MAX_TOKENS, offers=offers))) == "context"


def test_o5_the_model_is_served_in_one_precision() -> None:
    assert code_of(lambda: check(agree(policy={"precision": "bf16"}))) == "precision"


@pytest.mark.parametrize("leg", [1, 3])
def test_o5_the_cap_pays_for_everything(leg: int) -> None:
    legs = AGREED.session.legs
    cheap = (*legs[:leg], legs[leg].replace(cap=legs[leg].cap - 1), *legs[leg + 1 :])
    session = AGREED.session.replace(legs=cheap)
    order = ORDERS[leg].replace(session=session)
    assert code_of(lambda: check(order=order, me=leg)) == "cap"
    voucher = ORDERS[0].pay.voucher
    for other in {0, 1, 2, 3} - {leg}:  # another's cap is its own matter
        pay = sign_voucher(AGREED.ledger.domain, first_voucher(session, AGREED.terms), CLIENT)
        assert pay.voucher.amounts == voucher.amounts
        check(order=ORDERS[other].replace(session=session, pay=pay), me=other)


# O6: the offer


def named(leg: int, sealed: bytes, **changes: Any) -> Callable[[Terms], Terms]:
    """Terms that name another offer for a leg."""

    def change(terms: Terms) -> Terms:
        legs = list(terms.route)
        legs[leg] = legs[leg].replace(offer=keccak256(sealed), **changes)
        return terms.replace(route=tuple(legs))

    return change


def offer_check(change: dict[str, Any], key: SigningKey | None = None, **terms: Any) -> None:
    """Hold the offer of leg 1 with something else in it against terms that name it."""
    first = agree()
    offer = offered(1, (2, 4), first.manifest, first.terms.venue).replace(**change)
    sealed = seal(offer, key or key_of(1))
    made = agree(change=named(1, sealed, offer_expires_at=offer.expires_at, **terms))
    check_offer_of(made.terms.route[1], sealed, made.terms, now=NOW)


def test_o6_the_offer_that_the_terms_name() -> None:
    offer_check({})
    offer_check({"expires_at": NOW + 1})
    offer_check({"activations": (ActivationType.BF16, ActivationType.FP32)})
    leg = AGREED.terms.route[1]
    for other in (AGREED.offers[0], b"", AGREED.offers[1] + b"\0"):
        with pytest.raises(DishonestError, match="name another offer"):
            check_offer_of(leg, other, AGREED.terms, now=NOW)


@pytest.mark.parametrize(
    ("change", "terms", "error", "says"),
    [
        ({"public_key": key_of(2).public_key}, {}, DishonestError, "another provider's"),
        ({}, {"offer_expires_at": NOW + 121}, DishonestError, "another time than the terms say"),
        ({"expires_at": NOW}, {}, ExpiredError, "the offer has expired"),
        ({"issued_at": NOW + 61}, {}, ExpiredError, "dated in the future"),
        ({"venue": bytes(32)}, {}, DishonestError, "another ledger"),
        ({"model": bytes(32)}, {}, DishonestError, "another ledger, model"),
        ({"activations": (ActivationType.BF16,)}, {}, DishonestError, "number format"),
        ({"rates": some_rates()}, {}, DishonestError, "rates are not those of the offer"),
        ({"blocks": 1}, {}, MalformedError, "of a model of"),
        ({"position_us": 0}, {}, MalformedError, "0 microseconds"),
    ],
)
def test_o6_an_offer_that_says_something_else(
    change: dict[str, Any], terms: dict[str, Any], error: type[PeerError], says: str
) -> None:
    with pytest.raises(error, match=says):
        offer_check(change) if not terms else offer_check_with(change, terms)


def offer_check_with(change: dict[str, Any], terms: dict[str, Any]) -> None:
    first = agree()
    sealed = seal(offered(1, (2, 4), first.manifest, first.terms.venue).replace(**change), key_of(1))
    made = agree(change=named(1, sealed, **terms))
    check_offer_of(made.terms.route[1], sealed, made.terms, now=NOW)


def test_o6_nobody_writes_an_offer_in_anothers_name() -> None:
    """A client that seals rates of its own under a provider's key gets nothing for them."""
    with pytest.raises(SignatureError, match="not signed by the node that it names"):
        offer_check({}, CLIENT)


def test_o6_blocks_of_the_offer_and_their_share() -> None:
    whole = agree(spans=((0, 3), (3, 6)))
    manifest, venue = whole.manifest, whole.terms.venue
    wide = offered(1, (0, 6), manifest, venue)
    sealed = seal(wide, key_of(1))
    half = some_rates(**{**RATES, "opening": 4, "price_in": 500_001, "price_out": 1_250_001, "price_cached": 50_000})

    def change(rates: Any) -> Terms:
        return agree(spans=((0, 3), (3, 6)), change=named(1, sealed, rates=rates)).terms

    taken = change(half)
    assert check_offer_of(taken.route[1], sealed, taken, now=NOW) == wide
    cheaper = change(half.replace(opening=3))
    with pytest.raises(DishonestError, match="rates are not those"):
        check_offer_of(cheaper.route[1], sealed, cheaper, now=NOW)
    narrow = seal(offered(1, (4, 6), manifest, venue), key_of(1))
    terms = agree(spans=((0, 3), (3, 6)), change=named(1, narrow)).terms
    with pytest.raises(DishonestError, match="blocks 4:6, not 3:6"):
        check_offer_of(terms.route[1], narrow, terms, now=NOW)


def test_o6_an_offer_of_the_past_is_enough_for_a_receipt() -> None:
    leg, sealed = AGREED.terms.route[1], AGREED.offers[1]
    assert check_offer_of(leg, sealed, AGREED.terms, now=None)
    with pytest.raises(ExpiredError):
        check_offer_of(leg, sealed, AGREED.terms, now=NOW + 1000)


# O7: the first voucher


def paying(amounts: tuple[int, ...] | None = None, key: SigningKey = CLIENT, **changes: Any) -> SignedVoucher:
    voucher = first_voucher(AGREED.session, AGREED.terms)
    if amounts is not None:
        changes["amounts"] = amounts
    return sign_voucher(AGREED.ledger.domain, voucher.replace(**changes), key)


def test_o7_the_first_voucher_pays_for_opening_and_the_first_window() -> None:
    amounts = ORDERS[0].pay.voucher.amounts
    assert amounts == (11, 12, 12, 7)
    check(pay=paying((0, amounts[1], 0, 0)))
    assert code_of(lambda: check(pay=paying((amounts[0], amounts[1] - 1, amounts[2], 7)))) == "unpaid"
    assert AGREED.terms.plan.chunk == 4
    check(pay=paying((0, 13, 0, 0), tokens_in=5))
    for few in (0, 3):
        assert code_of(lambda few=few: check(pay=paying((30, 30, 30, 7), tokens_in=few))) == "unpaid"


def test_o7_a_standby_has_its_opening_charge() -> None:
    check(order=ORDERS[3], me=3)
    assert code_of(lambda: check(order=ORDERS[3].replace(pay=paying((0, 0, 0, 6))), me=3)) == "unpaid"


def test_o7_the_first_voucher_is_one() -> None:
    with pytest.raises(SignatureError):
        check(pay=paying(key=STRANGER))
    with pytest.raises(MalformedError, match="another session"):
        check(pay=paying(session=bytes(32)))
    with pytest.raises(MalformedError, match="amounts for 3 legs"):
        check(pay=paying((50, 50, 50)))
    with pytest.raises(MalformedError, match="cap"):
        check(pay=paying((2**40, 50, 50, 7)))
    for counts in ({"tokens_in": 11}, {"tokens_in": 10, "tokens_out": 12}):
        with pytest.raises(MalformedError, match="more tokens than were ordered"):
            check(pay=paying((17, 17, 17, 7), **counts))


# O8 and O9


def test_o8_the_session_is_open() -> None:
    ledger = AGREED.ledger
    checkpoint = check_opened(ORDERS[0].opened, AGREED.session, ledger.verifier)
    assert checkpoint.size == AGREED.opened + 1
    other = agree(salt=1)
    with pytest.raises(DishonestError, match="not of this session's opening"):
        check_opened(other.ledger.evidence(other.opened), AGREED.session, ledger.verifier)
    with pytest.raises(DishonestError, match="not of this session's opening"):
        check_opened(ledger.evidence(0), AGREED.session, ledger.verifier)
    elsewhere = PaperLedger(NOW, name="ledger.example/elsewhere")
    with pytest.raises(SignatureError):
        check_opened(elsewhere.evidence(0), AGREED.session, ledger.verifier)
    with pytest.raises(MalformedError):
        check_opened(b"noise", AGREED.session, ledger.verifier)


def test_o9_an_acceptance_is_of_this_leg_and_these_terms() -> None:
    session, terms = AGREED.session, AGREED.terms
    accepted = check_acceptance(AGREED.acceptances[1], session, terms, 1)
    assert (accepted.leg, accepted.terms) == (1, terms_hash(terms))
    for changes in ({"leg": 0}, {"session": bytes(32)}, {"terms": bytes(32)}, {"cached": 1}):
        with pytest.raises(DishonestError):
            check_acceptance(AGREED.accept(1, **changes), session, terms, 1)
    for sealed in (AGREED.accept(1, CLIENT), AGREED.acceptances[0]):
        with pytest.raises(SignatureError, match="leg 1 is not sealed"):
            check_acceptance(sealed, session, terms, 1)


def test_o9_no_more_is_held_than_the_session_continues() -> None:
    agreed = agree(continues=4)
    for cached in (0, 4):
        assert check_acceptance(agreed.accept(0, cached=cached), agreed.session, agreed.terms, 0).cached == cached
    with pytest.raises(DishonestError, match="holds more positions"):
        check_acceptance(agreed.accept(0, cached=5), agreed.session, agreed.terms, 0)


# What is common to a route


def test_the_first_format_that_all_take() -> None:
    fp32, bf16 = ActivationType.FP32, ActivationType.BF16
    first, second = an_offer(0, activations=(bf16, fp32)), an_offer(1, activations=(fp32, bf16))
    assert common_activations([first, second]) is bf16
    assert common_activations([first, an_offer(1, activations=(fp32,))]) is fp32
    with pytest.raises(RoutingError, match="no number format in common"):
        common_activations([an_offer(0, activations=(bf16,)), an_offer(1)])


def test_credit_is_the_least_of_all_offers_and_a_window_at_most() -> None:
    plan = AGREED.terms.plan
    assert common_credit([a_choice(0, credit=3), a_choice(1, credit=2)], plan) == 2
    assert common_credit([a_choice(0, credit=60)], plan) == plan.window


def test_credit_grows_with_what_a_client_remembers_to_have_paid_every_leg() -> None:
    plan = AGREED.terms.plan
    legs = [a_choice(number, credit=0, price_out=1_000_000) for number in (0, 1)]
    # A tenth of the half that it relies on, at one micro-unit a token.
    first, second = (address_of_public_key(chosen.leg.offer.public_key) for chosen in legs)
    assert common_credit(legs, plan) == 0
    assert common_credit(legs, plan, {first: 10**9, second: 59}.__getitem__) == 2
    assert common_credit(legs, plan, {first: 10**9, second: 39}.__getitem__) == 1
    assert common_credit(legs, plan, {first: 10**9, second: 0}.__getitem__) == 0
    assert common_credit(legs, plan, {first: 10**9, second: 10**9}.__getitem__) == plan.window


def a_choice(number: int, **changes: Any) -> Chosen:
    offer = an_offer(number, **changes)
    return Chosen(RouteLeg(offer, offer.span, 0, 0), seal(offer, key_of(number)))
