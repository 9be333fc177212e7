"""Which orders a node takes, beyond what the order itself says."""

from __future__ import annotations

from typing import Any

import pytest
from hand_client import NOISE, STRANGER, Hand, serves
from small_market import SmallMarket

from protocol.codec import Message
from protocol.errors import MalformedError, PeerError
from protocol.frames import (
    Attach,
)
from protocol.messages import Close, Open, Settle
from protocol.order import Acceptance, Refusal
from protocol.signing import SigningKey, seal

pytestmark = pytest.mark.asyncio


async def refused(hand: Hand, node: int = 0, *, by: SigningKey | None = None, **changes: Any) -> str:
    """The code of an order that gets no answer; `by` seals it in the client's place."""
    sealed = seal(hand.order.replace(leg=node, **changes), by or hand.key)
    with pytest.raises(PeerError) as error:
        await hand.market.nodes[node].admission.answer(STRANGER.public_key, sealed)
    return error.value.code


async def test_an_order_comes_from_its_client_and_once(market: SmallMarket) -> None:
    hand = Hand(market)
    assert await refused(hand) == "unknown-session"
    await market.ledger.submit(Open(session=hand.order.session), hand.key)
    assert await refused(hand, by=STRANGER) == "bad-signature"
    assert await refused(hand, issued_at=market.now - 121) == "expired"
    assert isinstance(await hand.ask(), Acceptance)
    assert await refused(hand) == "stale"
    await serves(market)


async def test_an_order_for_a_closed_or_used_session_is_refused(shop: SmallMarket) -> None:
    hand = Hand(shop)
    await shop.ledger.submit(Open(session=hand.order.session), hand.key)
    pay = hand.pay(1, 0)
    await shop.ledger.submit(Settle(voucher=pay.voucher, signature=pay.signature), hand.key)
    assert await refused(hand) == "used-session"
    shop.now = hand.order.session.expiry + 61
    await shop.ledger.submit(Close(session=hand.session, discharges=()), hand.key)
    assert await refused(hand, issued_at=shop.now) == "expired"


@pytest.mark.parametrize("what", NOISE, ids=str)
async def test_bytes_that_are_no_order_are_malformed(shop: SmallMarket, what: str) -> None:
    for data in (NOISE[what], seal(Attach(session=bytes(32)), shop.client_key)):
        with pytest.raises(MalformedError):
            await shop.nodes[0].admission.answer(shop.client_key.public_key, data)
    await serves(shop)


async def test_a_touched_order_is_not_its_clients(shop: SmallMarket) -> None:
    hand = Hand(shop)
    await shop.ledger.submit(Open(session=hand.order.session), hand.key)
    sealed = bytearray(seal(hand.order, hand.key))
    for at in (40, len(sealed) // 2, len(sealed) - 1):
        touched = bytes(sealed[:at]) + bytes([sealed[at] ^ 1]) + bytes(sealed[at + 1 :])
        with pytest.raises(PeerError):
            await shop.nodes[0].admission.answer(hand.key.public_key, touched)
    assert isinstance(await hand.ask(), Acceptance)


async def test_an_order_beyond_the_nodes_limits_is_refused_with_its_money(shop: SmallMarket) -> None:
    for changes in ({"window": 65}, {"chunk": 513}):
        hand = Hand(shop, **changes)
        await shop.ledger.submit(Open(session=hand.order.session), hand.key)
        answer = await hand.ask()
        assert isinstance(answer, Refusal)
        assert answer.code == "window"
        assert "at most 64 tokens a window and 512 a chunk" in answer.reason
        assert answer.discharge is not None
        await shop.ledger.submit(Close(session=hand.session, discharges=(answer.discharge,)), hand.key)
    assert isinstance(await accepted_answer(Hand(shop, window=64, chunk=512)), Acceptance)


async def accepted_answer(hand: Hand) -> Message:
    await hand.market.ledger.submit(Open(session=hand.order.session), hand.key)
    return await hand.ask()
