"""Sessions that are over: never served again, and never asked about at the ledger where there is nothing to be had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hand_client import Hand, expect, send
from small_market import FEE, GRACE_S, SmallMarket, limits_of
from virtual_loop import run_virtually

from node.events import VoucherNotRedeemable
from node.pipeline.buying.reclaim import reclaim
from node.pipeline.serving import seen as seen_module
from node.pipeline.serving.seen import RECORD, SPARE, SeenSessions, remembered_until
from node.pipeline.vouchers import StoredVoucher
from node.worker import InlineWorker
from protocol.errors import PeerError, RefusedError
from protocol.identity.signing import seal
from protocol.market.offer import CLOCK_SKEW_S, MAX_TTL_S
from protocol.session.frames import Discharged, Finish, Sampled
from protocol.session.messages import SignedDischarge
from protocol.session.order import Acceptance, Refusal

Story = Callable[[SmallMarket], Coroutine[Any, Any, None]]
FAR = 80 * 24 * 3600
"""Seconds: as far as a ledger lets a session last."""


def tell(tmp_path: Path, story: Story) -> None:
    async def whole() -> None:
        limits = limits_of(idle_s=30.0, max_sessions=4096)
        async with SmallMarket(tmp_path, spans=((0, 6),), limits=limits) as market:
            await story(market)

    run_virtually(whole())


async def ordered_again(hand: Hand) -> str:
    """The code that a fresh order for the same session is refused with; empty where it is taken."""
    sealed = seal(hand.order(), hand.key)
    try:
        await hand.market.nodes[0].admission.answer(hand.key.public_key, sealed)
    except PeerError as error:
        return error.code
    return ""


async def served_and_closed(hand: Hand) -> None:
    """A job to its end, settled and released by its client: the ledger has closed its session."""
    link = await hand.accepted()
    await send(link, *hand.prompt())
    await expect(link, Sampled)
    await send(link, Finish(session=hand.session, tokens_out=1))
    last = hand.pay(3, 1)
    await send(link, last)
    word = (await expect(link, Discharged)).signed
    ledger = hand.market.ledger
    await ledger.settle([last], hand.key)
    await ledger.release([SignedDischarge(discharge=word.discharge, signature=word.signature)], hand.key)


@pytest.mark.parametrize("restart", [False, True])
def test_a_session_that_the_ledger_has_closed_is_not_served_a_second_time(tmp_path: Path, restart: bool) -> None:
    async def story(market: SmallMarket) -> None:
        hand = Hand(market, expiry_s=FAR)
        await served_and_closed(hand)
        await market.nodes[0].redeemer.redeem_all()
        assert await market.nodes[0].store.all() == {}
        if restart:
            await market.kill(0)
            await market.revive(0)
        assert await ordered_again(hand) == "stale"
        # As long as the offer in its terms could be in force; then its own expiry refuses it.
        market.skipped_s += 599
        assert await ordered_again(hand) == "stale"
        market.skipped_s += 2
        assert await ordered_again(hand) == "expired"

    tell(tmp_path, story)


@pytest.mark.parametrize("restart", [False, True])
def test_a_session_that_was_refused_is_not_served_later(tmp_path: Path, restart: bool) -> None:
    async def story(market: SmallMarket) -> None:
        hand = Hand(market, expiry_s=FAR)
        await hand.open()
        market.nodes[0].refuse_all = RefusedError("not now", code="full")
        assert isinstance(await hand.ask(), Refusal)
        market.nodes[0].refuse_all = None
        if restart:
            await market.kill(0)
            await market.revive(0)
        assert await ordered_again(hand) == "stale"

    tell(tmp_path, story)


def test_refused_sessions_with_far_expiry_are_never_polled(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node = market.nodes[0]
        node.refuse_all = RefusedError("not now", code="full")
        hands = [Hand(market, expiry_s=FAR) for _ in range(40)]
        for hand in hands:
            await hand.open()
            assert isinstance(await hand.ask(), Refusal)
        asked = len(market.ledger.asked)
        for _ in range(10):
            await node.redeemer.redeem_all()
            market.skipped_s += 24 * 3600
        assert len(market.ledger.asked) == asked
        assert await node.store.all() == {}
        assert market.free(node.key) == 0

    tell(tmp_path, story)


def test_what_is_not_worth_its_fee_is_looked_at_once(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node, hand = market.nodes[0], Hand(market, expiry_s=FAR)
        await hand.open()
        pay = hand.pay(3, 1, amounts=(FEE,))
        stored = StoredVoucher(session=hand.deal.session, opened_at=market.now, leg=0, pay=pay, discharges=())
        await node.store.put(hand.session, stored)
        asked = len(market.ledger.asked)
        for _ in range(5):
            await node.redeemer.redeem_all()
            market.skipped_s += 3600
        assert len(market.ledger.asked) == asked + 1
        assert hand.session in node.seen or market.now > remembered_until(stored.opened_at, hand.deal.session.expiry)

    tell(tmp_path, story)


def test_a_session_that_the_ledger_does_not_know_is_asked_about_less_and_less(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node, hand = market.nodes[0], Hand(market, expiry_s=FAR)
        stored = StoredVoucher(
            session=hand.deal.session, opened_at=market.now, leg=0, pay=hand.pay(3, 1), discharges=()
        )
        await node.store.put(hand.session, stored)
        for _ in range(24 * 60):
            await node.redeemer.redeem_all()
            market.skipped_s += 60
        assert len(market.ledger.asked) < 40
        market.skipped_s += FAR
        await node.redeemer.redeem_all()
        assert await node.store.all() == {}

    tell(tmp_path, story)


# The file


def some(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_an_order_can_live_no_longer_than_its_offer_or_its_session() -> None:
    assert remembered_until(1000, 10**9) == 1000 + MAX_TTL_S + 2 * CLOCK_SKEW_S
    assert remembered_until(1000, 1500) == 1500 + CLOCK_SKEW_S


def test_what_was_seen_is_there_after_a_restart_and_forgotten_in_time(tmp_path: Path) -> None:
    async def story() -> None:
        now = [1000]
        path = tmp_path / "seen"
        first = SeenSessions(path, InlineWorker(), lambda: now[0])
        for number in range(5):
            await first.add(some(number), 1100 + number)
        # A crash in mid-write leaves half a record.
        path.write_bytes(path.read_bytes() + b"\x07" * (RECORD - 1))
        second = SeenSessions(path, InlineWorker(), lambda: now[0])
        assert all(some(number) in second for number in range(5))
        await second.add(some(9), 1200)
        assert path.stat().st_size == 6 * RECORD, "written anew, without the half"
        now[0] = 1103
        assert [some(number) in second for number in (2, 3, 4, 9)] == [False, False, True, True]
        assert some(3) not in SeenSessions(path, InlineWorker(), lambda: now[0])

    asyncio.run(story())


def test_the_file_does_not_grow_with_the_past(tmp_path: Path) -> None:
    async def story() -> None:
        now = [1000]
        path = tmp_path / "seen"
        seen = SeenSessions(path, InlineWorker(), lambda: now[0])
        for number in range(SPARE + 200):
            await seen.add(some(number), now[0] + 1)
            now[0] += 1
            assert not seen.full
        assert path.stat().st_size <= (SPARE + 3) * RECORD

    monkey = pytest.MonkeyPatch()
    monkey.setattr(seen_module, "MOST_SEEN", 4)
    monkey.setattr("os.fsync", lambda descriptor: None)
    try:
        asyncio.run(story())
    finally:
        monkey.undo()


def test_where_no_more_can_be_remembered_no_order_is_taken_until_some_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_module, "MOST_SEEN", 3)

    async def story(market: SmallMarket) -> None:
        market.nodes[0].refuse_all = RefusedError("not now", code="full")
        for _ in range(3):
            hand = Hand(market, expiry_s=FAR)
            await hand.open()
            assert isinstance(await hand.ask(), Refusal)
        market.nodes[0].refuse_all = None
        late = Hand(market, expiry_s=FAR)
        await late.open()
        assert await ordered_again(late) == "busy"
        market.skipped_s += MAX_TTL_S + 2 * CLOCK_SKEW_S
        fresh = Hand(market, expiry_s=FAR)
        await fresh.open()
        assert isinstance(await fresh.ask(), Acceptance)

    tell(tmp_path, story)


# The end of the grace


@pytest.mark.parametrize(("at", "redeems"), [(-1, True), (0, True), (1, False)])
def test_a_node_redeems_to_the_last_second_of_the_grace(tmp_path: Path, at: int, redeems: bool) -> None:
    async def story(market: SmallMarket) -> None:
        node, hand = market.nodes[0], Hand(market)
        await hand.open()
        stored = StoredVoucher(
            session=hand.deal.session, opened_at=market.now, leg=0, pay=hand.pay(3, 4), discharges=()
        )
        await node.store.put(hand.session, stored)
        market.skipped_s += hand.deal.session.expiry + GRACE_S + at - market.now
        await node.redeemer.redeem_all()
        assert (market.free(node.key) > 0) is redeems
        assert len(node.events_of(VoucherNotRedeemable)) == (0 if redeems else 1)
        assert await node.store.all() == {}

    tell(tmp_path, story)


async def leave_open(market: SmallMarket) -> Hand:
    """A session that a client opened, and never used."""
    hand = Hand(market)
    await hand.open()
    stored = StoredVoucher(session=hand.deal.session, opened_at=market.now, leg=None, pay=hand.pay(3, 4), discharges=())
    await market.journal.put(hand.session, stored)
    return hand


def test_a_venue_whose_clock_is_behind_is_asked_again_later(tmp_path: Path) -> None:
    """A chain's clock is that of its newest block."""

    async def story(market: SmallMarket) -> None:
        hand = await leave_open(market)
        market.skipped_s += hand.deal.session.expiry + GRACE_S - market.now
        assert await reclaim(market.ledger, market.journal, hand.key, now=market.now + 5) == 0
        assert list(await market.journal.all()) == [hand.session]
        market.skipped_s += 1
        assert await reclaim(market.ledger, market.journal, hand.key, now=market.now) > 0

    tell(tmp_path, story)


