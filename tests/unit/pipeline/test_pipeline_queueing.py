"""A node that has many prompts to work on: new orders are told when to come back, and its offer says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hand_client import Hand, expect, send
from small_market import SmallMarket, limits_of

from node.pipeline.buying.client import JobClient
from node.pipeline.serving.pace import Pace
from node.pipeline.vouchers import VoucherStore
from node.ports import StepInput, StepOutput, T
from node.worker import InlineWorker
from protocol.identity.signing import SigningKey
from protocol.serving.places import GIVE_WAY_S
from protocol.session.frames import Sampled
from protocol.session.messages import session_id
from protocol.session.order import Acceptance, Refusal

pytestmark = pytest.mark.asyncio

ROWS_S = 3 * 10e-6
"""Three rows at the pace of the market."""


class SlowWorker(InlineWorker):
    """A tenth of a second for a pass."""

    async def run(self, call: Callable[[], T]) -> T:
        done = await super().run(call)
        await asyncio.sleep(0.1)
        return done


async def ordered(market: SmallMarket) -> tuple[Hand, str, int]:
    """An order; its code and when to come back, empty where it is taken."""
    hand = Hand(market, most=40)
    await hand.open()
    answer = await hand.ask()
    if isinstance(answer, Refusal):
        assert answer.discharge is not None
        return hand, answer.code, answer.retry_s
    assert isinstance(answer, Acceptance)
    return hand, "", 0


async def test_an_order_whose_prompt_would_wait_too_long_is_told_when_to_come_back(shop: SmallMarket) -> None:
    node = shop.nodes[0]
    node.limits.wait_s = 2 * ROWS_S
    assert node.provider.free > 0
    for _ in range(3):
        assert (await ordered(shop))[1:] == ("", 0)
    assert (await ordered(shop))[1:] == ("busy", 1)
    assert node.provider.free == 0
    assert node.provider.active == 3


async def test_a_prompt_that_stands_still_is_in_nobodys_way(shop: SmallMarket) -> None:
    node = shop.nodes[0]
    node.limits.lapse_s = node.limits.attach_s = 60.0
    node.limits.wait_s = 0.5 * ROWS_S
    assert (await ordered(shop))[1:] == ("", 0)
    await asyncio.sleep(GIVE_WAY_S - 0.01)
    assert (await ordered(shop))[1] == "busy"
    assert node.provider.free == 0
    await asyncio.sleep(0.02)
    assert node.provider.free > 0
    assert (await ordered(shop))[1] == ""


async def test_a_prompt_that_is_done_is_in_nobodys_way(shop: SmallMarket) -> None:
    shop.nodes[0].limits.wait_s = 0.5 * ROWS_S
    hand = Hand(shop, most=40)
    link = await hand.accepted()
    assert (await ordered(shop))[1] == "busy"
    await send(link, *hand.prompt())
    await expect(link, Sampled)
    assert (await ordered(shop))[1] == ""


async def test_orders_that_come_at_once_are_counted_before_their_jobs_have_begun(shop: SmallMarket) -> None:
    shop.nodes[0].limits.wait_s = 2 * ROWS_S
    found = await asyncio.gather(*(ordered(shop) for _ in range(6)))
    assert sorted(code for _, code, _ in found) == ["", "", "", "busy", "busy", "busy"]
    assert shop.nodes[0].provider._queueing._coming == {}


async def test_an_offer_does_not_change_to_and_fro(shop: SmallMarket) -> None:
    """It says that there are no places until the wait is half of what it may be."""
    node = shop.nodes[0]
    node.limits.wait_s = 1.5 * ROWS_S
    (first, _, _), _ = await ordered(shop), await ordered(shop)
    assert node.provider.free == 0
    node.provider._places.pop(first.session)
    assert node.provider.free == 0
    node.limits.wait_s = 2 * ROWS_S
    assert node.provider.free > 0


async def test_the_pace_is_what_the_operator_and_the_machine_make_it() -> None:
    limits = limits_of()
    pace = Pace(limits, row_us=1000, step_us=50_000)
    assert pace.rows_beside == 100
    limits.stretch = 2
    assert pace.rows_beside == 50


async def test_one_clients_many_prompts_do_not_hold_up_anothers_one(tmp_path: Path) -> None:
    limits = limits_of(idle_s=30.0)
    limits.max_chunk = 32
    async with SmallMarket(tmp_path, spans=((0, 6),), limits=limits) as market:
        forward, done = market.nodes[0].engine.forward, list[bytes]()

        def counted(items: Sequence[StepInput]) -> list[StepOutput | Exception]:
            for item in items:
                done.extend([item.session] * item.length)
            return forward(items)

        market.nodes[0].engine.forward = counted  # type: ignore[method-assign]
        market.nodes[0].provider._compute._worker = SlowWorker()
        other = SigningKey(b"\x66" * 32)
        market.ledger.deposit(other, 1_000_000)
        buyer = JobClient(market.side_of(other, VoucherStore(tmp_path / "other", InlineWorker())))
        prompt = (1, 2, 3, 4) * 50
        mine = [market.deal(prompt, 1, chunk=32) for _ in range(6)]
        theirs = market.deal(prompt, 1, chunk=32, client=other)
        jobs = [market.run(deal) for deal in mine] + [market.run(theirs, buyer)]
        found = await asyncio.gather(*jobs)
        assert all(result.error is None for _, result in found)
        last = len(done) - done[::-1].index(session_id(theirs.session))
        assert done[:last].count(session_id(theirs.session)) == len(prompt)
        # Sessions in turn would have it wait for six times as many rows as it has itself.
        assert last - len(prompt) < 3 * len(prompt)
