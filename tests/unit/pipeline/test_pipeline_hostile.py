"""Clients, neighbours and strangers that break the rules: a typed error for them, and the node serves on."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from counting_engine import VOCABULARY, WIDTH, checksums, next_token
from hand_client import NOISE, OTHER_LEDGER, STRANGER, Hand, expect, expect_with_payload, send, serves
from small_market import RATES, SmallMarket

from node.pipeline.serving.leg import LegJob
from protocol.encoding.codec import Message
from protocol.errors import LostPeerError
from protocol.models.activations import ActivationType
from protocol.session.fingerprint import SKETCH_BYTES, sketch
from protocol.session.frames import (
    Attach,
    Discharged,
    Draw,
    Failed,
    Finish,
    Receipted,
    Sampled,
    SampledToken,
    Step,
    StepItem,
)
from protocol.session.messages import SignedVoucher
from protocol.session.metering import Work, owed
from protocol.session.order import Acceptance
from protocol.session.receipt import sketches_hash

pytestmark = pytest.mark.asyncio

FP32 = ActivationType.FP32


def step(*items: StepItem) -> Step:
    return Step(activations=FP32, items=items)


# A session's own client


WRONG_FRAMES = [
    "a voucher for fewer tokens than the last",
    "a voucher above the order",
    "a voucher that pays less than its tokens cost",
    "a voucher beyond the cap",
    "a voucher for another number of legs",
    "a voucher for another ledger",
    "a voucher signed by nobody",
    "a second attach",
    "a prompt out of place",
    "a prompt longer than ordered",
    "a prompt of no tokens",
    "a prompt whose payload is short",
    "a prompt of a token that is not in the vocabulary",
    "a finish for tokens that were not ordered",
    "a seed for a window that has no receipt",
]


def wrong_frames(hand: Hand) -> dict[str, tuple[Message, bytes, str]]:
    """What an attached client of a paid job must not send, and the code of the answer."""
    session, (cap,) = hand.session, [leg.cap for leg in hand.deal.session.legs]
    amount = hand.voucher(3, 4).amounts[0]
    return {
        "a voucher for fewer tokens than the last": (hand.pay(2, 0), b"", "stale"),
        "a voucher above the order": (hand.pay(3, 13, amounts=(cap,)), b"", "malformed"),
        "a voucher that pays less than its tokens cost": (hand.pay(3, 4, amounts=(amount - 1,)), b"", "unpaid"),
        "a voucher beyond the cap": (hand.pay(3, 4, amounts=(cap + 1,)), b"", "cap"),
        "a voucher for another number of legs": (hand.pay(3, 4, amounts=(amount, amount)), b"", "malformed"),
        "a voucher for another ledger": (hand.pay(3, 4, domain=OTHER_LEDGER), b"", "bad-signature"),
        "a voucher signed by nobody": (hand.pay(3, 4).replace(signature=bytes(64)), b"", "bad-signature"),
        "a second attach": (Attach(session=session), b"", "out-of-order"),
        "a prompt out of place": (*hand.prompt((2, 3), position=1), "out-of-order"),
        "a prompt longer than ordered": (*hand.prompt((1, 2, 3, 4)), "malformed"),
        "a prompt of no tokens": (*hand.prompt(()), "malformed"),
        "a prompt whose payload is short": (hand.prompt()[0], b"\x01\x00\x00", "malformed"),
        "a prompt of a token that is not in the vocabulary": (*hand.prompt((1, 2, VOCABULARY)), "malformed"),
        "a finish for tokens that were not ordered": (Finish(session=session, tokens_out=13), b"", "malformed"),
        "a seed for a window that has no receipt": (
            Draw(session=session, window=0, seed=bytes(32)),
            b"",
            "out-of-order",
        ),
    }


@pytest.mark.parametrize("what", WRONG_FRAMES)
async def test_a_clients_wrong_frame_ends_its_own_session(shop: SmallMarket, what: str) -> None:
    good, bad = Hand(shop), Hand(shop)
    good_link, bad_link = await good.accepted(), await bad.accepted()
    await send(bad_link, bad.pay(3, 2))
    frame, payload, code = wrong_frames(bad)[what]
    await send(bad_link, frame, payload)
    failed = await expect(bad_link, Failed)
    assert (failed.session, failed.code) == (bad.session, code)
    await send(good_link, *good.prompt())
    assert (await expect(good_link, Sampled)).tokens[0].token == next_token(3, 2)
    await serves(shop)
    assert shop.nodes[0].provider.active == 1
    good_link.cut()


def served(market: SmallMarket, hand: Hand) -> tuple[int, int]:
    """Prompt and generated tokens that the one node has served so far."""
    return job_of(market, hand).served


def job_of(market: SmallMarket, hand: Hand) -> LegJob:
    held = market.nodes[0].provider._places.get(hand.session)
    assert held is not None
    return held.job


async def test_a_prompt_is_processed_as_far_as_the_order_s_voucher_pays(shop: SmallMarket) -> None:
    hand = Hand(shop, most=20, chunk=2)
    link = await hand.accepted()
    await send(link, *hand.prompt())
    await expect(link, Receipted)
    await serves(shop)
    assert served(shop, hand) == (2, 0)
    await send(link, hand.pay(3, 1))
    await expect(link, Sampled)
    assert served(shop, hand) == (3, 1)


async def test_a_client_that_stops_paying_gets_what_it_paid_and_no_more(shop: SmallMarket) -> None:
    hand = Hand(shop, most=40, window=4)
    link = await hand.accepted()
    await send(link, *hand.prompt())
    assert (await expect(link, Sampled)).tokens[0].position == 3
    await serves(shop)  # time enough for a second one, if there were one
    assert served(shop, hand) == (3, 1)
    await send(link, hand.pay(3, 4))
    for position in (4, 5, 6):
        assert (await expect(link, Sampled)).tokens[0].position == position
    await serves(shop)
    assert served(shop, hand) == (3, 4)


async def test_a_leg_serves_no_window_while_the_sketches_of_the_one_before_are_missing(shop: SmallMarket) -> None:
    """The rows of two windows are all that a client can make a leg keep."""
    hand = Hand(shop, most=40, window=4)
    link = await hand.accepted()
    await send(link, hand.pay(3, 40))
    await send(link, *hand.prompt())
    first = (await expect(link, Receipted)).signed
    await serves(shop)
    # Window 0 waits for its seed and window 1 is over; window 2 has not begun.
    assert served(shop, hand) == (3, 4)
    await send(link, hand.draw(first))
    second, shown = await expect_with_payload(link, Receipted)
    assert second.signed.receipt.window == 1
    assert len(shown) == 2 * SKETCH_BYTES
    assert sketches_hash([(hand.draw(first).seed, shown)]) == second.signed.receipt.sketches
    rows = np.zeros((3, WIDTH), dtype=np.float32)
    rows[:, 0], rows[:, 1], rows[:, 2] = (1, 2, 3), 6, checksums((1, 2, 3))
    assert shown[SKETCH_BYTES:] == sketch(rows, hand.draw(first).seed)
    await serves(shop)
    assert served(shop, hand) == (3, 8)


async def test_a_seed_is_drawn_once(shop: SmallMarket) -> None:
    hand = Hand(shop, most=40, window=4)
    link = await hand.accepted()
    await send(link, *hand.prompt())
    first = (await expect(link, Receipted)).signed
    await send(link, hand.draw(first))
    await send(link, hand.draw(first))
    assert (await expect(link, Failed)).code == "out-of-order"
    await serves(shop)


async def test_a_client_that_pays_less_at_the_end_leaves_the_leg_what_it_earned(shop: SmallMarket) -> None:
    hand = Hand(shop)
    link = await hand.accepted()
    await send(link, *hand.prompt())
    await expect(link, Sampled)
    await send(link, Finish(session=hand.session, tokens_out=1))
    await send(link, hand.pay(2, 0))
    word = (await expect(link, Discharged)).signed.discharge
    assert word.amount == owed(RATES, Work(0, 3, 1))
    await shop.nodes[0].redeemer.redeem_all()
    assert shop.free(shop.nodes[0].key) == word.amount - 1


async def test_what_was_paid_ahead_and_not_served_is_given_back(shop: SmallMarket) -> None:
    hand = Hand(shop)
    link = await hand.accepted()
    await send(link, hand.pay(3, 12))
    await send(link, Finish(session=hand.session, tokens_out=0))
    await send(link, hand.pay(0, 0))
    assert (await expect(link, Discharged)).signed.discharge.amount == RATES.opening


# Others


def frames_of_all_kinds(hand: Hand) -> list[tuple[Message, bytes]]:
    """For a session that is not the sender's."""
    item = StepItem(session=hand.session, position=0, length=1, certain=1)
    voucher: SignedVoucher = hand.pay(3, 12)
    return [
        (Attach(session=hand.session), b""),
        (voucher, b""),
        hand.prompt(),
        (Finish(session=hand.session, tokens_out=0), b""),
        (Draw(session=hand.session, window=0, seed=bytes(32)), b""),
        (step(item), bytes(4 * WIDTH)),
        (Sampled(tokens=(SampledToken(session=hand.session, position=3, token=1),)), b""),
    ]


