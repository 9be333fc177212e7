"""A client's job however it ends: the caller sees what it should, and the money is where it belongs."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from small_market import FEE, GRACE_S, MANIFEST, RATES, VERIFIER_KEY, SmallMarket
from virtual_loop import run_virtually

from node.app.buying.receipts import make_bundle
from node.pipeline.buying.client import Job, JobClient
from node.pipeline.buying.reclaim import open_sessions, reclaim
from node.ports import Link
from protocol.errors import RefusedError, RuleError
from protocol.identity.signing import SigningKey
from protocol.receipts.bundle import verify_bundle
from protocol.session.messages import SignedVoucher
from protocol.settlement.operations import Settle

PROMPT = (1, 2, 3, 4, 5)

Story = Callable[[SmallMarket], Awaitable[None]]


def in_market(folder: Path, story: Story, **options: Any) -> None:
    async def tell() -> None:
        async with SmallMarket(folder, **options) as market:
            await story(market)

    run_virtually(tell())


def reserved(market: SmallMarket) -> int:
    return sum(record.reserved for record in market.ledger.books.sessions.values())


def earned(market: SmallMarket) -> list[int]:
    return [market.free(node.key) for node in market.nodes]


async def redeemed(market: SmallMarket) -> None:
    """What legs were promised for work that this client has not seen any more, they fetch themselves."""
    for node in market.nodes:
        await node.redeemer.redeem_all()


async def read(job: Job, most: int | None = None) -> list[int]:
    tokens: list[int] = []
    async for token in job:
        tokens.append(token)
        if len(tokens) == most:
            break
    return tokens


def test_a_whole_job_pays_each_leg_and_its_receipt_holds(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        before = market.free(market.client_key)
        tokens, result = await market.run(market.deal(PROMPT, 10))
        assert (result.error, result.settle_error, len(tokens)) == (None, None, 10)
        assert earned(market) == [2 + 5 + 20] * 3
        assert market.free(market.client_key) == before - 3 * 27 - result.operations * FEE
        assert market.ledger.asked == ["open", "settle", "session"], "a job that takes its cap asks for no more"
        assert await market.journal.all() == {}
        bundle = make_bundle(
            result, MANIFEST, verifier_key=VERIFIER_KEY, key=market.client_key, text=("question", "answer")
        )
        assert bundle is not None
        proven = verify_bundle(bundle)
        assert (proven.tokens_out, proven.complete, proven.held) == (10, True, 0)

    in_market(tmp_path, story)


def test_a_reader_that_has_enough_pays_what_came_and_has_the_rest_back(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        async with market.client.start(market.deal(PROMPT, 40)) as job:
            tokens = await read(job, most=7)
        result = job.result
        assert tokens == result.tab.tokens[len(PROMPT) :][:7]
        assert result.error is not None
        assert result.error.code == "cancelled"
        assert result.pay is not None
        assert result.pay.voucher.tokens_out == result.tab.generated
        assert tuple(earned(market)) == result.pay.voucher.amounts
        assert result.released is not None
        await redeemed(market)
        assert reserved(market) == 0

    in_market(tmp_path, story)


def test_a_reader_that_leaves_after_the_last_token_still_has_a_whole_receipt(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        async with market.client.start(market.deal(PROMPT, 10)) as job:
            await read(job, most=10)
        assert job.result.error is None
        assert job.result.tab.complete

    in_market(tmp_path, story)


def test_a_cancelled_caller_sees_its_cancellation_once_the_money_is_settled(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        jobs: list[Job] = []
        some = asyncio.Event()

        async def buy() -> None:
            async with market.client.start(market.deal(PROMPT, 200)) as job:
                jobs.append(job)
                async for _ in job:
                    some.set()

        task = asyncio.create_task(buy())
        await some.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        result = jobs[0].result
        assert result.error is not None
        assert result.error.code == "cancelled"
        assert result.settled is not None
        await redeemed(market)
        assert reserved(market) == 0

    in_market(tmp_path, story)


def test_a_timeout_around_a_job_is_the_callers_and_is_not_hidden(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        jobs: list[Job] = []

        async def buy_slowly() -> None:
            async with asyncio.timeout(3), market.client.start(market.deal(PROMPT, 400)) as job:
                jobs.append(job)
                async for _ in job:
                    await asyncio.sleep(1)

        with pytest.raises(TimeoutError):
            await buy_slowly()
        result = jobs[0].result
        assert result.error is not None
        assert result.tab.generated >= 2
        assert result.settled is not None
        await redeemed(market)
        assert reserved(market) == 0

    in_market(tmp_path, story)


def test_a_cancellation_while_the_money_moves_waits_for_it(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        settling, go_on = asyncio.Event(), asyncio.Event()
        settle = market.ledger.settle

        async def slow(vouchers: Any, key: SigningKey) -> bytes:
            settling.set()
            await go_on.wait()
            return await settle(vouchers, key)

        market.ledger.settle = slow  # type: ignore[method-assign]
        task = asyncio.create_task(market.run(market.deal(PROMPT, 10)))
        await settling.wait()
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
            task.cancel()
        assert not task.done()
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert earned(market) == [27] * 3
        assert reserved(market) == 0

    in_market(tmp_path, story)


def test_a_cancellation_while_legs_are_asked_pays_those_that_took_the_order(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()
        order = market.side.order

        async def slow(address: str, public_key: bytes, *question: bytes) -> bytes:
            if public_key == market.nodes[2].key.public_key:
                asked.set()
                await go_on.wait()
            return await order(address, public_key, *question)

        client = JobClient(dataclasses.replace(market.side, order=slow))
        task = asyncio.create_task(market.run(market.deal(PROMPT, 10), client))
        await asked.wait()
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait([task])
        assert task.cancelled()
        assert earned(market) == [RATES.opening] * 3, "all three have taken it, and served nothing"
        assert reserved(market) == 0

    in_market(tmp_path, story)


def test_a_refused_order_gives_everything_back_but_what_others_charge_for_taking_it(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        market.nodes[1].refuse_all = RefusedError("not today", code="full")
        tokens, result = await market.run(market.deal(PROMPT, 10))
        assert tokens == []
        assert result.error is not None
        assert (result.error.code, list(result.failures)) == ("full", [1])
        assert "leg 1 (blocks 2:4) refused: not today" in result.error.message
        assert earned(market) == [RATES.opening, 0, RATES.opening]
        assert reserved(market) == 0
        assert await market.journal.all() == {}

    in_market(tmp_path, story)


def test_an_order_that_all_refuse_costs_the_ledgers_fees_alone(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        before = market.free(market.client_key)
        for node in market.nodes:
            node.refuse_all = RefusedError("not today", code="busy")
        _, result = await market.run(market.deal(PROMPT, 10))
        assert sorted(result.failures) == [0, 1, 2]
        assert result.pay is None
        assert earned(market) == [0, 0, 0]
        assert market.free(market.client_key) == before - 2 * FEE
        assert market.ledger.asked == ["open", "session", "release", "session"]

    in_market(tmp_path, story)


def test_a_leg_that_is_not_there_locks_its_own_reserve_and_no_other(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        await market.kill(1)
        deal = market.deal(PROMPT, 10)
        _, result = await market.run(deal)
        assert result.culprits == (1,), "leg 0 could not reach it, which is no fault of leg 0"
        assert result.error is result.failures[1]
        assert reserved(market) == deal.session.legs[1].cap
        (left,) = await open_sessions(market.ledger, market.journal, now=market.now)
        assert (left.reserved_micro, left.freed_micro) == (deal.session.legs[1].cap, 0)
        assert await reclaim(market.ledger, market.journal, market.client_key, now=market.now) == 0
        market.skipped_s += 600 + GRACE_S + 1
        assert await reclaim(market.ledger, market.journal, market.client_key, now=market.now) == left.reserved_micro
        assert reserved(market) == 0
        assert await market.journal.all() == {}

    in_market(tmp_path, story)


def test_a_leg_that_dies_in_mid_stream_locks_its_own_reserve_and_no_other(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        async with market.client.start(market.deal(PROMPT, 60)) as job:
            await read(job, most=9)
            await market.kill(1)
            await read(job)
        result = job.result
        assert result.error is not None
        assert result.error.code == "provider-lost"
        assert "leg 1 (blocks 2:4) is gone" in result.error.message
        assert result.settle_error is None
        assert result.record is not None
        assert result.pay is not None
        assert tuple(earned(market)) == result.pay.voucher.amounts
        for leg in (0, 2):
            await market.nodes[leg].redeemer.redeem_all()
        record = market.ledger.books.sessions[result.tab.id]
        held = [most - paid for most, paid in zip(record.ceilings, record.settled, strict=True)]
        assert (held[0], held[2]) == (0, 0)
        assert held[1] > 0

    in_market(tmp_path, story)


def test_what_legs_gave_up_while_the_ledger_was_away_returns_with_the_next_run(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        async with market.client.start(market.deal(PROMPT, 60)) as job:
            await read(job, most=9)
            market.ledger.down = True
        assert job.result.settle_error is not None
        assert job.result.settle_error.code == "unreachable"
        (stored,) = (await market.journal.all()).values()
        assert len(stored.discharges) == 3
        market.ledger.down = False
        before = market.free(market.client_key)
        returned = await reclaim(market.ledger, market.journal, market.client_key, now=market.now)
        assert returned > 0, "long before the session's grace has ended"
        assert market.free(market.client_key) == before + returned - FEE

    in_market(tmp_path, story)


def test_a_provider_that_settles_first_is_no_fault(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        settle = market.ledger.settle

        async def second(vouchers: list[SignedVoucher], key: SigningKey) -> bytes:
            other = market.nodes[0].key
            market.ledger.deposit(other, FEE)
            market.ledger.apply(
                other, Settle(actor=other.address, nonce=market.ledger.nonce(other), vouchers=tuple(vouchers))
            )
            return await settle(vouchers, key)

        market.ledger.settle = second  # type: ignore[method-assign,assignment]
        _, result = await market.run(market.deal(PROMPT, 10))
        assert (result.error, result.settle_error) == (None, None)
        bundle = make_bundle(result, MANIFEST, verifier_key=VERIFIER_KEY, key=market.client_key)
        assert bundle is not None
        assert verify_bundle(bundle).amounts == (27, 27, 27)

    in_market(tmp_path, story)


def test_a_reader_of_a_link_that_fails_for_no_known_reason_ends_the_job_with_it(tmp_path: Path) -> None:
    class Broken:
        """A link whose third frame is more than this program can take."""

        def __init__(self, link: Link) -> None:
            self._link = link
            self._left = 3

        def __getattr__(self, name: str) -> Any:
            return getattr(self._link, name)

        async def receive(self) -> tuple[bytes, bytes]:
            self._left -= 1
            if not self._left:
                raise ZeroDivisionError("of this program's own making")
            return await self._link.receive()

    async def story(market: SmallMarket) -> None:
        connect = market.side.connect

        async def breaking(address: str, key: bytes) -> Any:
            link = await connect(address, key)
            return Broken(link) if key == market.nodes[2].key.public_key else link

        client = JobClient(dataclasses.replace(market.side, connect=breaking))
        with pytest.raises(ZeroDivisionError):
            await market.run(market.deal(PROMPT, 40), client)
        assert "settle" in market.ledger.asked, "the other legs had earned something"

    in_market(tmp_path, story)


def test_a_session_that_the_ledger_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        with pytest.raises(RuleError) as caught:
            await market.run(market.deal(PROMPT, 400))
        assert caught.value.code == "balance"
        assert await market.journal.all() == {}

    in_market(tmp_path, story, money=100)
