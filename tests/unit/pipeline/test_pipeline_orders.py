"""Which orders a node takes, beyond what the order itself says."""

from __future__ import annotations

from typing import Any

import pytest
from hand_client import NOISE, STRANGER, Hand, serves
from small_market import FEE, SmallMarket

from protocol.errors import MalformedError, PeerError
from protocol.identity.signing import SigningKey, seal
from protocol.session.frames import Attach
from protocol.session.messages import Discharge, SignedDischarge, sign_voucher
from protocol.session.order import Acceptance, Refusal

pytestmark = pytest.mark.asyncio


async def refused(hand: Hand, node: int = 0, *, by: SigningKey | None = None, **changes: Any) -> str:
    """The code of an order that gets no answer; `by` seals it in the client's place."""
    sealed = seal(hand.order(node, **changes), by or hand.key)
    with pytest.raises(PeerError) as error:
        await hand.market.nodes[node].admission.answer(STRANGER.public_key, sealed)
    return error.value.code


async def test_an_order_comes_from_its_client_and_once(market: SmallMarket) -> None:
    hand = Hand(market)
    await hand.open()
    assert await refused(hand, by=STRANGER) == "bad-signature"
    assert await refused(hand, issued_at=market.now - 121) == "expired"
    assert isinstance(await hand.ask(), Acceptance)
    assert await refused(hand) == "stale"
    await serves(market)


async def test_an_order_shows_that_its_session_is_open_and_nobody_asks_the_ledger(market: SmallMarket) -> None:
    hand, other = Hand(market), Hand(market)
    assert await refused(hand) == "malformed"  # no evidence at all
    await other.open()
    hand.opened = other.opened
    assert await refused(hand) == "dishonest"  # that of another session
    await hand.open()
    damaged = hand.opened[:-1] + bytes([hand.opened[-1] ^ 1])
    assert await refused(hand, opened=damaged) in ("malformed", "bad-signature", "dishonest")
    market.ledger.down, asked = True, len(market.ledger.asked)
    assert isinstance(await hand.ask(), Acceptance)
    assert len(market.ledger.asked) == asked


async def test_the_first_voucher_comes_with_the_order(market: SmallMarket) -> None:
    hand = Hand(market)
    await hand.open()
    domain, voucher = market.ledger.domain, hand.order().pay.voucher
    short = voucher.replace(amounts=(voucher.amounts[0] - 1, *voucher.amounts[1:]))
    assert await refused(hand, pay=sign_voucher(domain, short, hand.key)) == "unpaid"
    nothing = voucher.replace(amounts=(0,) * 3, tokens_in=0, tokens_out=0)
    assert await refused(hand, pay=sign_voucher(domain, nothing, hand.key)) == "unpaid"
    assert await refused(hand, pay=sign_voucher(domain, voucher, STRANGER)) == "bad-signature"
    opening = nothing.replace(amounts=tuple(leg.rates.opening for leg in hand.deal.terms.legs))
    assert await refused(hand, pay=sign_voucher(domain, opening, hand.key)) == "unpaid"
    part = hand.voucher(2, 0)
    assert await refused(hand, pay=sign_voucher(domain, part, hand.key)) == "unpaid"
    assert isinstance(await hand.ask(pay=sign_voucher(domain, voucher, hand.key)), Acceptance)


async def test_a_published_price_is_honoured_until_its_offer_expires(market: SmallMarket) -> None:
    """Whatever the node asks by now: the order brings the sealed offer that it was made from."""
    old, late = Hand(market), Hand(market, expiry_s=10_000)
    ask_more(market)
    await old.open()
    assert isinstance(await old.ask(), Acceptance)
    await late.open()
    market.skipped_s += 700
    assert await refused(late) == "expired"


async def test_terms_at_other_rates_than_the_offer_are_refused(market: SmallMarket) -> None:
    cheap = Hand(market)
    ask_more(market)
    dear = Hand(market)
    await cheap.open()
    # The node's own new offer, at more than the terms say: it is not the offer that they name.
    assert await refused(cheap, offer=dear.deal.legs[0].sealed) == "dishonest"
    # Other terms than the session was opened for.
    assert await refused(cheap, terms=dear.deal.terms) == "malformed"
    assert isinstance(await cheap.ask(), Acceptance)


def ask_more(market: SmallMarket) -> None:
    for node in market.nodes:
        node.rates = node.rates.replace(price_in=10**9, price_out=10**9)


async def test_a_node_dials_only_what_the_next_legs_own_offer_says(market: SmallMarket) -> None:
    hand = Hand(market)
    await hand.open()
    answer = await hand.ask(next_offer=hand.deal.legs[2].sealed)
    assert isinstance(answer, Refusal)
    assert answer.code == "next-unreachable"
    assert market.network.dialled.get(market.nodes[0].key.public_key, []) == []


@pytest.mark.parametrize("what", NOISE, ids=str)
async def test_bytes_that_are_no_order_are_malformed(shop: SmallMarket, what: str) -> None:
    for data in (NOISE[what], seal(Attach(session=bytes(32)), shop.client_key)):
        with pytest.raises(MalformedError):
            await shop.nodes[0].admission.answer(shop.client_key.public_key, data)
    await serves(shop)


async def test_a_touched_order_is_not_its_clients(shop: SmallMarket) -> None:
    hand = Hand(shop)
    await hand.open()
    sealed = bytearray(seal(hand.order(), hand.key))
    for at in (40, len(sealed) // 2, len(sealed) - 1):
        touched = bytes(sealed[:at]) + bytes([sealed[at] ^ 1]) + bytes(sealed[at + 1 :])
        with pytest.raises(PeerError):
            await shop.nodes[0].admission.answer(hand.key.public_key, touched)
    assert isinstance(await hand.ask(), Acceptance)


@pytest.mark.parametrize(
    ("changes", "code"), [({"window": 65}, "window"), ({"chunk": 513}, "window"), ({"most": 3000}, "context")]
)
async def test_an_order_beyond_the_nodes_limits_is_refused_with_its_money(
    shop: SmallMarket, changes: dict[str, int], code: str
) -> None:
    hand = Hand(shop, **changes)
    await hand.open()
    if code == "context":
        assert await refused(hand) == code
        return
    answer = await hand.ask()
    assert isinstance(answer, Refusal)
    assert answer.code == code
    assert "windows of 64 tokens and chunks of 512" in answer.reason
    assert answer.discharge is not None
    before = shop.free(hand.key)
    word = SignedDischarge(discharge=Discharge(session=hand.session, leg=0, amount=0), signature=answer.discharge)
    await shop.ledger.release([word], hand.key)
    assert shop.free(hand.key) == before + hand.deal.session.legs[0].cap - FEE


async def test_a_refused_order_s_voucher_is_never_redeemed(shop: SmallMarket) -> None:
    hand = Hand(shop, window=65)
    await hand.open()
    assert isinstance(await hand.ask(), Refusal)
    await shop.nodes[0].redeemer.redeem_all()
    assert shop.free(shop.nodes[0].key) == 0
    assert shop.nodes[0].redeemer.knows(hand.session)


async def test_what_fits_the_limits_exactly_is_taken(shop: SmallMarket) -> None:
    hand = Hand(shop, window=64, chunk=512)
    await hand.open()
    assert isinstance(await hand.ask(), Acceptance)