@pytest.mark.parametrize("kind", range(7))
@pytest.mark.parametrize("node", [0, 1, 2])
async def test_a_stranger_cannot_touch_a_session(market: SmallMarket, node: int, kind: int) -> None:
    """Session ids are public: they stand in the ledger's log."""
    hand = Hand(market, most=30)
    answers: list[asyncio.Task[Failed]] = []

    async def meddle() -> Failed:
        link = await hand.dial(STRANGER, node)
        await send(link, *frames_of_all_kinds(hand)[kind])
        failed = await expect(link, Failed)
        with pytest.raises(LostPeerError):
            await expect(link, Failed)  # and the link is ended
        return failed

    async with asyncio.timeout(20), market.client.start(hand.deal) as job:
        async for _ in job:
            if not answers:
                answers.append(asyncio.create_task(meddle()))
    assert (job.result.error, job.result.settle_error) == (None, None)
    failed = await answers[0]
    assert (failed.code, failed.session) == ("not-party", bytes(32))


@pytest.mark.parametrize("what", NOISE, ids=str)
async def test_a_frame_that_does_not_decode_is_answered_and_ends_the_link(shop: SmallMarket, what: str) -> None:
    hand = Hand(shop)
    link = await hand.dial(STRANGER)
    await link.send(NOISE[what])
    if what != "too long":  # nothing is said to whoever sends more than he may: it was not even read
        assert (await expect(link, Failed)).code == "malformed"
    with pytest.raises(LostPeerError):
        await expect(link, Failed)
    await serves(shop)


