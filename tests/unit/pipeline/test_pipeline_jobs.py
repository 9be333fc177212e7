"""Jobs through the real provider and client code, over links in memory: what is served, paid, and given back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from counting_engine import next_token
from small_market import FEE, RATES, SmallMarket, limits_of

from node.events import JobFailed
from node.pipeline.buying.client import JobClient
from node.pipeline.buying.job import Deal, JobResult
from node.pipeline.buying.reclaim import reclaim
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.worker import InlineWorker
from protocol.errors import RefusedError, RuleError
from protocol.session.metering import Work, owed

pytestmark = pytest.mark.asyncio


def expected_tokens(prompt: Sequence[int], most: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(most):
        tokens.append(next_token(tokens[-1], len(tokens) - 1))
    return tokens[len(prompt) :]


def price(prompt: int, generated: int) -> int:
    """What each leg of the small market earns for a whole node's blocks."""
    return owed(RATES, Work(0, prompt, generated))


def held(market: SmallMarket) -> int:
    return sum(record.reserved for record in market.ledger.books.sessions.values())


async def reclaimed(market: SmallMarket) -> int:
    return await reclaim(market.ledger, market.journal, market.client_key, now=market.now)


@pytest.mark.parametrize(
    ("prompt", "most", "window", "chunk"),
    [(1, 1, 1, 1), (3, 10, 4, 8), (20, 30, 4, 8), (8, 7, 1, 3), (5, 50, 64, 512), (16, 2, 16, 8), (1, 64, 16, 8)],
)
async def test_a_job_is_served_paid_and_closed(
    market: SmallMarket, prompt: int, most: int, window: int, chunk: int
) -> None:
    tokens = tuple(range(1, prompt + 1))
    before = market.free(market.client_key)
    came, result = await market.run(market.deal(tokens, most, window=window, chunk=chunk))
    assert (result.error, result.settle_error) == (None, None)
    assert came == expected_tokens(tokens, most)
    assert result.tab.complete
    paid = [price(prompt, most)] * 3
    assert [market.free(node.key) for node in market.nodes] == paid
    assert market.free(market.client_key) == before - sum(paid) - result.operations * FEE
    assert held(market) == 0
    assert market.ledger.replayed() == market.ledger.books
    assert await market.journal.all() == {}


async def test_no_leg_asks_the_ledger_before_it_serves(market: SmallMarket) -> None:
    """The order carries the evidence that its session is open: one operation opens, one settles."""
    _, result = await market.run(market.deal((1, 2, 3), 5))
    assert result.error is None
    assert [what for what in market.ledger.asked if what != "session"] == ["open", "settle"]
    assert market.ledger.asked.index("session") > market.ledger.asked.index("settle")


async def test_a_job_is_whole_on_a_clock_of_its_own_and_without_threads(tmp_path: Path) -> None:
    """Twice the same: what the simulator lives on. The loop of these tests refuses threads."""
    outcomes = []
    for name in ("one", "two"):
        async with SmallMarket(tmp_path / name) as market:
            came, result = await market.run(market.deal((1, 2, 3, 4), 20))
            outcomes.append((came, result.pay, result.settled, market.ledger.log))
    assert outcomes[0] == outcomes[1]


async def test_many_jobs_at_once_share_passes_and_do_not_mix(tmp_path: Path) -> None:
    chance = random.Random(1)
    prompts = [tuple(chance.randrange(1, 50) for _ in range(chance.randrange(1, 20))) for _ in range(24)]
    async with SmallMarket(tmp_path, limits=limits_of(max_sessions=96)) as market:
        results = await asyncio.gather(*(market.run(market.deal(prompt, 12)) for prompt in prompts))
        for prompt, (came, result) in zip(prompts, results, strict=True):
            assert result.error is None
            assert came == expected_tokens(prompt, 12)
        assert max(market.nodes[1].engine.passes) > 1
        assert market.ledger.replayed() == market.ledger.books


async def test_a_long_prompt_is_cut_to_fit_beside_the_decode_steps_of_others(tmp_path: Path) -> None:
    limits = limits_of(idle_s=5.0)
    limits.max_chunk = 8
    async with SmallMarket(tmp_path, limits=limits) as market:
        decoding = [asyncio.create_task(market.run(market.deal((number,), 60))) for number in range(1, 5)]
        prompt = tuple(1 + number % 40 for number in range(80))
        came, result = await market.run(market.deal(prompt, 3))
        assert result.error is None
        assert came == expected_tokens(prompt, 3)
        for task in decoding:
            assert (await task)[1].error is None


