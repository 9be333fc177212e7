"""Providers that fall silent, lie or crawl: given up after seconds, the right one is blamed, and it is remembered."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from memory_links import MemoryLink
from small_market import RATES, SmallMarket, limits_of
from virtual_loop import run_virtually

from node.pipeline.buying.client import JobClient
from node.pipeline.buying.job import JobResult
from protocol.encoding.codec import Message, decode, encode
from protocol.errors import LostPeerError, RefusedError
from protocol.identity.eip712 import sign_typed
from protocol.reputation.standing import Deed, shunned_until
from protocol.session.frames import LEG_FRAMES, Receipted, Sampled
from protocol.session.messages import Receipt

PROMPT = (1, 2, 3, 4, 5)
Story = Callable[[SmallMarket], Awaitable[None]]


def in_market(folder: Path, story: Story, *, pass_s: float = 0.0, **options: Any) -> None:
    async def tell() -> None:
        market = SmallMarket(folder, **options)
        market.pass_s = pass_s
        async with market:
            await story(market)

    run_virtually(tell())


def deeds(market: SmallMarket) -> dict[int, list[Deed]]:
    """What was noted, by number of the node."""
    found: dict[int, list[Deed]] = {}
    numbers = {node.key.address: number for number, node in enumerate(market.nodes)}
    for address, deed, _ in market.peers.noted:
        found.setdefault(numbers[address], []).append(deed)
    return found


def mute(market: SmallMarket, number: int) -> None:
    """A provider that takes orders and links, reads every frame, and does nothing."""
    node = market.nodes[number]

    async def on_link(link: MemoryLink) -> None:
        try:
            while True:
                await link.receive()
        except LostPeerError:
            pass

    market.network.listen(node.address, node.key.public_key, on_link, node.provider.allowance)


async def timed(market: SmallMarket, client: JobClient | None = None) -> tuple[float, JobResult]:
    began = asyncio.get_running_loop().time()
    _, result = await market.run(market.deal(PROMPT, 10), client)
    return asyncio.get_running_loop().time() - began, result


def test_a_job_that_is_served_is_a_merit_of_every_leg(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        await market.run(market.deal(PROMPT, 10))
        assert deeds(market) == {number: [Deed.SERVED] for number in range(3)}
        assert {amount for _, _, amount in market.peers.noted} == {27}

    in_market(tmp_path, story)


@pytest.mark.parametrize("idle_s", [2, 30])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_leg_that_takes_the_order_and_says_nothing_is_given_up_after_seconds(
    tmp_path: Path, number: int, idle_s: float
) -> None:
    """Whether the client loses patience first, or its neighbours do."""

    async def story(market: SmallMarket) -> None:
        mute(market, number)
        took, result = await timed(market)
        assert took <= 16, "ten for the silence, five for its last word"
        assert result.error is not None
        assert (result.error.code, result.culprits) == ("stalled", (number,))
        assert deeds(market) == {number: [Deed.SILENT]}, "its neighbours have answered the end of the job"
        assert result.held[number] > 0
        assert sum(result.held) == result.held[number], "of the others nothing is held"

    in_market(tmp_path, story, limits=limits_of(idle_s=idle_s))


def test_an_order_that_is_not_answered_is_given_up_after_seconds(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        order, silent = market.side.order, market.nodes[1].key.public_key

        async def one_is_silent(address: str, public_key: bytes, *question: bytes) -> bytes:
            if public_key == silent:
                await asyncio.get_running_loop().create_future()
            return await order(address, public_key, *question)

        took, result = await timed(market, JobClient(dataclasses.replace(market.side, order=one_is_silent)))
        assert took <= 16
        assert result.culprits == (1,)
        assert deeds(market) == {1: [Deed.SILENT]}

    in_market(tmp_path, story)


def test_a_refusal_and_a_loss_in_mid_stream_are_failures(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        market.nodes[2].refuse_all = RefusedError("not like this", code="window")
        await market.run(market.deal(PROMPT, 10))
        assert deeds(market) == {2: [Deed.FAILED]}
        market.nodes[2].refuse_all = None
        async with market.client.start(market.deal(PROMPT, 60)) as job:
            async for _ in job:
                if job.result.tab.generated == 9 and market.nodes[1].alive:
                    await market.kill(1)
        assert deeds(market) == {2: [Deed.FAILED], 1: [Deed.FAILED]}

    in_market(tmp_path, story)


def test_a_node_that_has_no_place_now_has_broken_no_promise(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        market.nodes[2].refuse_all = RefusedError("all places are taken", code="full")
        _, result = await market.run(market.deal(PROMPT, 10))
        assert result.culprits == (2,)
        assert deeds(market) == {}

    in_market(tmp_path, story)


def test_each_failure_in_a_row_keeps_a_provider_out_for_longer_and_a_served_job_ends_the_row(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        node = market.nodes[1]
        node.refuse_all = RefusedError("no", code="window")
        pauses = []
        for _ in range(3):
            await market.run(market.deal(PROMPT, 10))
            pauses.append(shunned_until(market.peers.standing(node.key.address)) - market.now)
        assert pauses == [60, 120, 240]
        node.refuse_all = None
        await market.run(market.deal(PROMPT, 10))
        assert shunned_until(market.peers.standing(node.key.address)) == 0

    in_market(tmp_path, story)


def test_a_client_that_stood_still_itself_blames_nobody(tmp_path: Path) -> None:
    """The loop's clock jumps: to the client it is as if no leg had said anything for a minute."""

    async def story(market: SmallMarket) -> None:
        loop = asyncio.get_running_loop()
        async with market.client.start(market.deal(PROMPT, 10)) as job:
            first = await anext(job)
            loop._jumping.passed += 60  # type: ignore[attr-defined]
            rest = [token async for token in job]
        assert job.result.error is None
        assert len([first, *rest]) == 10

    in_market(tmp_path, story, limits=limits_of(idle_s=600))


