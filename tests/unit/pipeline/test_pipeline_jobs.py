"""Jobs through the real provider and client code, over links in memory: what is served, paid, and given back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from counting_engine import next_token
from node.pipeline.admission import ProviderLimits
from node.pipeline.client import JobResult
from node.pipeline.reclaim import reclaim
from small_market import MANIFEST, MemoryLedger, SmallMarket

from node.events import JobFailed
from node.pipeline.vouchers import StoredVoucher, VoucherStore
from node.ports import Proven
from protocol.codec import Message
from protocol.errors import LostPeerError, RefusedError, RuleError
from protocol.frames import Pay
from protocol.metering import leg_amount
from protocol.order import JobOrder
from protocol.signing import SigningKey


@pytest_asyncio.fixture
async def market(tmp_path: Path) -> AsyncIterator[SmallMarket]:
    made = SmallMarket(tmp_path)
    yield made
    await made.close()


def expected_tokens(prompt: list[int], most: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(most):
        tokens.append(next_token(tokens[-1], len(tokens) - 1))
    return tokens


async def run(market: SmallMarket, prompt: list[int], most: int, **changes: int) -> JobResult:
    order = market.order(len(prompt), most, **changes)
    return await asyncio.wait_for(market.client.run(order, MANIFEST, prompt, lambda token: None), 20)


async def reclaimed(market: SmallMarket) -> int:
    return await reclaim(market.ledger, market.journal, market.client_key, grace_s=60, now=market.now)


def held(market: SmallMarket) -> int:
    return sum(record.reserved for record in market.ledger.books.sessions.values())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("prompt", "most", "window", "chunk"), [(1, 1, 1, 1), (3, 10, 4, 8), (20, 30, 4, 8), (8, 7, 1, 3), (5, 50, 64, 512)]
)
async def test_a_job_is_served_paid_and_closed(
    market: SmallMarket, prompt: int, most: int, window: int, chunk: int
) -> None:
    tokens = list(range(1, prompt + 1))
    before = market.free(market.client_key)
    result = await run(market, tokens, most, window=window, chunk=chunk)
    assert result.error is None
    assert result.settle_error is None
    assert result.tab.tokens == expected_tokens(tokens, most)
    paid = [leg_amount(leg, prompt, most) for leg in result.order.session.legs]
    assert [market.free(node.key) for node in market.nodes] == paid
    assert market.free(market.client_key) == before - sum(paid)
    assert held(market) == 0
    assert market.ledger.replayed() == market.ledger.books
    assert await market.journal.all() == {}


@pytest.mark.asyncio
async def test_many_jobs_at_once_share_passes_and_do_not_mix(market: SmallMarket) -> None:
    chance = random.Random(1)
    prompts = [[chance.randrange(1, 50) for _ in range(chance.randrange(1, 20))] for _ in range(24)]
    results = await asyncio.gather(*(run(market, prompt, 12) for prompt in prompts))
    for prompt, result in zip(prompts, results, strict=True):
        assert result.error is None
        assert result.tab.tokens == expected_tokens(prompt, 12)
    assert max(market.nodes[1].engine.passes) > 1
    assert market.ledger.replayed() == market.ledger.books


@pytest.mark.asyncio
async def test_a_long_prompt_is_cut_to_fit_beside_the_decode_steps_of_others(tmp_path: Path) -> None:
    market = SmallMarket(tmp_path, limits=ProviderLimits(idle_s=5.0, max_chunk=8))
    decoding = [asyncio.create_task(run(market, [number], 60)) for number in range(1, 5)]
    prompt = [1 + number % 40 for number in range(80)]
    result = await run(market, prompt, 3)
    assert result.error is None
    assert result.tab.tokens == expected_tokens(prompt, 3)
    assert not all(task.done() for task in decoding)  # it did not have to wait until the machine was free
    for task in decoding:
        assert (await task).error is None
    await market.close()


@pytest.mark.asyncio
async def test_a_route_may_use_some_of_a_node_s_blocks(tmp_path: Path) -> None:
    market = SmallMarket(tmp_path, spans=((0, 4), (2, 6)))
    for spans in (((0, 2), (2, 6)), ((0, 3), (3, 6)), ((0, 4), (4, 6))):
        order = market.order(3, 9, spans=spans)
        result = await market.client.run(order, MANIFEST, [1, 2, 3], lambda token: None)
        assert result.error is None
        assert result.tab.tokens == expected_tokens([1, 2, 3], 9)
    order = market.order(3, 9, spans=((0, 1), (1, 6)))
    result = await market.client.run(order, MANIFEST, [1, 2, 3], lambda token: None)
    assert result.error is not None
    assert result.error.code == "span"
    assert held(market) == 0
    await market.close()


@pytest.mark.asyncio
async def test_a_refusal_gives_its_reason_and_the_money_back(market: SmallMarket) -> None:
    market.nodes[1].refuse_all = RefusedError("the price is below my floor", code="below-floor")
    before = market.free(market.client_key)
    result = await run(market, [1, 2, 3], 5)
    assert result.error is not None
    assert result.error.code == "below-floor"
    assert "blocks 2:4" in result.error.message
    assert market.free(market.client_key) == before
    assert held(market) == 0


@pytest.mark.asyncio
async def test_a_refused_session_is_never_served(market: SmallMarket) -> None:
    market.nodes[1].refuse_all = RefusedError("no", code="below-floor")
    order = market.order(3, 5)
    await market.client.run(order, MANIFEST, [1, 2, 3], lambda token: None)
    market.nodes[1].refuse_all = None
    with pytest.raises(RuleError):
        await market.client.run(order, MANIFEST, [1, 2, 3], lambda token: None)


@pytest.mark.asyncio
@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_provider_that_dies_ends_the_job_cleanly(market: SmallMarket, victim: int) -> None:
    tokens = [1, 2, 3]
    order = market.order(3, 40)
    seen = []

    def on_token(token: int) -> None:
        seen.append(token)
        if len(seen) == 10:
            market.kill(victim)

    result = await asyncio.wait_for(market.client.run(order, MANIFEST, tokens, on_token), 20)
    assert result.error is not None
    assert result.error.code == "provider-lost"
    assert f"leg {victim} " in result.error.message
    came = result.tab.generated
    assert came >= 10
    assert result.tab.tokens == expected_tokens(tokens, came)
    # What was served is paid, to the dead one too; the rest waits for the end of the grace.
    owed = [leg_amount(leg, 3, came) for leg in order.session.legs]
    assert [market.free(node.key) for node in market.nodes] == owed
    assert held(market) == sum(leg.cap for leg in order.session.legs) - sum(owed)
    market.now = order.session.expiry + 61
    assert await reclaimed(market) == sum(leg.cap for leg in order.session.legs) - sum(owed)
    assert held(market) == 0
    assert await market.journal.all() == {}


@pytest.mark.asyncio
async def test_several_processes_of_one_key_may_take_money_back_at_once(market: SmallMarket) -> None:
    order, victims = market.order(3, 40), [1]

    def on_token(token: int) -> None:
        if victims:
            market.kill(victims.pop())

    await market.client.run(order, MANIFEST, [1, 2, 3], on_token)
    left = held(market)
    assert left > 0
    market.now = order.session.expiry + 61
    all_have_looked = asyncio.Barrier(3)

    class Late(MemoryLedger):
        async def submit(self, action: Message, key: SigningKey) -> Proven:
            await all_have_looked.wait()
            return await super().submit(action, key)

    market.ledger.__class__ = Late
    journals = [market.journal, *(VoucherStore(market.folder / "client") for _ in range(2))]
    back = await asyncio.gather(
        *(reclaim(market.ledger, each, market.client_key, grace_s=60, now=market.now) for each in journals)
    )
    assert sorted(back) == [0, 0, left]
    assert held(market) == 0
    assert await market.journal.all() == {}


@pytest.mark.asyncio
async def test_a_session_that_another_process_has_done_with_is_passed_over(tmp_path: Path) -> None:
    store = VoucherStore(tmp_path)
    stored = StoredVoucher(session=SmallMarket(tmp_path / "market").order(1, 1).session, opened_at=1, pay=None)
    await store.put(b"\x01" * 32, stored)
    (tmp_path / f"{'02' * 32}.voucher").symlink_to(tmp_path / "gone")  # listed, but no longer there when it is read
    assert await store.all() == {b"\x01" * 32: stored}


@pytest.mark.asyncio
async def test_the_leg_that_is_gone_is_named_though_its_neighbours_tell_first(market: SmallMarket) -> None:
    """Its neighbours have seen it go, and nothing can be sent to it, before the client's own link says so."""
    victim, client_key = market.nodes[1], market.client_key.public_key
    seen: list[int] = []

    async def broken(header: bytes, payload: bytes | memoryview = b"") -> None:
        asyncio.get_running_loop().call_later(0.05, near._inbox.put_nowait, None)
        raise LostPeerError("broken pipe")

    def on_token(token: int) -> None:
        nonlocal near
        seen.append(token)
        if len(seen) == 10:
            (near,) = (link for link in market.network.dialled[client_key] if link.public_key == victim.key.public_key)
            near.send = broken  # type: ignore[method-assign]
            for link in (*market.network.links[victim.address], *market.network.dialled[victim.key.public_key]):
                link._outbox = asyncio.Queue() if link.public_key == client_key else link._outbox
                if link.public_key != client_key:
                    link.cut()

    near: Any = None
    result = await asyncio.wait_for(market.client.run(market.order(3, 40), MANIFEST, [1, 2, 3], on_token), 20)
    assert result.error is not None
    assert result.error.code == "provider-lost"
    assert "leg 1 (blocks 2:4) is gone" in result.error.message


