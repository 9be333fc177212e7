"""Clients and neighbours that abuse what is kept of sessions: they get what they paid for, and nobody else's."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from continued_deals import deal_on, expected_tokens
from counting_engine import WIDTH
from disturbed_market import StuckWorker
from hand_client import Hand, expect, send, serves
from small_market import RATES, SmallMarket

from node.app.buying.continuing import Earlier
from protocol.models.activations import ActivationType
from protocol.session.frames import ANEW, Attach, Discharged, Failed, Joining, Paused, Receipted, Step, StepItem
from protocol.session.messages import session_id
from protocol.session.metering import Work, owed
from protocol.session.order import Acceptance

pytestmark = pytest.mark.asyncio

HELD = 14
"""Positions of the first session that its leg holds."""


async def about_to_go_on(market: SmallMarket, *, nodes: tuple[int, ...] = (0,)) -> Hand:
    """A client by hand with an open session that goes on from one of its own."""
    came, result = await market.run(deal_on(market, (1, 2, 3, 4, 5), 10, nodes=nodes))
    assert came == expected_tokens((1, 2, 3, 4, 5), 10)
    earlier = Earlier.of(result)
    assert earlier is not None
    hand = Hand(market)
    hand.deal = deal_on(market, (*earlier.tokens, 7, 8, 9), 10, nodes=nodes, earlier=earlier)
    hand.session = session_id(hand.deal.session)
    await hand.open()
    return hand


async def gone_on(market: SmallMarket, *, nodes: tuple[int, ...] = (0,), node: int = 0) -> Hand:
    """A client by hand whose order, which goes on from a session of its own, was taken."""
    hand = await about_to_go_on(market, nodes=nodes)
    answer = await hand.ask(node)
    assert isinstance(answer, Acceptance)
    assert answer.cached == HELD
    return hand


@pytest.mark.parametrize(
    "joining",
    [
        Joining(base=HELD + 1, start=HELD, onward=HELD + 1),
        Joining(base=HELD + 2, start=HELD, onward=HELD),
        Joining(base=HELD, start=HELD + 1, onward=HELD),
        Joining(base=5, start=6, onward=5),
        Joining(base=5, start=5, onward=6),
    ],
    ids=str,
)
async def test_a_leg_begins_nowhere_beyond_what_it_said(shop: SmallMarket, joining: Joining) -> None:
    hand = await gone_on(shop)
    link = await hand.dial(hand.key)
    await send(link, Attach(session=hand.session, joining=joining))
    failed = await expect(link, Failed)
    assert failed.code == "malformed"
    await serves(shop)


async def test_a_session_that_begins_anew_joins_nothing(shop: SmallMarket) -> None:
    hand = Hand(shop)
    await hand.open()
    assert isinstance(await hand.ask(), Acceptance)
    link = await hand.dial(hand.key)
    await send(link, Attach(session=hand.session, joining=Joining(base=1, start=0, onward=0)))
    assert (await expect(link, Failed)).code == "malformed"
    await serves(shop)


async def test_what_is_paid_as_held_and_asked_to_be_computed_goes_as_far_as_it_pays(shop: SmallMarket) -> None:
    hand = await gone_on(shop)
    node = shop.nodes[0]
    before = node.engine.rows
    link = await hand.dial(hand.key)
    await send(link, Attach(session=hand.session, joining=ANEW))
    await send(link, *hand.prompt(hand.deal.prompt))
    await asyncio.sleep(1)
    amount = hand.order().pay.voucher.amounts[0]
    paid = max(count for count in range(30) if owed(RATES, Work(0, count, 0)) <= amount)
    assert node.engine.rows - before == paid < len(hand.deal.prompt)


async def test_what_is_held_is_sold_at_its_price(shop: SmallMarket) -> None:
    hand = await gone_on(shop)
    node = shop.nodes[0]
    before = node.engine.rows
    link = await hand.dial(hand.key)
    await send(link, Attach(session=hand.session, joining=Joining(base=HELD, start=HELD, onward=HELD)))
    await send(link, *hand.prompt(hand.deal.prompt[HELD:], position=HELD))
    price = owed(RATES, Work(HELD, 2, 0))
    await send(link, hand.pay(HELD + 2, 0, amounts=(price,)))
    first = await expect(link, Receipted)
    assert (first.signed.receipt.window, first.signed.receipt.tokens_in) == (0, HELD + 2)
    assert node.engine.rows - before == 2
    await send(link, hand.pay(HELD + 4, 0, amounts=(owed(RATES, Work(HELD, 4, 0)) - 1,)))
    assert (await expect(link, Failed)).code == "unpaid"
    assert (await expect(link, Discharged)).signed.discharge.amount == price


async def test_who_never_comes_back_holds_nothing_from_others(shop: SmallMarket) -> None:
    """An order that was taken and never attached to lapses, and what it went on from can be gone on from still."""
    hand = await gone_on(shop)
    await asyncio.sleep(20)
    assert shop.nodes[0].provider.active == 0
    prompt = hand.deal.prompt
    continues = hand.deal.terms.continues
    assert continues is not None
    earlier = Earlier(session=continues.session, tokens=prompt, proven=HELD, legs=())
    came, result = await shop.run(deal_on(shop, prompt, 6, nodes=(0,), earlier=earlier))
    assert came == expected_tokens(prompt, 6)
    assert result.tab.joinings[0].start == HELD


async def test_rows_that_come_before_the_clients_word_are_held_and_bounded(market: SmallMarket) -> None:
    hand = await gone_on(market, nodes=(0, 1, 2), node=1)
    neighbour = await hand.dial(market.nodes[0].key, 1)
    row = np.zeros((1, WIDTH), dtype="<f4")
    item = StepItem(session=hand.session, position=HELD, length=1, certain=HELD + 1)
    step = Step(activations=ActivationType.FP32, items=(item,))
    for _ in range(5000):
        await send(neighbour, step, row.tobytes())
    await asyncio.sleep(1)
    assert market.nodes[1].provider.active == 0
    assert all(not isinstance(event, Paused) for event in market.nodes[1].events)
    await serves(market)


async def test_who_goes_away_while_its_order_is_answered_leaves_nothing_behind(shop: SmallMarket) -> None:
    hand = await about_to_go_on(shop)
    node = shop.nodes[0]
    worker = node.provider._compute._worker = StuckWorker()
    worker.stand(still=True)
    asking = asyncio.create_task(hand.ask())
    await asyncio.sleep(1)
    asking.cancel()
    await asyncio.wait([asking])
    worker.stand(still=False)
    await asyncio.sleep(node.limits.lapse_s + node.limits.warm_s + 10)
    left = (node.engine.sessions, len(node.admission.trails), node.provider.active, len(node.redeemer._live))
    assert left == (0, 0, 0, 0)
    await serves(shop)
