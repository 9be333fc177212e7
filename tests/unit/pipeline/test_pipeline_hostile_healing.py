"""Healing, and those who would abuse it: each wrong word is refused beside the right one that is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counting_engine import WIDTH, checksums
from disturbed_market import StuckWorker, answer
from hand_client import PROMPT, STRANGER, Hand, expect, send, serves
from memory_links import MemoryLink
from small_market import BLOCKS, SmallMarket

from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.places import MOST_EARLY
from protocol.errors import DishonestError, LostPeerError
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import SigningKey, seal
from protocol.models.activations import ActivationType
from protocol.reputation.standing import Deed
from protocol.session.frames import (
    Attach,
    Failed,
    Joining,
    Probe,
    Receipted,
    Rerouted,
    Sampled,
    Stands,
    Step,
    StepItem,
)
from protocol.session.receipt import token_bytes
from protocol.session.terms import Assignment, Reroute

pytestmark = pytest.mark.asyncio

ALL = BlockSpan(start=0, end=BLOCKS)
PROVEN = len(PROMPT)
"""Positions of the first window."""
HELD = Joining(base=PROVEN, start=PROVEN, onward=PROVEN)
FRESH = Joining(base=PROVEN, start=0, onward=PROVEN)


def reroute(hand: Hand, legs: tuple[int, ...] = (0,), *, key: SigningKey | None = None, **changes: Any) -> bytes:
    """To these legs, each with all blocks, from the end of the first window on."""
    route = tuple(Assignment(leg=leg, span=ALL) for leg in legs)
    one = Reroute(session=hand.session, number=1, position=PROVEN, route=route).replace(**changes)
    return seal(one, key or hand.key)


def rerouted(hand: Hand, *sealed: bytes, joining: Joining = HELD, session: bytes | None = None) -> Rerouted:
    return Rerouted(session=session or hand.session, sealed=sealed, next_offer=b"", joining=joining)


async def fed(hand: Hand) -> MemoryLink:
    """The route's leg, after its first window."""
    link = await hand.accepted()
    await send(link, *hand.prompt())
    await expect(link, Receipted)
    return link


@pytest.fixture
def pair(tmp_path: Path) -> SmallMarket:
    """One node with the whole model on the route, and two that stand by."""
    return SmallMarket(tmp_path, spans=((0, BLOCKS),), spares=((0, BLOCKS), (0, BLOCKS)))


# What its own client may not say


def wrong_reroutes(hand: Hand) -> dict[str, tuple[Rerouted, tuple[int, ...], str]]:
    """What a leg that has signed for the first window does not take, with the ids of known tokens, and the code."""
    right = reroute(hand)
    behind = reroute(hand, number=2, position=0)
    left = reroute(hand, (1,)), reroute(hand, (0,), number=2)
    return {
        "signed by another": (rerouted(hand, reroute(hand, key=STRANGER)), (), "bad-signature"),
        "of another session": (rerouted(hand, reroute(hand, session=bytes(32))), (), "dishonest"),
        "with a wrong number": (rerouted(hand, reroute(hand, number=2)), (), "dishonest"),
        "back behind the one before": (rerouted(hand, right, behind), (), "dishonest"),
        "with another start than its own": (
            rerouted(hand, reroute(hand, position=1), joining=HELD.replace(base=1)),
            (),
            "malformed",
        ),
        "from an unproven position": (
            rerouted(hand, reroute(hand, position=2), joining=Joining(base=2, start=2, onward=2)),
            (),
            "unproven",
        ),
        "from beyond the end": (
            rerouted(hand, reroute(hand, position=15), joining=Joining(base=15, start=3, onward=3)),
            (),
            "malformed",
        ),
        "to a leg that was left": (rerouted(hand, *left), (), "dishonest"),
        "without the leg": (rerouted(hand, reroute(hand, (1,))), (), "not-mine"),
        "to a leg that the session does not have": (rerouted(hand, reroute(hand, (7,))), (), "dishonest"),
        "with a start beyond what it holds": (
            rerouted(hand, right, joining=HELD.replace(start=PROVEN + 1)),
            (),
            "malformed",
        ),
        "with another base": (rerouted(hand, right, joining=HELD.replace(base=2)), (), "malformed"),
        "with more tokens than can have been drawn": (rerouted(hand, right), tuple([1] * 9), "malformed"),
    }  # fmt: skip


NAMES = [
    "signed by another",
    "of another session",
    "with a wrong number",
    "back behind the one before",
    "with another start than its own",
    "from an unproven position",
    "from beyond the end",
    "to a leg that was left",
    "without the leg",
    "to a leg that the session does not have",
    "with a start beyond what it holds",
    "with another base",
    "with more tokens than can have been drawn",
]


