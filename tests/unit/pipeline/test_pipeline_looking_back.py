"""Draws that look back on the tokens before them: the same answer however it is served, and nobody is told a lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from continued_deals import deal_on
from counting_engine import looked_back, next_token
from hand_client import Hand, expect, send
from oracle_drafter import OracleDrafter
from small_market import SmallMarket

from node.app.buying.continuing import Earlier
from node.pipeline.serving.looking_back import LookingBack
from protocol.errors import MalformedError
from protocol.session.frames import Failed, Sampled, Told
from protocol.session.receipt import token_bytes
from protocol.session.shaping import Shaping, begun_with, bound_to, look_back
from protocol.session.terms import Plan

pytestmark = pytest.mark.asyncio

PROMPT = (3, 1, 4, 1, 5, 9, 2)
BOTH = Shaping(repetition_milli=1300, frequency=2500)
COUNTS = Shaping(presence=3000)
THIRDS = ((0, 2), (2, 4), (4, 6))


def following(tokens: Sequence[int], shaping: Shaping = BOTH, prompt: int = len(PROMPT)) -> int:
    seen = look_back(shaping, tokens[:prompt])
    return looked_back(next_token(tokens[-1], len(tokens) - 1), seen.prompt, (*seen.answer, *tokens[prompt:]))


def answer(prompt: Sequence[int], most: int, shaping: Shaping = BOTH) -> list[int]:
    tokens = list(prompt)
    for _ in range(most):
        tokens.append(following(tokens, shaping, len(prompt)))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("shaping", [BOTH, COUNTS], ids=["of the prompt, too", "of the answer"])
@pytest.mark.parametrize("spans", [((0, 6),), THIRDS], ids=["one leg", "three"])
async def test_the_last_leg_looks_back(tmp_path: Path, spans: tuple, shaping: Shaping) -> None:
    async with SmallMarket(tmp_path, spans=spans) as market:
        came, result = await market.run(market.deal(PROMPT, 20, shaping=shaping))
        assert (result.error, result.settle_error) == (None, None)
        assert came == answer(PROMPT, 20, shaping)
        assert came != answer(PROMPT[1:], 20, shaping)


@pytest.mark.parametrize("right", [0.5, 1.0])
@pytest.mark.parametrize("spans", [((0, 6),), THIRDS], ids=["one leg", "three"])
async def test_drafts_change_nothing(tmp_path: Path, spans: tuple, right: float) -> None:
    market = SmallMarket(tmp_path, spans=spans)
    market.nodes[0].drafter = OracleDrafter(following, right)
    for node in market.nodes:
        node.draft_depth = 4
    async with market:
        came, result = await market.run(market.deal(PROMPT, 40, window=5, chunk=4, shaping=BOTH))
        assert (result.error, result.settle_error) == (None, None)
        assert came == answer(PROMPT, 40)
        if right == 1.0:
            assert len(market.nodes[-1].engine.passes) < 40


@pytest.mark.parametrize("drafts", [False, True])
@pytest.mark.parametrize("dead", [0, 1, 2])
async def test_an_answer_survives_any_leg(tmp_path: Path, dead: int, drafts: bool) -> None:
    """A new last leg is told of the prompt and of what came; one that stays has it."""
    market = SmallMarket(tmp_path, spares=((0, 6), (4, 6)))
    if drafts:
        for node in market.nodes:
            node.drafter, node.draft_depth = OracleDrafter(following, 0.8), 4
    async with market:
        tokens: list[int] = []
        async with market.client.start(market.deal(PROMPT, 30, shaping=BOTH)) as job:
            async for token in job:
                tokens.append(token)
                if len(tokens) == 14:
                    await market.kill(dead)
        assert job.result.error is None
        assert tokens == answer(PROMPT, 30)
        assert [each.gone for each in job.result.healed] == [(dead,)]


async def test_an_answer_that_broke_off_goes_on_in_another_session(tmp_path: Path) -> None:
    """What came counts as answer there, too; a new question begins anew."""
    async with SmallMarket(tmp_path) as market:
        job = market.client.start(deal_on(market, PROMPT, 30, shaping=BOTH))
        came: list[int] = []
        async with job:
            async for token in job:
                came.append(token)
                if len(came) == 9:
                    break
        earlier = Earlier.of(job.result)
        assert earlier is not None
        shaping, prompt = begun_with(BOTH, len(came)), (*PROMPT, *came)
        rest, result = await market.run(deal_on(market, prompt, 30 - len(came), earlier=earlier, shaping=shaping))
        assert result.error is None
        assert result.tab.joinings[-1].start > 0, "and the last leg was fed none of it again"
        assert shaping is not None
        assert rest == answer(prompt, 30 - len(came), shaping)
        # This engine tells a token of the prompt from one of the answer; the penalty of a real one does not.
        whole = answer(PROMPT, 30, COUNTS)
        assert whole == whole[:9] + answer((*PROMPT, *whole[:9]), 21, begun_with(COUNTS, 9) or COUNTS)
        asked = (*prompt, *rest, 7, 8)
        again, _ = await market.run(deal_on(market, asked, 8, earlier=Earlier.of(result), shaping=BOTH))
        assert again == answer(asked, 8)


async def told_by_hand(market: SmallMarket, told: bytes, *, answer: bool = False, node: int = 0, last: bool = True):
    hand = Hand(market, shaping=BOTH)
    link = await hand.accepted(node)
    await send(link, *hand.prompt())
    await send(link, Told(session=hand.session, answer=answer, last=last), told)
    return hand, link


async def test_nothing_is_drawn_before_the_client_has_told(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spans=((0, 6),)) as market:
        hand = Hand(market, shaping=BOTH)
        link = await hand.accepted()
        await send(link, *hand.prompt())
        await send(link, Told(session=hand.session, answer=False, last=False), hand.deal.told[:4])
        assert market.nodes[0].engine.rows == 0
        await send(link, Told(session=hand.session, answer=False, last=True), hand.deal.told[4:])
        assert (await expect(link, Sampled)).tokens[0].token == answer((1, 2, 3), 1)[0]


@pytest.mark.parametrize(
    "told",
    [token_bytes([1, 2, 4]), token_bytes([1, 2]), token_bytes([1, 2, 3])[:-1], b"", token_bytes([1] * 7)],
    ids=["another", "one less", "cut", "nothing", "more"],
)
async def test_what_is_told_is_what_the_terms_name(tmp_path: Path, told: bytes) -> None:
    async with SmallMarket(tmp_path, spans=((0, 6),)) as market:
        _, link = await told_by_hand(market, told)
        assert (await expect(link, Failed)).code == "malformed"


async def test_nobody_else_is_told(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spans=((0, 3), (3, 6))) as market:
        _, link = await told_by_hand(market, token_bytes([1, 2, 3]))
        assert (await expect(link, Failed)).code == "malformed"
    async with SmallMarket(tmp_path / "3", spans=((0, 6),)) as market:
        _, link = await told_by_hand(market, token_bytes([1]), answer=True)
        assert (await expect(link, Failed)).code == "malformed"
    async with SmallMarket(tmp_path / "2", spans=((0, 6),)) as market:
        hand = Hand(market)
        link = await hand.accepted()
        await send(link, Told(session=hand.session, answer=False, last=True), token_bytes([1, 2, 3]))
        assert (await expect(link, Failed)).code == "malformed"


def of_a_leg(*, draws: bool = True) -> LookingBack:
    shaping = bound_to(BOTH, PROMPT)
    found = LookingBack(Plan(prompt=len(PROMPT), most=9, chunk=4, window=4), shaping, draws=draws)
    if draws:
        told = Told(session=bytes(32), answer=False, last=True)
        found.take(told, look_back(shaping, PROMPT).told, serves=True)
    return found


async def test_a_leg_that_stays_is_told_no_other_answer() -> None:
    """A client that could do so had it draw what an auditor would not."""
    at = len(PROMPT)
    for position, known, right in (
        (at, (5, 6, 7), True),
        (at + 2, (7,), True),
        (at + 2, (7, 8), False),  # nobody has drawn that
        (at + 1, (7,), False),
        (at + 4, (), False),
    ):
        leg = of_a_leg()
        leg.drawn(at, (5, 6, 7))
        leg.drawn(at + 1, (6, 7))  # of a piece that was overtaken
        if right:
            leg.take_up(position, known, joins=False)
            found = leg.before(position + len(known))
            assert found is not None
            assert found.answer == (5, 6, 7)
        else:
            with pytest.raises(MalformedError):
                leg.take_up(position, known, joins=False)


async def test_a_leg_signs_for_no_other_tokens_than_it_drew() -> None:
    """Where draws look back on nothing, too: a client that could make it do so would have it convicted."""
    at = len(PROMPT)
    for position, known, right in (
        (at, (5, 6, 7), True),
        (at, (5, 6, 7, 8), False),  # nobody has drawn that
        (at + 2, (), True),
        (at + 4, (9,), False),
        (at - 3, (), True),
        (at - 3, (5, 6), True),
        (at + 1, (7,), False),
        (at, (5, 6, 8), False),
        (at - 3, (4,), False),
    ):
        leg = LookingBack(Plan(prompt=at, most=9, chunk=4, window=4), None, draws=True)
        leg.drawn(at, (5, 6, 7))
        if right:
            leg.take_up(position, known, joins=False)
            leg.take_up(max(at, position), known, joins=False)
        else:
            with pytest.raises(MalformedError):
                leg.take_up(position, known, joins=False)
    joined = LookingBack(Plan(prompt=at, most=9, chunk=4, window=4), None, draws=True)
    joined.take_up(at + 2, (7,), joins=True)
    joined.drawn(at + 3, (8, 9))
    joined.take_up(at + 1, (6, 7, 8), joins=False)
    with pytest.raises(MalformedError):
        joined.take_up(at, (5, 6, 7, 9), joins=False)


async def test_no_more_is_told_than_there_can_be() -> None:
    leg, told = of_a_leg(), Told(session=bytes(32), answer=True, last=True)
    leg.take(told, token_bytes(range(8)), serves=False)
    leg.take(told.replace(last=False), token_bytes(range(9)), serves=False)  # another time, from the beginning
    for frame, serves in ((told, False), (told, True), (told.replace(answer=False), False)):
        with pytest.raises(MalformedError):
            leg.take(frame, token_bytes([1]), serves=serves)
    with pytest.raises(MalformedError):
        of_a_leg(draws=False).take(told, token_bytes([1]), serves=False)