class Between:
    """Stands on a client's link to one leg."""

    def __init__(
        self, market: SmallMarket, number: int, change: Callable[[Message], Message | None], *, delay_s: float = 0
    ) -> None:
        real, node = market.side.connect, market.nodes[number]

        async def connect(address: str, key: bytes) -> Any:
            link = await real(address, key)
            return _Changed(link, change, delay_s) if address == node.address else link

        self.side = dataclasses.replace(market.side, connect=connect)
        market.client = JobClient(self.side)


class _Changed:
    def __init__(self, link: Any, change: Callable[[Message], Message | None], delay_s: float) -> None:
        self._link, self._change, self._delay_s = link, change, delay_s
        self.public_key, self.close, self.allow = link.public_key, link.close, link.allow
        self.send, self.put = link.send, link.put

    async def receive(self) -> tuple[bytes, bytes]:
        while True:
            header, payload = await self._link.receive()
            frame = self._change(decode(header, *LEG_FRAMES))
            if frame is not None:
                if isinstance(frame, Sampled):
                    await asyncio.sleep(self._delay_s)
                return encode(frame), payload


def signs(
    market: SmallMarket, number: int, changes: Mapping[str, Any], window: int = 1
) -> Callable[[Message], Message]:
    def change(frame: Message) -> Message:
        if not isinstance(frame, Receipted) or frame.signed.receipt.window != window:
            return frame
        receipt: Receipt = frame.signed.receipt.replace(**changes)
        signature = sign_typed(market.ledger.domain, receipt, market.nodes[number].key)
        return Receipted(signed=frame.signed.replace(receipt=receipt, signature=signature))

    return change


@pytest.mark.parametrize("number", [0, 1, 2])
def test_who_signs_against_the_facts_has_lied(tmp_path: Path, number: int) -> None:
    async def story(market: SmallMarket) -> None:
        Between(market, number, signs(market, number, {"tokens_out": 99}))
        _, result = await market.run(market.deal(PROMPT, 10))
        assert result.culprits == (number,)
        assert deeds(market) == {number: [Deed.LIED]}

    in_market(tmp_path, story)


def test_of_neighbours_that_contradict_each_other_both_are_left_alone_for_a_while(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        Between(market, 1, signs(market, 1, {"output": bytes(32)}))
        _, result = await market.run(market.deal(PROMPT, 10))
        assert result.culprits == (1, 2)
        assert deeds(market) == {1: [Deed.DISPUTED], 2: [Deed.DISPUTED]}

    in_market(tmp_path, story)


def test_m14_joules_that_no_hardware_can_have_drawn_end_the_job_and_nothing_is_paid_beyond(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        Between(market, 0, signs(market, 0, {"millijoules": 10**15}, window=0))
        _, result = await market.run(market.deal(PROMPT, 10))
        assert result.error is not None
        assert "its hardware can have drawn" in result.error.message
        assert deeds(market) == {0: [Deed.LIED]}
        assert result.pay is not None
        assert set(result.pay.voucher.amounts) == {2}, "the opening charge"

    in_market(tmp_path, story)


def test_a_provider_whose_tokens_crawl_has_failed_and_one_that_is_slow_has_not(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        Between(market, 0, lambda frame: frame, delay_s=0.5)
        _, result = await market.run(market.deal(PROMPT, 10))
        assert result.error is None
        Between(market, 0, lambda frame: frame, delay_s=5)
        _, result = await market.run(market.deal(PROMPT, 10))
        assert result.error is None
        assert deeds(market) == {0: [Deed.SERVED, Deed.FAILED]}

    in_market(tmp_path, story, spans=((0, 6),), limits=limits_of(idle_s=30))


def test_m84_legs_whose_signed_times_do_not_add_up_to_what_came_are_remembered(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        quick = {"p50_us": 1_000, "p95_us": 1_000, "late": 0}
        for window in range(5):
            for number in range(3):
                between = Between(market, number, signs(market, number, quick, window))
                market.side = between.side
        await market.run(market.deal(PROMPT, 12))
        assert {number: noted[-1] for number, noted in deeds(market).items()} == dict.fromkeys(range(3), Deed.ADRIFT)

    in_market(tmp_path, story, pass_s=0.4)


def test_m84_honest_times_add_up(tmp_path: Path) -> None:
    async def story(market: SmallMarket) -> None:
        await market.run(market.deal(PROMPT, 12))
        assert Deed.ADRIFT not in {deed for noted in deeds(market).values() for deed in noted}

    in_market(tmp_path, story, pass_s=0.4)


def test_late_tokens_are_cheaper_from_the_legs_clock_to_the_ledger(tmp_path: Path) -> None:
    """Every token takes 0.4 s at each leg, which says that 0.05 s is late; half of its price is the discount."""

    async def paid(folder: Path, discount_ppm: int) -> list[int]:
        market = SmallMarket(folder)
        market.pass_s = 0.4
        for node in market.nodes:
            node.rates = node.rates.replace(late_discount_ppm=discount_ppm)
        async with market:
            _, result = await market.run(market.deal(PROMPT, 10))
            assert [result.tab.book.late(leg) for leg in range(3)] == [10, 10, 10]
            assert {deed for _, deed, _ in market.peers.noted} == {Deed.SERVED, Deed.LATE}
            return list(result.paid)

    full = run_virtually(paid(tmp_path / "full", 0))
    half = run_virtually(paid(tmp_path / "half", 500_000))
    discount = 10 * (RATES.price_out // 2) // 1_000_000
    assert [whole - cheap for whole, cheap in zip(full, half, strict=True)] == [discount] * 3
    assert discount > 0