@pytest.mark.parametrize("name", NAMES)
async def test_a_wrong_reroute_ends_its_session_and_no_other(pair: SmallMarket, name: str) -> None:
    async with pair as market:
        hand = Hand(market)
        link = await fed(hand)
        frame, known, code = wrong_reroutes(hand)[name]
        await send(link, frame, token_bytes(known))
        assert (await expect(link, Failed)).code == code
        await asyncio.sleep(1)
        assert market.nodes[0].provider._places.all == []
        await serves(market)


async def test_the_right_reroute_is_taken_once(pair: SmallMarket) -> None:
    async with pair as market:
        hand = Hand(market)
        link = await fed(hand)
        await send(link, rerouted(hand, reroute(hand)), token_bytes(answer(PROMPT, 1)))
        await send(link, hand.pay(PROVEN, 4))
        token = (await expect(link, Sampled)).tokens[0]
        assert (token.position, token.token, token.route) == (PROVEN + 1, answer(PROMPT, 2)[1], 1)
        await send(link, rerouted(hand, reroute(hand)))
        assert (await expect(link, Failed)).code == "out-of-order"


async def test_a_standby_computes_nothing_before_it_is_paid(pair: SmallMarket) -> None:
    async with pair as market:
        hand = Hand(market)
        link = await hand.accepted(1)
        await send(link, rerouted(hand, reroute(hand, (1,)), joining=FRESH), token_bytes(answer(PROMPT, 1)))
        await send(link, *hand.prompt())
        await send(link, Probe(session=hand.session, number=1))
        stands = await expect(link, Stands)
        assert (stands.arrived, stands.processed) == (PROVEN + 1, 0)
        assert market.nodes[1].engine.passes == []


@pytest.mark.parametrize("joining", [FRESH.replace(start=1), HELD, FRESH.replace(onward=PROVEN + 1)])
async def test_a_standby_holds_nothing_to_begin_with(pair: SmallMarket, joining: Joining) -> None:
    async with pair as market:
        hand = Hand(market)
        link = await hand.accepted(1)
        await send(link, rerouted(hand, reroute(hand, (1,)), joining=joining))
        assert (await expect(link, Failed)).code == "malformed"
        await asyncio.sleep(1)
        assert (market.nodes[1].engine.sessions, len(market.nodes[1].provider._places.all)) == (0, 0)


async def test_two_reroutes_at_once_are_one_too_many(pair: SmallMarket) -> None:
    async with pair as market:
        hand = Hand(market)
        link = await hand.accepted(1)
        other = await hand.dial(hand.key, 1)
        await asyncio.sleep(1)
        one, two = reroute(hand, (1,)), reroute(hand, (1,), number=2)
        await asyncio.gather(
            send(link, rerouted(hand, one, joining=FRESH)), send(other, rerouted(hand, one, two, joining=FRESH))
        )
        assert (await expect(link, Failed)).code == "out-of-order"
        await asyncio.sleep(1)
        assert (market.nodes[1].engine.sessions, len(market.nodes[1].provider._places.all)) == (0, 0)
        await serves(market)


# Strangers


@pytest.mark.parametrize("kind", ["reroute", "probe", "attach"])
async def test_a_stranger_has_no_say_in_a_session(pair: SmallMarket, kind: str) -> None:
    async with pair as market:
        hand = Hand(market)
        link = await fed(hand)
        frame = {
            "reroute": rerouted(hand, reroute(hand)),
            "probe": Probe(session=hand.session, number=1),
            "attach": Attach(session=hand.session),
        }[kind]
        stranger = await hand.dial(STRANGER)
        await send(stranger, frame)
        assert (await expect(stranger, Failed)).code == "not-party"
        with pytest.raises(LostPeerError):
            await expect(stranger, Failed)
        await send(link, Probe(session=hand.session, number=1))
        assert (await expect(link, Stands)).processed == PROVEN


# Neighbours


def rows(position: int, tokens: tuple[int, ...], *, route: int, session: bytes) -> tuple[Step, bytes]:
    """What the first leg of two sends on."""
    sums = checksums([*PROMPT, *answer(PROMPT, 9)])
    data = np.zeros((len(tokens), WIDTH), dtype=np.float32)
    data[:, 0], data[:, 1], data[:, 2] = tokens, 3, sums[position : position + len(tokens)]
    end = position + len(tokens)
    item = StepItem(session=session, position=position, length=len(tokens), certain=end, route=route)
    return Step(activations=ActivationType.FP32, items=(item,)), data.tobytes()


async def halves(tmp_path: Path) -> tuple[SmallMarket, Hand]:
    market = SmallMarket(tmp_path, spans=((0, 3), (3, 6)), spares=((0, 3),))
    return market, Hand(market)


