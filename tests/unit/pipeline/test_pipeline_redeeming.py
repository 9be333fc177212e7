"""How a node redeems: together, for a fee that is worth it, never too late; and what its journal has of it."""

from __future__ import annotations

import pytest
from hand_client import Hand, expect, send
from small_market import FEE, GRACE_S, SmallMarket

from node.earnings import Kept
from node.events import BondTooSmall, Event, JournalNotKept, VoucherNotRedeemable, VoucherRedeemed
from node.pipeline.serving.bonds import BondWatch
from node.pipeline.vouchers import StoredVoucher
from protocol.errors import RefusedError, RuleError
from protocol.serving.earnings import JobRecord
from protocol.session.frames import Sampled
from protocol.settlement.operations import MAX_SETTLED, Settle

pytestmark = pytest.mark.asyncio


async def promise(market: SmallMarket, amount: int, *, expiry_s: int = 600, node: int = 0) -> Hand:
    """A voucher for so much on the disk of a node, of a session that is over."""
    hand = Hand(market, expiry_s=expiry_s)
    await hand.open()
    others = len(market.nodes) - 1
    pay = hand.pay(3, 1, amounts=(amount, *[0] * others))
    await market.nodes[node].store.put(
        hand.session,
        StoredVoucher(session=hand.deal.session, opened_at=market.now, leg=0, pay=pay, discharges=()),
    )
    market.nodes[node].redeemer._loaded = False  # as a start finds it
    return hand


def settles(market: SmallMarket) -> list[int]:
    """How many vouchers each settlement had."""
    found = []
    for entry in market.ledger.log:
        action = entry.op.read()
        if isinstance(action, Settle):
            found.append(len(action.vouchers))
    return found


async def books(market: SmallMarket, node: int = 0) -> Kept:
    await market.nodes[node].journal.written()
    return market.nodes[node].tables.read()


async def only_job(market: SmallMarket, node: int = 0) -> JobRecord:
    (job,) = (await books(market, node)).jobs
    return job


async def test_eight_vouchers_share_one_fee(shop: SmallMarket) -> None:
    for _ in range(MAX_SETTLED + 1):
        await promise(shop, 20)
    await shop.nodes[0].redeemer.redeem_all()
    assert settles(shop) == [MAX_SETTLED, 1]
    assert shop.free(shop.nodes[0].key) == 20 * (MAX_SETTLED + 1) - 2 * FEE
    assert await shop.nodes[0].store.all() == {}
    kept = await books(shop)
    assert sum(job.paid for job in kept.jobs) == 20 * (MAX_SETTLED + 1)
    assert sum(job.fees for job in kept.jobs) == 2 * FEE
    assert len({job.entry for job in kept.jobs}) == 2


@pytest.mark.parametrize(("count", "redeems"), [(1, False), (2, True)])
async def test_what_a_fee_would_eat_up_waits_for_company(shop: SmallMarket, count: int, redeems: bool) -> None:
    shop.nodes[0].redeemer._fee_share_ppm = 50_000
    for _ in range(count):
        await promise(shop, 10)
        await shop.nodes[0].redeemer.redeem_all()
    assert settles(shop) == ([2] if redeems else [])


@pytest.mark.parametrize(("at", "redeems"), [(-1, False), (0, True)])
async def test_what_waits_is_redeemed_when_its_session_expires(shop: SmallMarket, at: int, redeems: bool) -> None:
    shop.nodes[0].redeemer._fee_share_ppm = 50_000
    hand = await promise(shop, 2)
    shop.skipped_s += hand.deal.session.expiry + at - shop.now
    await shop.nodes[0].redeemer.redeem_all()
    assert bool(settles(shop)) is redeems


async def test_gas_is_weighed_as_a_fee_is_and_taken_from_nobody(shop: SmallMarket) -> None:
    shop.ledger.gas = 5
    await promise(shop, 5)
    node = shop.nodes[0]
    await node.redeemer.redeem_all()
    assert settles(shop) == [], "it costs more than it brings"
    await promise(shop, 20)
    await node.redeemer.redeem_all()
    assert settles(shop) == [2]
    assert shop.free(node.key) == 25 - FEE
    assert sum(job.fees for job in (await books(shop)).jobs) == 5 + FEE


async def test_what_is_worth_no_more_than_a_fee_goes_along_with_others(shop: SmallMarket) -> None:
    """Alone it is never redeemed, and forgotten when its grace is over."""
    small, late = await promise(shop, FEE), await promise(shop, FEE, expiry_s=900)
    node = shop.nodes[0]
    await node.redeemer.redeem_all()
    assert settles(shop) == [2]  # together they bring more than they cost
    lone = await promise(shop, FEE)
    await node.redeemer.redeem_all()
    assert set(await node.store.all()) == {lone.session}
    shop.skipped_s += lone.deal.session.expiry + GRACE_S + 1 - shop.now
    await node.redeemer.redeem_all()
    assert await node.store.all() == {}
    assert settles(shop) == [2]
    assert {small.session, late.session} == {job.session for job in (await books(shop)).jobs if job.paid}
    (lost,) = [job for job in (await books(shop)).jobs if job.session == lone.session]
    assert (lost.earned, lost.gross, lost.closed) == (FEE, 0, True)