async def test_a_step_whose_payload_does_not_match_ends_the_link(market: SmallMarket) -> None:
    hand = Hand(market)
    for payload in (b"", bytes(4 * WIDTH - 1), bytes(4 * WIDTH + 4)):
        link = await hand.dial(STRANGER, 1)
        await send(link, step(StepItem(session=bytes(32), position=0, length=1, certain=1)), payload)
        assert (await expect(link, Failed)).code == "malformed"
    await serves(market)


async def test_frames_of_sessions_that_are_over_are_ignored(shop: SmallMarket) -> None:
    hand = Hand(shop)
    link = await hand.dial(shop.client_key)
    for frame, payload in frames_of_all_kinds(hand):
        await send(link, frame, payload)
    await hand.open()
    assert isinstance(await hand.ask(), Acceptance)
    await send(link, Attach(session=hand.session))
    await send(link, *hand.prompt())
    assert await expect(link, Sampled)


async def neighbours_step(
    market: SmallMarket, rows: np.ndarray, position: int, length: int, activations: ActivationType = FP32
) -> Failed:  # type: ignore[type-arg]
    """What the client hears when leg 0 sends these rows to leg 1."""
    hand = Hand(market)
    link = await hand.accepted(1)
    before = await hand.dial(market.nodes[0].key, 1)
    item = StepItem(session=hand.session, position=position, length=length, certain=position + length)
    raw = rows.astype("<f4").tobytes()
    raw = raw if activations is FP32 else raw[: len(raw) // 2]
    await send(before, Step(activations=activations, items=(item,)), raw)
    return await expect(link, Failed)


async def test_a_neighbours_wrong_rows_end_the_session_alone(market: SmallMarket) -> None:
    good = np.ones((3, WIDTH))
    assert (await neighbours_step(market, good, 1, 3)).code == "out-of-order"
    assert (await neighbours_step(market, np.full((3, WIDTH), np.nan), 0, 3)).code == "malformed"
    assert (await neighbours_step(market, np.ones((40, WIDTH)), 0, 40)).code == "malformed"
    assert (await neighbours_step(market, good, 0, 3, ActivationType.BF16)).code == "malformed"
    await serves(market)


async def test_rows_far_ahead_of_the_vouchers_are_refused(market: SmallMarket) -> None:
    hand = Hand(market, most=100, window=2, chunk=2)
    link = await hand.accepted(1)
    before = await hand.dial(market.nodes[0].key, 1)
    item = StepItem(session=hand.session, position=0, length=50, certain=50)
    await send(before, step(item), bytes(50 * 4 * WIDTH))
    assert (await expect(link, Failed)).code == "unpaid"


async def test_rows_that_are_being_computed_when_the_client_has_enough_are_signed_for(shop: SmallMarket) -> None:
    """A stop in the middle of a pass: its rows belong to the window that ends, not to one without a receipt."""
    hand = Hand(shop, most=40)
    await hand.accepted()
    await serves(shop)  # time enough for the leg to see who attached
    node = shop.nodes[0]
    job = job_of(shop, hand)
    job.arrive(0, (1, 2, 3), now_us=0)
    piece = job.next_piece(2)
    assert piece is not None
    job.finish(0)
    assert job.next_receipt() is None
    (output,) = node.engine.forward([piece])
    assert not isinstance(output, Exception)
    job.complete(piece, output, now_us=1)
    due = job.next_receipt()
    assert due is not None
    assert (due.frame.signed.receipt.tokens_in, due.frame.signed.receipt.rows) == (2, 2)