def half_route(hand: Hand, first: int) -> bytes:
    spans = BlockSpan(start=0, end=3), BlockSpan(start=3, end=6)
    route = tuple(Assignment(leg=leg, span=span) for leg, span in zip((first, 1), spans, strict=True))
    return reroute(hand, route=route, position=0)


async def last_leg_begun(market: SmallMarket, hand: Hand) -> tuple[MemoryLink, MemoryLink]:
    """The client's link to the last leg, and that of the leg before it."""
    link = await hand.accepted(1)
    return link, await hand.dial(market.nodes[0].key, 1)


async def test_rows_of_a_route_to_come_wait_for_it_and_those_of_an_old_one_are_void(tmp_path: Path) -> None:
    market, hand = await halves(tmp_path)
    async with market:
        link, before = await last_leg_begun(market, hand)
        await send(before, *rows(0, PROMPT, route=1, session=hand.session))
        await asyncio.sleep(1)
        anew = Rerouted(
            session=hand.session,
            sealed=(half_route(hand, 0),),
            next_offer=hand.deal.legs[0].sealed,
            joining=Joining(base=0, start=0, onward=0),
        )
        await send(link, anew)
        assert (await expect(link, Sampled)).tokens[0].token == answer(PROMPT, 1)[0]
        await send(before, *rows(0, PROMPT, route=0, session=hand.session))
        await send(link, Probe(session=hand.session, number=1))
        assert (await expect(link, Stands)).arrived == PROVEN


async def test_rows_of_a_route_to_come_are_bounded(tmp_path: Path) -> None:
    market, hand = await halves(tmp_path)
    async with market:
        link, before = await last_leg_begun(market, hand)
        for _ in range(MOST_EARLY + 1):
            await send(before, *rows(0, PROMPT, route=1, session=hand.session))
        assert (await expect(link, Failed)).code == "out-of-order"


async def test_what_a_neighbour_sent_early_is_void_once_it_is_none(tmp_path: Path) -> None:
    market, hand = await halves(tmp_path)
    async with market:
        link, before = await last_leg_begun(market, hand)
        await send(before, *rows(0, PROMPT, route=1, session=hand.session))
        await asyncio.sleep(1)
        other = Rerouted(
            session=hand.session,
            sealed=(half_route(hand, 2),),
            next_offer=hand.deal.legs[2].sealed,
            joining=Joining(base=0, start=0, onward=0),
        )
        await send(link, other)
        await send(link, Probe(session=hand.session, number=1))
        assert (await expect(link, Stands)).arrived == 0


# Legs, against their client


async def test_a_leg_that_replays_other_rows_than_it_signed_for_is_found(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spares=((2, 4),)) as market:
        tokens = []
        async with market.client.start(market.deal(PROMPT, 20)) as job:
            async for token in job:
                tokens.append(token)
                if len(tokens) == 6:
                    market.nodes[0].provider._places.all[0].job.trail._rows[8] ^= 1
                    await market.kill(1)
        assert isinstance(job.result.error, DishonestError)
        assert job.result.error.legs == (0, 3)
        assert tokens == answer(PROMPT, 20)[: len(tokens)]
        noted = {address: deed for address, deed, _ in market.peers.noted}
        assert {noted[market.nodes[number].key.address] for number in (0, 3)} == {Deed.DISPUTED}
        assert market.nodes[2].key.address not in noted


@pytest.mark.parametrize("stuck", [0, 1, 2])
@pytest.mark.parametrize("word", ["all went on", "nothing came"])
async def test_a_leg_that_lies_about_where_it_stands_is_left_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: int, word: str
) -> None:
    honest = LegJob.standing.fget
    assert honest is not None

    def standing(job: LegJob) -> tuple[int, int, int, bool]:
        arrived, processed, signed, replays = honest(job)
        if job.leg != stuck:
            return arrived, processed, signed, replays
        said = arrived if word == "all went on" else processed
        return said, said, signed, replays

    monkeypatch.setattr(LegJob, "standing", property(standing))
    async with SmallMarket(tmp_path, spares=((0, 6), (0, 6), (0, 6))) as market:
        for node in market.nodes:
            node.limits.idle_s = node.limits.lapse_s = 600.0
        worker = market.nodes[stuck].provider._compute._worker = StuckWorker()
        tokens = []
        async with market.client.start(market.deal(PROMPT, 20)) as job:
            async for token in job:
                tokens.append(token)
                if len(tokens) == 6:
                    worker.stand(still=True)
        worker.stand(still=False)
        assert job.result.error is None
        assert tokens == answer(PROMPT, 20)