@pytest.mark.parametrize(("at", "closes"), [(-1, False), (0, False), (1, True)])
def test_a_client_closes_from_the_first_second_after_the_grace(tmp_path: Path, at: int, closes: bool) -> None:
    async def story(market: SmallMarket) -> None:
        before = market.free(market.client_key)
        hand = await leave_open(market)
        market.skipped_s += hand.deal.session.expiry + GRACE_S + at - market.now
        returned = await reclaim(market.ledger, market.journal, hand.key, now=market.now)
        assert (returned > 0) is closes
        assert (market.free(hand.key) == before - 2 * FEE) is closes
        assert (await market.journal.all() == {}) is closes

    tell(tmp_path, story)


@pytest.mark.parametrize("first", ["node", "client"])
def test_at_the_edge_whoever_comes_first_leaves_the_other_nothing_to_break(tmp_path: Path, first: str) -> None:
    """The node settles in the last second and the client closes in the next, or the node comes a second too late."""

    async def story(market: SmallMarket) -> None:
        node, hand = market.nodes[0], Hand(market)
        await hand.open()
        pay = hand.pay(3, 4)
        stored = StoredVoucher(session=hand.deal.session, opened_at=market.now, leg=0, pay=pay, discharges=())
        await node.store.put(hand.session, stored)
        await market.journal.put(hand.session, stored.replace(leg=None))
        market.skipped_s += hand.deal.session.expiry + GRACE_S - market.now
        if first == "node":
            await node.redeemer.redeem_all()
        market.skipped_s += 1
        cap = hand.deal.session.legs[0].cap
        due = pay.voucher.amounts[0] if first == "node" else 0
        assert await reclaim(market.ledger, market.journal, hand.key, now=market.now) == cap - due
        await node.redeemer.redeem_all()
        assert market.free(node.key) == (due - FEE if due else 0)
        assert market.ledger.books.total() == 1_000_000

    tell(tmp_path, story)