@pytest.mark.asyncio
@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_node_that_is_stopped_ends_its_jobs_with_a_reason_and_frees_them(
    market: SmallMarket, victim: int
) -> None:
    node = market.nodes[victim]
    seen: list[int] = []
    stopping: list[asyncio.Task[None]] = []

    async def stop() -> None:
        node.task.cancel()
        await asyncio.wait([node.task])
        await node.provider.stop()

    def on_token(token: int) -> None:
        seen.append(token)
        if len(seen) == 5:
            stopping.append(asyncio.create_task(stop()))

    result = await asyncio.wait_for(market.client.run(market.order(3, 200), MANIFEST, [1, 2, 3], on_token), 20)
    await stopping[0]
    assert result.error is not None
    assert result.error.code == "shutdown"
    assert "shutting down" in result.error.message
    assert node.engine.sessions == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_the_first_job_after_a_node_came_back_is_served(market: SmallMarket, victim: int) -> None:
    assert (await run(market, [1, 2, 3], 5)).error is None
    market.kill(victim)
    market.revive(victim)
    assert (await run(market, [1, 2, 3], 5)).error is None


@pytest.mark.asyncio
async def test_a_client_that_vanishes_costs_each_node_at_most_a_window(market: SmallMarket) -> None:
    order = market.order(3, 40, window=4)
    task: asyncio.Task[JobResult]

    def on_token(token: int) -> None:
        if len(seen := [*result_tokens, token]) == 9:
            for links in market.network.links.values():
                for link in links:
                    if link.public_key == market.client_key.public_key:
                        link.cut()
            task.get_loop().call_soon(task.cancel)
        result_tokens[:] = seen

    result_tokens: list[int] = []
    task = asyncio.create_task(market.client.run(order, MANIFEST, [1, 2, 3], on_token))
    await asyncio.wait([task], timeout=20)
    for node in market.nodes:
        await node.redeemer.redeem_all()
        (failed,) = [event for event in node.events if isinstance(event, JobFailed)]
        leg = order.session.legs[failed.leg]
        assert failed.paid_micro >= leg_amount(leg, failed.tokens_in, failed.tokens_out - 4)
        await node.provider.stop()
        assert node.engine.sessions == 0
        assert market.free(node.key) >= failed.paid_micro


