"""The rules that a leg holds a voucher against, each with a valid neighbour."""

from __future__ import annotations

import pytest
from hand_client import OTHER_LEDGER, STRANGER, Hand
from node.pipeline.leg import LegJob
from small_market import SmallMarket

from protocol.eip712 import sign_typed
from protocol.errors import MalformedError, SignatureError, StaleError
from protocol.messages import session_id

pytestmark = pytest.mark.asyncio


def leg_job(hand: Hand) -> LegJob:
    return LegJob(
        hand.order,
        hand.market.nodes[0].key,
        hand.market.ledger.domain,
        millijoules_for=lambda positions: None,
        stop_tokens=(0,),
    )


async def test_v1_a_voucher_for_another_session_is_refused(shop: SmallMarket) -> None:
    hand, other = Hand(shop), Hand(shop)
    job = leg_job(hand)
    with pytest.raises(MalformedError, match="another session"):
        job.take_voucher(other.pay(3, 0))
    assert job.paid == (0, 0)
    job.take_voucher(hand.pay(3, 0))
    assert job.paid == (3, 0)


async def test_v2_a_voucher_is_the_clients_for_this_ledger(shop: SmallMarket) -> None:
    hand = Hand(shop)
    job = leg_job(hand)
    with pytest.raises(SignatureError, match="for this ledger"):
        job.take_voucher(hand.pay(3, 0, domain=OTHER_LEDGER))
    good = hand.pay(3, 0)
    with pytest.raises(SignatureError):
        job.take_voucher(good.replace(signature=bytes(64)))
    with pytest.raises(SignatureError):
        job.take_voucher(good.replace(signature=sign_typed(shop.ledger.domain, good.voucher, STRANGER)))
    with pytest.raises(SignatureError):
        job.take_voucher(good.replace(voucher=good.voucher.replace(tokens_in=2)))
    assert job.paid == (0, 0)
    job.take_voucher(good)


@pytest.mark.parametrize("counts", [(2, 4), (3, 3), (0, 0)])
async def test_v3_a_voucher_below_the_last_is_refused(shop: SmallMarket, counts: tuple[int, int]) -> None:
    hand = Hand(shop)
    job = leg_job(hand)
    job.take_voucher(hand.pay(3, 4))
    with pytest.raises(StaleError, match="less than an earlier one"):
        job.take_voucher(hand.pay(*counts))
    assert job.paid == (3, 4)
    job.take_voucher(hand.pay(3, 4))  # the same again is no step back


@pytest.mark.parametrize("counts", [(4, 0), (3, 13), (2**40, 0)])
async def test_v4_a_voucher_beyond_the_order_is_refused(shop: SmallMarket, counts: tuple[int, int]) -> None:
    hand = Hand(shop)
    job = leg_job(hand)
    with pytest.raises(MalformedError, match="more tokens than were ordered"):
        job.take_voucher(hand.pay(*counts))
    job.take_voucher(hand.pay(3, 12))


async def test_v5_a_voucher_above_the_cap_is_refused(shop: SmallMarket) -> None:
    hand = Hand(shop)
    (leg,) = hand.order.session.legs
    hand.order = hand.order.replace(session=hand.order.session.replace(legs=(leg.replace(cap=leg.cap - 1),)))
    hand.session = session_id(hand.order.session)
    job = leg_job(hand)
    with pytest.raises(MalformedError) as refused:
        job.take_voucher(hand.pay(3, 12))
    assert refused.value.code == "cap"
    job.take_voucher(hand.pay(3, 11))
