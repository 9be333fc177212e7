"""The rules that a leg holds a voucher against, each with a valid neighbour."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hand_client import OTHER_LEDGER, STRANGER, Hand
from small_market import SmallMarket
from taken import take_voucher

from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.worker import InlineWorker
from protocol.errors import LocalError, MalformedError, SignatureError, StaleError, UnpaidError
from protocol.identity.ids import MAX_TOKENS
from protocol.session.claim import Claim

pytestmark = pytest.mark.asyncio


def claim_of(hand: Hand) -> Claim:
    order = hand.order()
    return Claim(hand.market.ledger.domain, order.session, order.terms, 0, order.pay)


async def test_v1_a_voucher_for_another_session_is_refused(shop: SmallMarket) -> None:
    hand, other = Hand(shop), Hand(shop)
    claim = claim_of(hand)
    with pytest.raises(MalformedError, match="another session"):
        take_voucher(claim, other.pay(3, 4))
    assert claim.positions_paid == 3
    take_voucher(claim, hand.pay(3, 4))
    assert claim.positions_paid == 6


async def test_v2_a_voucher_is_the_clients_for_this_ledger(shop: SmallMarket) -> None:
    hand = Hand(shop)
    claim = claim_of(hand)
    good = hand.pay(3, 4)
    for bad in (
        hand.pay(3, 4, domain=OTHER_LEDGER),
        hand.pay(3, 4, key=STRANGER),
        good.replace(signature=bytes(64)),
        good.replace(voucher=good.voucher.replace(tokens_out=5)),
        good.replace(voucher=good.voucher.replace(amounts=(good.voucher.amounts[0] + 1,))),
    ):
        with pytest.raises(SignatureError):
            take_voucher(claim, bad)
    assert claim.positions_paid == 3
    take_voucher(claim, good)


async def test_v3_a_voucher_has_one_amount_a_leg_none_above_its_cap(shop: SmallMarket) -> None:
    hand = Hand(shop)
    claim, cap = claim_of(hand), hand.deal.session.legs[0].cap
    for amounts in ((cap, 0), (cap + 1,)):
        with pytest.raises(MalformedError):
            take_voucher(claim, hand.pay(3, 4, amounts=amounts))
    take_voucher(claim, hand.pay(3, 4, amounts=(cap,)))
    assert claim.amount == cap


@pytest.mark.parametrize("counts", [(2, 0), (3, 3), (0, 0), (3, 4)])
async def test_v4_a_voucher_for_no_more_tokens_than_the_last_is_refused(
    shop: SmallMarket, counts: tuple[int, int]
) -> None:
    hand = Hand(shop)
    claim = claim_of(hand)
    take_voucher(claim, hand.pay(3, 4))
    with pytest.raises(StaleError, match="no more tokens than an earlier one"):
        take_voucher(claim, hand.pay(*counts))
    assert claim.positions_paid == 6
    take_voucher(claim, hand.pay(*counts), last=True)  # but for what ends a job that was paid ahead
    assert claim.amount == hand.voucher(3, 4).amounts[0]


@pytest.mark.parametrize("counts", [(4, 0), (3, 13), (MAX_TOKENS, 0)])
async def test_v4_a_voucher_beyond_the_order_is_refused(shop: SmallMarket, counts: tuple[int, int]) -> None:
    hand = Hand(shop)
    claim, cap = claim_of(hand), hand.deal.session.legs[0].cap
    with pytest.raises(MalformedError, match="more tokens than were ordered"):
        take_voucher(claim, hand.pay(*counts, amounts=(cap,)))
    take_voucher(claim, hand.pay(3, 12))


async def test_v5_a_voucher_pays_this_leg_what_its_tokens_cost(shop: SmallMarket) -> None:
    hand = Hand(shop)
    claim, amount = claim_of(hand), hand.voucher(3, 8).amounts[0]
    with pytest.raises(UnpaidError):
        take_voucher(claim, hand.pay(3, 8, amounts=(amount - 1,)))
    take_voucher(claim, hand.pay(3, 8, amounts=(amount,)))
    assert claim.may_process == 3 - 1 + 8


async def test_v5_tokens_that_came_late_may_cost_less(shop: SmallMarket) -> None:
    for node in shop.nodes:
        node.rates = node.rates.replace(late_discount_ppm=500_000)
    hand = Hand(shop)
    claim, full = claim_of(hand), hand.voucher(3, 8).amounts[0]
    half = full - 4 * (shop.nodes[0].rates.price_out // 2) // 1_000_000
    with pytest.raises(UnpaidError):
        take_voucher(claim, hand.pay(3, 8, amounts=(half,)), late=3)
    take_voucher(claim, hand.pay(3, 8, amounts=(half,)), late=4)


async def test_the_best_voucher_is_kept_and_no_more_is_redeemed_than_was_claimed(market: SmallMarket) -> None:
    """A client that signs [10, 5] for one leg and [5, 10] for another owes both ten."""
    hand = Hand(market)
    claim, caps = claim_of(hand), tuple(leg.cap for leg in hand.deal.session.legs)
    low = hand.voucher(3, 4).amounts
    take_voucher(claim, hand.pay(3, 3, amounts=(caps[0], *low[1:])))
    take_voucher(claim, hand.pay(3, 4, amounts=(low[0], *caps[1:])))
    assert claim.amount == caps[0]
    word = claim.discharge(6)
    assert word.amount == low[0]
    assert claim.redeemable(word.amount).voucher.amounts[0] == low[0]
    assert claim.redeemable(low[0] + 1).voucher.amounts[0] == caps[0]


@pytest.mark.parametrize(("promised", "asks"), [(1, False), (2, True)])
async def test_an_operation_is_not_spent_on_less_than_it_costs(market: SmallMarket, promised: int, asks: bool) -> None:
    hand, node = Hand(market), market.nodes[0]
    await hand.open()
    pay = hand.pay(3, 0, amounts=(promised, 0, 0))
    stored = StoredVoucher(session=hand.deal.session, opened_at=market.now, leg=0, pay=pay, discharges=())
    await node.store.put(hand.session, stored)
    await node.redeemer.redeem_all()
    assert ("settle" in market.ledger.asked) is asks


async def test_a_voucher_that_the_disk_takes_in_part_or_not_costs_none_of_those_before(
    shop: SmallMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that pays while it fills the disk: what a node has been paid before is there for its next process."""
    hand, pwrite = Hand(shop), os.pwrite
    session = hand.deal.session

    def stored(tokens: int) -> StoredVoucher:
        return StoredVoucher(session=session, opened_at=1, leg=0, pay=hand.pay(3, tokens), discharges=())

    def refused(*_given: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    def torn(descriptor: int, data: bytes, offset: int) -> int:
        return pwrite(descriptor, data[: len(data) // 2], offset)

    store = VoucherStore(tmp_path / "store", InlineWorker())
    for tokens in (1, 2, 3):
        await store.put(hand.session, stored(tokens))
        for fails in (refused, torn, torn):
            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", fails)
                patch.setattr(Path, "replace", refused)
                with pytest.raises(LocalError) as error:
                    await store.put(hand.session, stored(tokens + 1))
            assert error.value.code == "disk"
            again = await VoucherStore(tmp_path / "store", InlineWorker()).all()
            assert again == {hand.session: stored(tokens)}