async def test_a_node_that_stops_holds_nothing_back(shop: SmallMarket) -> None:
    shop.nodes[0].redeemer._fee_share_ppm = 1
    await promise(shop, 10)
    await shop.nodes[0].redeemer.redeem_all()
    assert settles(shop) == []
    await shop.nodes[0].redeemer.redeem_all(last=True)
    assert settles(shop) == [1]


async def test_a_node_hears_that_its_bond_is_too_small(shop: SmallMarket) -> None:
    node, told = shop.nodes[0], list[Event]()
    await promise(shop, 20)
    promised = list((await node.store.all()).values())
    watch = BondWatch(shop.ledger, node.key.address, told.append)
    for multiple, found in ((0, 0), (3, 1), (3, 1), (0, 1), (3, 2)):
        shop.ledger.bond_multiple = multiple
        await watch.look(promised)
        assert len(told) == found
    assert told[0] == BondTooSmall(promised_micro=20, bond_micro=0, multiple=3)
    await watch.look([])
    assert len(told) == 2


async def test_one_that_its_client_has_settled_does_not_spoil_the_others(shop: SmallMarket) -> None:
    node, hands = shop.nodes[0], [await promise(shop, 20) for _ in range(3)]
    node.redeemer._fee_share_ppm = 1  # looked up, and held back
    await node.redeemer.redeem_all()
    await shop.ledger.settle([hands[1].pay(3, 1, amounts=(20,))], shop.client_key)
    node.redeemer._fee_share_ppm = 1_000_000
    await node.redeemer.redeem_all()
    assert settles(shop) == [1, 1, 1]
    shop.skipped_s += 60
    await node.redeemer.redeem_all()
    assert await node.store.all() == {}
    assert shop.free(node.key) == 3 * 20 - 2 * FEE
    by_session = {job.session: job for job in (await books(shop)).jobs}
    assert [by_session[hand.session].fees for hand in hands] == [FEE, 0, FEE]
    assert all(job.paid == 20 for job in by_session.values())
    assert not node.events_of(VoucherNotRedeemable)


async def test_a_held_voucher_is_not_asked_about_again_and_again(shop: SmallMarket) -> None:
    shop.nodes[0].redeemer._fee_share_ppm = 1
    await promise(shop, 10, expiry_s=80 * 24 * 3600)
    for _ in range(100):
        await shop.nodes[0].redeemer.redeem_all()
        shop.skipped_s += 3600
    assert shop.ledger.asked.count("session") == 1


# A venue whose word is wrong: it is behind, or lies


async def knows_nothing(*_: object) -> None:
    """As a node of a chain that is behind."""


async def refuses(*_: object) -> bytes:
    raise RuleError("the marks are not those", code="stale")


@pytest.mark.parametrize(("asked", "says", "told"), [("latest", knows_nothing, 0), ("settle", refuses, 1)])
@pytest.mark.parametrize("at", [0, GRACE_S - 20])
async def test_no_word_of_a_venue_costs_a_voucher_that_may_be_good(
    shop: SmallMarket, monkeypatch: pytest.MonkeyPatch, asked: str, says: object, told: int, at: int
) -> None:
    hand, node = await promise(shop, 20), shop.nodes[0]
    end = hand.deal.session.expiry + GRACE_S
    with monkeypatch.context() as wrong:
        wrong.setattr(shop.ledger, asked, says)
        shop.skipped_s += hand.deal.session.expiry + at - shop.now
        await node.redeemer.redeem_all()
    shop.skipped_s += min(30, end - shop.now)
    await node.redeemer.redeem_all()
    assert shop.free(node.key) == 20 - FEE
    assert await node.store.all() == {}
    assert len(node.events_of(VoucherNotRedeemable)) == told


@pytest.mark.parametrize(("asked", "says", "told"), [("latest", knows_nothing, 0), ("settle", refuses, 1)])
async def test_after_the_grace_a_voucher_is_given_up(
    shop: SmallMarket, monkeypatch: pytest.MonkeyPatch, asked: str, says: object, told: int
) -> None:
    hand, node = await promise(shop, 20), shop.nodes[0]
    monkeypatch.setattr(shop.ledger, asked, says)
    await node.redeemer.redeem_all()
    assert len(await node.store.all()) == 1
    shop.skipped_s += hand.deal.session.expiry + GRACE_S + 1 - shop.now
    await node.redeemer.redeem_all()
    assert await node.store.all() == {}
    assert len(node.events_of(VoucherNotRedeemable)) == told


# The journal