@pytest.mark.asyncio
async def test_a_client_that_stops_pays_what_came_and_has_the_rest_back(market: SmallMarket) -> None:
    order = market.order(3, 40)
    seen: list[int] = []

    def on_token(token: int) -> None:
        seen.append(token)
        if len(seen) == 7:
            task.cancel()

    task = asyncio.create_task(market.client.run(order, MANIFEST, [1, 2, 3], on_token))
    result = await asyncio.wait_for(task, 20)
    assert result.error is not None
    assert result.error.code == "cancelled"
    assert result.closed is not None
    assert held(market) == 0
    assert market.free(market.nodes[0].key) == leg_amount(order.session.legs[0], 3, result.tab.generated)


@pytest.mark.asyncio
async def test_the_ledger_going_down_in_mid_job_loses_no_voucher(market: SmallMarket) -> None:
    order = market.order(3, 20)

    def on_token(token: int) -> None:
        market.ledger.down = True

    result = await asyncio.wait_for(market.client.run(order, MANIFEST, [1, 2, 3], on_token), 20)
    assert result.error is None
    assert result.settle_error is not None
    assert result.settle_error.code == "unreachable"
    market.ledger.down = False
    for node in market.nodes:
        await node.redeemer.redeem_all()
    assert [market.free(node.key) for node in market.nodes] == [leg_amount(order.session.legs[0], 3, 20)] * 3