async def test_a_route_may_use_some_of_a_node_s_blocks(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spans=((0, 4), (2, 6))) as market:
        for spans in (((0, 2), (2, 6)), ((0, 3), (3, 6)), ((0, 4), (4, 6))):
            came, result = await market.run(market.deal((1, 2, 3), 9, spans=spans))
            assert result.error is None
            assert came == expected_tokens((1, 2, 3), 9)
        _, result = await market.run(market.deal((1, 2, 3), 9, spans=((0, 1), (1, 6))))
        assert result.error is not None
        assert "blocks 2:6" in result.error.message
        assert result.acceptances == {}


async def test_a_refusal_gives_its_reason_and_the_money_back(market: SmallMarket) -> None:
    market.nodes[1].refuse_all = RefusedError("no places for such", code="full")
    before = market.free(market.client_key)
    came, result = await market.run(market.deal((1, 2, 3), 5))
    assert came == []
    assert result.error is not None
    assert result.error.code == "full"
    assert "blocks 2:4" in result.error.message
    # Two legs had taken the job: that is what their opening charge is for.
    assert market.free(market.client_key) == before - result.operations * FEE - 2 * RATES.opening
    assert held(market) == 0


async def test_a_refused_session_is_never_served(market: SmallMarket) -> None:
    market.nodes[1].refuse_all = RefusedError("no", code="full")
    deal = market.deal((1, 2, 3), 5)
    await market.run(deal)
    market.nodes[1].refuse_all = None
    with pytest.raises(RuleError):
        await market.run(deal)


async def killed_after(market: SmallMarket, deal: Deal, victim: int, tokens: int) -> tuple[list[int], JobResult]:
    came: list[int] = []
    async with market.client.start(deal) as job:
        async for token in job:
            came.append(token)
            if len(came) == tokens:
                await market.kill(victim)
    return came, job.result


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_provider_that_dies_ends_the_job_and_locks_only_its_own_reserve(
    market: SmallMarket, victim: int
) -> None:
    deal = market.deal((1, 2, 3), 40)
    came, result = await killed_after(market, deal, victim, 10)
    assert result.error is not None
    assert result.error.code == "provider-lost"
    assert f"leg {victim} " in result.error.message
    assert len(came) >= 10
    assert came == expected_tokens((1, 2, 3), len(came))
    # What was served is paid, to the dead one too; only its own rest waits for the end of the grace.
    for node in market.nodes:
        if node.alive:
            await node.redeemer.redeem_all()
    due = price(3, len(came))
    for node in market.nodes:
        # Legs may have served, paid ahead, a little more than came; who redeems that pays a fee for it.
        assert due - FEE <= market.free(node.key) <= price(3, len(came) + 2 * 4)
    rest = deal.session.legs[victim].cap - market.free(market.nodes[victim].key)
    assert held(market) == rest > 0
    market.skipped_s += 10_000
    assert await reclaimed(market) == rest
    assert held(market) == 0
    assert await market.journal.all() == {}


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_node_that_is_stopped_ends_its_jobs_with_a_reason_and_frees_them(
    market: SmallMarket, victim: int
) -> None:
    node, stopping = market.nodes[victim], []
    came: list[int] = []
    async with market.client.start(market.deal((1, 2, 3), 200)) as job:
        async for token in job:
            came.append(token)
            if len(came) == 5:
                stopping.append(asyncio.create_task(node.stop()))
    await stopping[0]
    assert job.result.error is not None
    assert job.result.error.code == "shutdown"
    assert "shutting down" in job.result.error.message
    assert node.engine.sessions == 0


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_the_first_job_after_a_node_came_back_is_served(market: SmallMarket, victim: int) -> None:
    assert (await market.run(market.deal((1, 2, 3), 5)))[1].error is None
    await market.kill(victim)
    await market.revive(victim)
    assert (await market.run(market.deal((1, 2, 3), 5)))[1].error is None


