"""Clients, neighbours and strangers that break the rules: a typed error for them, and the node serves on."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from counting_engine import VOCABULARY, WIDTH, next_token
from hand_client import NOISE, OTHER_LEDGER, PROMPT, STRANGER, Hand, expect, send, serves
from small_market import MANIFEST, SmallMarket

from protocol.codec import Message
from protocol.errors import LostPeerError
from protocol.frames import (
    Attach,
    Failed,
    Finish,
    Receipted,
    Sampled,
    SampledToken,
    Step,
    StepItem,
)
from protocol.messages import Open, session_id
from protocol.metering import leg_amount
from protocol.order import Acceptance

pytestmark = pytest.mark.asyncio


# A session's own client


WRONG_FRAMES = [
    "a voucher below the last",
    "a voucher above the order",
    "a voucher for another ledger",
    "a voucher signed by nobody",
    "a second attach",
    "a prompt out of place",
    "a prompt longer than ordered",
    "a prompt of no tokens",
    "a prompt whose payload is short",
    "a prompt of a token that is not in the vocabulary",
    "a finish for tokens that were not ordered",
]


def wrong_frames(hand: Hand) -> dict[str, tuple[Message, bytes, str]]:
    """What an attached client of a paid job must not send, and the code of the answer."""
    session = hand.session
    paid_again = hand.pay(2, 0)
    return {
        "a voucher below the last": (paid_again, b"", "stale"),
        "a voucher above the order": (hand.pay(4, 0), b"", "malformed"),
        "a voucher for another ledger": (hand.pay(3, 1, domain=OTHER_LEDGER), b"", "bad-signature"),
        "a voucher signed by nobody": (hand.pay(3, 1).replace(signature=bytes(64)), b"", "bad-signature"),
        "a second attach": (Attach(session=session), b"", "out-of-order"),
        "a prompt out of place": (*hand.prompt([2, 3], position=1), "out-of-order"),
        "a prompt longer than ordered": (*hand.prompt([1, 2, 3, 4]), "malformed"),
        "a prompt of no tokens": (*hand.prompt([]), "malformed"),
        "a prompt whose payload is short": (hand.prompt()[0], b"\x01\x00\x00", "malformed"),
        "a prompt of a token that is not in the vocabulary": (*hand.prompt([1, 2, VOCABULARY]), "malformed"),
        "a finish for tokens that were not ordered": (Finish(session=session, tokens_out=13), b"", "malformed"),
    }


@pytest.mark.parametrize("what", WRONG_FRAMES)
async def test_a_clients_wrong_frame_ends_its_own_session(shop: SmallMarket, what: str) -> None:
    good, bad = Hand(shop), Hand(shop)
    good_link, bad_link = await good.accepted(), await bad.accepted()
    await send(bad_link, bad.pay(3, 0))
    frame, payload, code = wrong_frames(bad)[what]
    await send(bad_link, frame, payload)
    failed = await expect(bad_link, Failed)
    assert (failed.session, failed.code) == (bad.session, code)
    await send(good_link, good.pay(3, 0))
    await send(good_link, *good.prompt())
    assert (await expect(good_link, Sampled)).tokens[0].token == next_token(3, 2)
    await serves(shop)
    assert shop.nodes[0].provider.active == 1
    good_link.cut()


def served(market: SmallMarket, hand: Hand) -> tuple[int, int]:
    """Prompt and generated tokens that the one node has served so far."""
    return market.nodes[0].provider._jobs[hand.session].served


async def test_an_unpaid_prompt_is_not_processed(shop: SmallMarket) -> None:
    hand = Hand(shop, most=20)
    link = await hand.accepted()
    await send(link, *hand.prompt())
    await serves(shop)
    assert served(shop, hand) == (0, 0)
    await send(link, hand.pay(3, 0))
    await expect(link, Receipted)
    assert served(shop, hand) == (3, 1)


async def test_a_client_that_stops_paying_gets_one_window_and_no_more(shop: SmallMarket) -> None:
    hand = Hand(shop, most=40, window=4)
    link = await hand.accepted()
    await send(link, hand.pay(3, 0))
    await send(link, *hand.prompt())
    tokens = []
    for _ in range(4):
        tokens += (await expect(link, Sampled)).tokens
    await serves(shop)  # time enough for a fifth one, if there were one
    assert len(tokens) == 4
    assert served(shop, hand) == (3, 4)
    await send(link, hand.pay(3, 4))
    assert (await expect(link, Sampled)).tokens[0].position == 3 + 4


async def test_a_finished_client_may_not_pay_less_to_be_discharged(shop: SmallMarket) -> None:
    hand = Hand(shop)
    link = await hand.accepted()
    await send(link, hand.pay(3, 0))
    await send(link, *hand.prompt())
    await expect(link, Sampled)
    await send(link, hand.pay(3, 1))
    await send(link, Finish(session=hand.session, tokens_out=1))
    await send(link, hand.pay(3, 0))
    assert (await expect(link, Failed)).code == "stale"
    await shop.nodes[0].redeemer.redeem_all()
    (leg,) = hand.order.session.legs
    assert shop.free(shop.nodes[0].key) == leg_amount(leg, 3, 1)


# Others


def frames_of_all_kinds(hand: Hand) -> list[tuple[Message, bytes]]:
    """For a session that is not the sender's."""
    item = StepItem(session=hand.session, position=0, length=1)
    return [
        (Attach(session=hand.session), b""),
        (hand.pay(3, 12), b""),
        hand.prompt(),
        (Finish(session=hand.session, tokens_out=0), b""),
        (Step(items=(item,)), bytes(4 * WIDTH)),
        (Sampled(tokens=(SampledToken(session=hand.session, position=3, token=1),)), b""),
    ]