@pytest.mark.asyncio
async def test_a_restarted_node_redeems_what_it_was_promised(market: SmallMarket) -> None:
    order = market.order(3, 20)

    def on_token(token: int) -> None:
        market.ledger.down = True

    await asyncio.wait_for(market.client.run(order, MANIFEST, [1, 2, 3], on_token), 20)
    market.ledger.down = False
    stored = await market.nodes[2].store.all()
    assert len(stored) == 1
    (voucher,) = stored.values()
    assert isinstance(voucher.pay, Pay)
    assert (voucher.pay.voucher.tokens_in, voucher.pay.voucher.tokens_out) == (3, 20)


async def _outcome(market: SmallMarket, order: JobOrder, stop_at: int, victim: int | None) -> str:
    """How a job ends that its client stops, or that a node dies in, after so many tokens."""
    seen: list[int] = []

    def on_token(token: int) -> None:
        seen.append(token)
        if len(seen) == stop_at and victim is not None:
            market.kill(victim)
        elif len(seen) == stop_at:
            task.cancel()

    task = asyncio.create_task(market.client.run(order, MANIFEST, [1, 2], on_token))
    try:
        result = await asyncio.wait_for(task, 20)
    except RuleError as error:
        return error.code
    finally:
        if victim is not None and market.nodes[victim].task.cancelling():
            market.revive(victim)
    return "done" if result.error is None else result.error.code


@pytest.mark.slow
@pytest.mark.asyncio
async def test_money_is_conserved_over_hundreds_of_jobs_with_deaths_refusals_and_overspends(tmp_path: Path) -> None:
    chance = random.Random(7)
    market = SmallMarket(tmp_path)
    deposited = 1_000_000
    outcomes: dict[str, int] = {}
    for _ in range(200):
        for node in market.nodes:
            node.refuse_all = RefusedError("no room", code="full") if chance.random() < 0.05 else None
        order = market.order(2, chance.randrange(1, 30), window=chance.randrange(1, 6))
        if chance.random() < 0.05:
            huge = tuple(leg.replace(cap=10**9) for leg in order.session.legs)
            order = order.replace(session=order.session.replace(legs=huge))
        victim = chance.randrange(3) if chance.random() < 0.15 else None
        name = await _outcome(market, order, chance.randrange(1, 60), victim)
        outcomes[name] = outcomes.get(name, 0) + 1
        assert market.ledger.books.total() == deposited
    assert set(outcomes) >= {"done", "full", "cancelled", "balance", "provider-lost"}, outcomes
    # Once every grace has ended, everything that was held has gone to a provider or back to the client.
    market.now += 10_000
    await reclaimed(market)
    assert held(market) == 0
    paid = sum(market.free(node.key) for node in market.nodes)
    assert market.free(market.client_key) + paid == deposited
    assert market.ledger.replayed() == market.ledger.books
    await market.close()