async def test_a_lost_link_ends_the_jobs_that_went_over_it_and_no_others(market: SmallMarket) -> None:
    """A key that has a part in many sessions loses one of its links: the sessions on its other links go on."""
    other = JobClient(market.side_of(market.client_key, VoucherStore(market.folder / "other", InlineWorker())))
    long = asyncio.create_task(market.run(market.deal((1, 2, 3), 60), other))
    came: list[int] = []
    async with market.client.start(market.deal((4, 5), 60)) as job:
        async for token in job:
            came.append(token)
            if len(came) == 5:
                held = market.nodes[1].provider._places.get(job.result.tab.id)
                assert held is not None
                assert held.client is not None
                held.client.link.cut()  # type: ignore[attr-defined]
    assert job.result.error is not None
    tokens, result = await long
    assert result.error is None
    assert tokens == expected_tokens((1, 2, 3), 60)


async def test_a_client_that_vanishes_costs_no_node_anything_but_its_credit(tmp_path: Path) -> None:
    for credit in (0, 4):
        async with SmallMarket(tmp_path / str(credit), limits=limits_of(credit=credit)) as market:
            came: list[int] = []

            async def vanish(market: SmallMarket = market, came: list[int] = came) -> None:
                async with market.client.start(market.deal((1, 2, 3), 40)) as job:
                    async for token in job:
                        came.append(token)
                        if len(came) == 9:
                            market.ledger.down = True
                            for link in market.network.dialled[market.client_key.public_key]:
                                link.cut()

            await vanish()
            market.ledger.down = False
            for node in market.nodes:
                await node.redeemer.redeem_all()
                (failed,) = node.events_of(JobFailed)
                assert isinstance(failed, JobFailed)
                assert failed.paid_micro >= price(failed.tokens_in, failed.tokens_out - credit)
                assert (
                    market.free(node.key) == failed.paid_micro - FEE or market.free(node.key) >= failed.paid_micro - 3
                )
                await node.stop()
                assert node.engine.sessions == 0


async def test_a_client_that_stops_pays_what_came_and_has_the_rest_back(market: SmallMarket) -> None:
    came: list[int] = []
    async with market.client.start(market.deal((1, 2, 3), 40)) as job:
        async for token in job:
            came.append(token)
            if len(came) == 7:
                break
    result = job.result
    assert result.error is not None
    assert result.error.code == "cancelled"
    for node in market.nodes:
        await node.redeemer.redeem_all()
    assert held(market) == 0
    paid = [market.free(node.key) for node in market.nodes]
    # Legs may have served, paid ahead, a little more than was looked at.
    assert all(price(3, 7) <= each <= price(3, 7 + 4) for each in paid)


async def test_a_caller_that_is_cancelled_sees_it_after_the_money_is_seen_to(market: SmallMarket) -> None:
    results: list[JobResult] = []

    async def impatient() -> None:
        async with market.client.start(market.deal((1, 2, 3), 200)) as job:
            results.append(job.result)
            async for _ in job:
                asyncio.get_running_loop().call_soon(task.cancel)

    task = asyncio.create_task(impatient())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert results[0].settled is not None
    for node in market.nodes:
        await node.redeemer.redeem_all()
    assert held(market) == 0


async def test_a_callers_timeout_is_a_timeout(market: SmallMarket) -> None:
    market.nodes[2].engine.forward = lambda items: []  # type: ignore[method-assign, assignment]

    async def in_time() -> None:
        async with asyncio.timeout(1.0):
            await market.run(market.deal((1, 2, 3), 20))

    with pytest.raises(TimeoutError):
        await in_time()


async def test_the_ledger_going_down_in_mid_job_loses_no_voucher(market: SmallMarket) -> None:
    async with market.client.start(market.deal((1, 2, 3), 20)) as job:
        async for _ in job:
            market.ledger.down = True
    assert job.result.error is None
    assert job.result.settle_error is not None
    assert job.result.settle_error.code == "unreachable"
    market.ledger.down = False
    for node in market.nodes:
        await node.redeemer.redeem_all()
    # The first to redeem pays the fee, and with its own voucher everyone's.
    assert sum(market.free(node.key) for node in market.nodes) == 3 * price(3, 20) - FEE