async def test_a_job_is_in_the_journal_with_what_it_took_and_brought(market: SmallMarket) -> None:
    await market.run(market.deal((1, 2, 3), 8))
    for number, node in enumerate(market.nodes):
        await node.redeemer.redeem_all()
        job = await only_job(market, number)
        assert (job.client, job.leg, job.blocks) == (market.client_key.address, number, str(node.span))
        assert (job.outcome, job.tokens_in, job.tokens_out) == ("served", 3, 8)
        assert job.rows == 3 + 8 - 1
        assert job.millijoules == 10 * 3 + 20 * 7
        assert (job.source, job.energy_price, job.pue_milli) == ("wall", 100_000, 1_100)
        assert job.earned == job.paid == market.free(node.key)
        assert (job.closed, job.fees) == (True, 0)
        assert job.entry is not None
        assert 0 < int(job.entry) < len(market.ledger.log)


async def test_a_job_that_failed_is_in_the_journal_with_the_reason(shop: SmallMarket) -> None:
    hand = Hand(shop)
    link = await hand.accepted()
    await send(link, *hand.prompt())
    await expect(link, Sampled)
    job = await only_job(shop)
    assert (job.outcome, job.ended_at, job.earned, job.closed) == ("running", None, 0, False)
    await link.close()
    await shop.nodes[0].provider.stop()
    job = await only_job(shop)
    assert job.outcome in ("client-gone", "shutdown")
    assert job.earned > 0
    assert job.paid == 0
    await shop.nodes[0].redeemer.redeem_all()
    job = await only_job(shop)
    assert (job.paid, job.fees, job.closed) == (job.earned, FEE, True)
    assert shop.free(shop.nodes[0].key) == job.paid - FEE


async def test_a_refused_order_is_no_job(shop: SmallMarket) -> None:
    shop.nodes[0].refuse_all = RefusedError("not now", code="full")
    hand = Hand(shop)
    await hand.open()
    await hand.ask()
    await shop.nodes[0].redeemer.redeem_all()
    assert (await books(shop)).jobs == ()


async def test_a_job_that_a_crash_has_cut_off_is_known_by_its_voucher(market: SmallMarket) -> None:
    """Nothing of it was written: its tokens and money are those that the voucher names, its energy is not known."""
    async with market.client.start(market.deal((1, 2, 3), 20)) as job:
        async for _ in job:
            market.ledger.down = True
    market.ledger.down = False
    node = market.nodes[2]
    node.tables._file._path.unlink(missing_ok=True)
    await market.kill(2)
    await market.revive(2)
    node = market.nodes[2]
    await node.redeemer.redeem_all()
    cut = await only_job(market, 2)
    assert (cut.outcome, cut.tokens_in, cut.tokens_out, cut.millijoules) == ("cut", 3, 20, None)
    assert (cut.paid, cut.fees) == (market.free(node.key) + FEE, FEE)


async def test_a_payment_that_a_crash_came_after_is_taken_down_at_the_next_start(shop: SmallMarket) -> None:
    """Settled by this node's own operation, and nothing of that on its disk."""
    hand = await promise(shop, 20)
    node = shop.nodes[0]
    await shop.ledger.settle([hand.pay(3, 1, amounts=(20,))], node.key)
    await node.redeemer.redeem_all()
    job = await only_job(shop)
    assert (job.paid, job.fees, job.entry) == (20, FEE, str(len(shop.ledger.log) - 1))
    assert not node.events_of(VoucherRedeemed)
    # Noted once more, as after a crash between the journal and the voucher's end, it does not count twice.
    await node.store.put(
        hand.session,
        StoredVoucher(
            session=hand.deal.session, opened_at=shop.now, leg=0, pay=hand.pay(3, 1, amounts=(20,)), discharges=()
        ),
    )
    await shop.kill(0)
    (shop.folder / "node0" / "seen").unlink(missing_ok=True)
    await shop.revive(0)
    await shop.nodes[0].redeemer.redeem_all()
    again = await only_job(shop)
    assert (again.paid, again.fees) == (20, FEE)


async def test_a_journal_that_cannot_be_written_stops_no_money(shop: SmallMarket) -> None:
    node = shop.nodes[0]
    node.tables._file._path.parent.mkdir(exist_ok=True)
    node.tables._file._path.write_bytes(b"no database" * 500)
    await promise(shop, 20)
    await promise(shop, 20)
    await node.redeemer.redeem_all()
    assert shop.free(node.key) == 2 * 20 - FEE
    assert await node.store.all() == {}
    assert len(node.events_of(JournalNotKept)) == 1
    node.tables._file._path.unlink()
    assert sum(job.paid for job in (await books(shop)).jobs) == 40


async def test_strangers_fill_no_disk_with_vouchers_that_are_worth_nothing(
    shop: SmallMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.pipeline.serving.redeem.MOST_SMALL", 2)
    shop.nodes[0].redeemer._fee_share_ppm = 1
    for _ in range(5):
        await promise(shop, FEE)
        await shop.nodes[0].redeemer.redeem_all()
    assert len(await shop.nodes[0].store.all()) == 2