@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize("node", [0, 1, 2])
async def test_a_stranger_cannot_touch_a_session(market: SmallMarket, node: int, kind: int) -> None:
    """Session ids are public: they stand in the ledger's log."""
    order = market.order(3, 30)
    hand = Hand(market)
    hand.order, hand.session = order, session_id(order.session)
    answers: list[asyncio.Task[Failed]] = []

    async def meddle() -> Failed:
        link = await hand.dial(STRANGER, node)
        await send(link, *frames_of_all_kinds(hand)[kind])
        failed = await expect(link, Failed)
        with pytest.raises(LostPeerError):
            await expect(link, Failed)  # and the link is ended
        return failed

    def on_token(_: int) -> None:
        if not answers:
            answers.append(asyncio.create_task(meddle()))

    async with asyncio.timeout(20):
        result = await market.client.run(order, MANIFEST, PROMPT, on_token)
    assert (result.error, result.settle_error) == (None, None)
    failed = await answers[0]
    assert (failed.code, failed.session) == ("not-party", bytes(32))


@pytest.mark.parametrize("what", NOISE, ids=str)
async def test_a_frame_that_does_not_decode_is_answered_and_ends_the_link(shop: SmallMarket, what: str) -> None:
    hand = Hand(shop)
    link = await hand.dial(STRANGER)
    await link.send(NOISE[what])
    assert (await expect(link, Failed)).code == "malformed"
    with pytest.raises(LostPeerError):
        await expect(link, Failed)
    await serves(shop)


async def test_a_step_whose_payload_does_not_match_ends_the_link(market: SmallMarket) -> None:
    hand = Hand(market)
    for payload in (b"", bytes(4 * WIDTH - 1), bytes(4 * WIDTH + 4)):
        link = await hand.dial(STRANGER, 1)
        await send(link, Step(items=(StepItem(session=bytes(32), position=0, length=1),)), payload)
        assert (await expect(link, Failed)).code == "malformed"
    await serves(market)


async def test_frames_of_sessions_that_are_over_are_ignored(shop: SmallMarket) -> None:
    hand = Hand(shop)
    link = await hand.dial(shop.client_key)
    for frame, payload in frames_of_all_kinds(hand):
        await send(link, frame, payload)
    await shop.ledger.submit(Open(session=hand.order.session), hand.key)
    assert isinstance(await hand.ask(), Acceptance)
    await send(link, Attach(session=hand.session))
    await send(link, hand.pay(3, 0))
    await send(link, *hand.prompt())
    assert await expect(link, Sampled)


async def neighbours_step(market: SmallMarket, rows: np.ndarray, position: int, length: int) -> Failed:  # type: ignore[type-arg]
    """What the client hears when leg 0 sends these rows to leg 1."""
    hand = Hand(market)
    link = await hand.accepted(1)
    await send(link, hand.pay(3, 0))
    before = await hand.dial(market.nodes[0].key, 1)
    item = StepItem(session=hand.session, position=position, length=length)
    await send(before, Step(items=(item,)), rows.astype("<f4").tobytes())
    return await expect(link, Failed)


async def test_a_neighbours_wrong_rows_end_the_session_alone(market: SmallMarket) -> None:
    good = np.ones((3, WIDTH))
    assert (await neighbours_step(market, good, 1, 3)).code == "out-of-order"
    assert (await neighbours_step(market, np.full((3, WIDTH), np.nan), 0, 3)).code == "malformed"
    assert (await neighbours_step(market, np.ones((40, WIDTH)), 0, 40)).code == "malformed"
    await serves(market)


async def test_rows_far_ahead_of_the_vouchers_are_refused(market: SmallMarket) -> None:
    hand = Hand(market, most=100, window=2, chunk=2)
    link = await hand.accepted(1)
    before = await hand.dial(market.nodes[0].key, 1)
    item = StepItem(session=hand.session, position=0, length=50)
    await send(before, Step(items=(item,)), bytes(50 * 4 * WIDTH))
    assert (await expect(link, Failed)).code == "unpaid"