async def test_what_legs_gave_up_is_shown_to_the_ledger_at_the_next_run(market: SmallMarket) -> None:
    """The ledger was away when the job ended early: the discharges are kept, and free the rest without any grace."""
    came: list[int] = []
    async with market.client.start(market.deal((1, 2, 3), 40)) as job:
        async for token in job:
            came.append(token)
            if len(came) == 5:
                market.ledger.down = True
                break
    assert job.result.settle_error is not None
    market.ledger.down = False
    for node in market.nodes:
        await node.redeemer.redeem_all()
    assert held(market) > 0
    assert await reclaimed(market) > 0
    assert held(market) == 0


async def test_a_restarted_node_redeems_what_it_was_promised(market: SmallMarket) -> None:
    async with market.client.start(market.deal((1, 2, 3), 20)) as job:
        async for _ in job:
            market.ledger.down = True
    market.ledger.down = False
    await market.kill(2)
    await market.revive(2)
    (stored,) = (await market.nodes[2].store.all()).values()
    assert stored.pay is not None
    assert stored.pay.voucher.amounts[2] == price(3, 20)
    await market.nodes[2].redeemer.redeem_all()
    assert market.free(market.nodes[2].key) == price(3, 20) - FEE
    assert job.result.error is None


async def test_several_processes_of_one_key_may_take_money_back_at_once(market: SmallMarket) -> None:
    deal = market.deal((1, 2, 3), 40)
    await killed_after(market, deal, 1, 5)
    left = held(market)
    assert left > 0
    market.skipped_s += 10_000
    all_have_looked = asyncio.Barrier(3)
    close = market.ledger.close

    async def late(*given: object) -> bytes:
        await all_have_looked.wait()
        return await close(*given)  # type: ignore[arg-type]

    market.ledger.close = late  # type: ignore[method-assign]
    journals = [market.journal, *(VoucherStore(market.folder / "client", InlineWorker()) for _ in range(2))]
    back = await asyncio.gather(*(reclaim(market.ledger, each, market.client_key, now=market.now) for each in journals))
    assert sorted(back) == [0, 0, left]
    assert held(market) == 0
    assert await market.journal.all() == {}


async def test_a_session_that_another_process_has_done_with_is_passed_over(market: SmallMarket, tmp_path: Path) -> None:
    store = VoucherStore(tmp_path / "store", InlineWorker())
    stored = StoredVoucher(session=market.deal((1,), 1).session, opened_at=1, leg=None, pay=None, discharges=())
    await store.put(b"\x01" * 32, stored)
    # Listed, but no longer there when it is read.
    (tmp_path / "store" / f"{'02' * 32}.voucher").symlink_to(tmp_path / "gone")
    assert await store.all() == {b"\x01" * 32: stored}


async def outcome(market: SmallMarket, deal: Deal, stop_at: int, victim: int | None) -> str:
    """How a job ends that its client stops, or that a node dies in, after so many tokens."""
    came = 0
    try:
        async with market.client.start(deal) as job:
            async for _ in job:
                came += 1
                if came == stop_at and victim is not None:
                    await market.kill(victim)
                elif came == stop_at:
                    break
    except RuleError as error:
        return error.code
    finally:
        if victim is not None and not market.nodes[victim].alive:
            await market.revive(victim)
    return "done" if job.result.error is None else job.result.error.code


@pytest.mark.slow
async def test_money_is_conserved_over_hundreds_of_jobs_with_deaths_refusals_and_overspends(tmp_path: Path) -> None:
    chance = random.Random(7)
    async with SmallMarket(tmp_path) as market:
        deposited, outcomes = 1_000_000, dict[str, int]()
        for _ in range(80):
            for node in market.nodes:
                node.refuse_all = RefusedError("no room", code="full") if chance.random() < 0.05 else None
            most = 10**6 if chance.random() < 0.05 else chance.randrange(1, 30)
            deal = market.deal((1, 2), most, window=chance.randrange(1, 6))
            victim = chance.randrange(3) if chance.random() < 0.15 else None
            name = await outcome(market, deal, chance.randrange(1, 60), victim)
            outcomes[name] = outcomes.get(name, 0) + 1
            assert market.ledger.books.total() == deposited
        assert set(outcomes) >= {"done", "full", "cancelled", "balance", "provider-lost"}, outcomes
        # Once every grace has ended, everything that was held has gone to a provider or back to the client.
        market.skipped_s += 10_000
        await reclaimed(market)
        assert held(market) == 0
        assert market.ledger.books.total() == deposited
        assert market.ledger.replayed() == market.ledger.books
