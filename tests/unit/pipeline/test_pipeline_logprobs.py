"""Log probabilities beside the tokens: the same ones however an answer is served, and nobody signs for a lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from continued_deals import deal_on
from counting_engine import next_token, said_of
from lying_legs import Liar
from oracle_drafter import OracleDrafter
from small_market import SmallMarket

from node.app.buying.continuing import Earlier
from node.pipeline.serving.rows import Known
from node.pipeline.serving.saying import Saying
from protocol.encoding.codec import Message
from protocol.errors import DishonestError, MalformedError
from protocol.session.frames import Sampled
from protocol.session.logprobs import LogProb, pack_said, unpack_said
from protocol.session.terms import Plan

pytestmark = pytest.mark.asyncio

PROMPT = (3, 1, 4, 1, 5, 9, 2)
THIRDS = ((0, 2), (2, 4), (4, 6))


def answer(prompt: Sequence[int], most: int) -> list[int]:
    tokens = list(prompt)
    for at in range(len(prompt), len(prompt) + most):
        tokens.append(next_token(tokens[-1], at - 1))
    return tokens[len(prompt) :]


def said(prompt: Sequence[int], most: int, top: int) -> list[bytes]:
    return [said_of(token, at, top) for at, token in enumerate(answer(prompt, most), len(prompt))]


@pytest.mark.parametrize(("spans", "top", "ahead"), [(((0, 6),), 0, 1), (THIRDS, 3, 1), (THIRDS, 20, 3)])
async def test_they_come_with_the_tokens(tmp_path: Path, spans: tuple, top: int, ahead: int) -> None:
    async with SmallMarket(tmp_path, spans=spans) as market:
        deal = market.deal(PROMPT, 14, window=5, chunk=3, ahead=ahead, logprobs=top)
        came, result = await market.run(deal)
        assert (result.error, result.settle_error) == (None, None)
        assert (came, result.tab.said) == (answer(PROMPT, 14), said(PROMPT, 14, top))
        _, without = await market.run(market.deal(PROMPT, 3))
        assert without.tab.said == []


@pytest.mark.parametrize("spans", [((0, 6),), THIRDS], ids=["one leg", "three"])
async def test_of_drafts_only_those_of_tokens_that_stand(tmp_path: Path, spans: tuple) -> None:
    market = SmallMarket(tmp_path, spans=spans)
    market.nodes[0].drafter = OracleDrafter(lambda tokens: next_token(tokens[-1], len(tokens) - 1), 0.7)
    for node in market.nodes:
        node.draft_depth = 4
    async with market:
        came, result = await market.run(market.deal(PROMPT, 40, window=5, chunk=4, logprobs=2))
        assert (result.error, result.settle_error) == (None, None)
        assert (came, result.tab.said) == (answer(PROMPT, 40), said(PROMPT, 40, 2))
        assert len(market.nodes[-1].engine.passes) < 40


@pytest.mark.parametrize("dead", [0, 2])
async def test_they_survive_any_leg(tmp_path: Path, dead: int) -> None:
    """A last leg that joins signs for those that came before; one that stays holds them against its own."""
    market = SmallMarket(tmp_path, spares=((0, 6), (4, 6)))
    async with market:
        async with market.client.start(market.deal(PROMPT, 30, logprobs=2)) as job:
            async for _ in job:
                if job.result.tab.generated == 14 and market.nodes[dead].alive:
                    await market.kill(dead)
        assert (job.result.error, [each.gone for each in job.result.healed]) == (None, [(dead,)])
        assert job.result.tab.said == said(PROMPT, 30, 2)
        assert job.result.tab.complete


async def test_an_answer_that_goes_on_in_another_session_has_them_there(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path) as market:
        async with market.client.start(deal_on(market, PROMPT, 20, logprobs=1)) as job:
            async for _ in job:
                if job.result.tab.generated >= 9:
                    break
        came = tuple(job.result.tab.tokens)
        rest = deal_on(market, came, 20 - job.result.tab.generated, earlier=Earlier.of(job.result), logprobs=1)
        _, result = await market.run(rest)
        assert result.error is None
        assert result.tab.joinings[-1].start > 0
        assert [*job.result.tab.said, *result.tab.said] == said(PROMPT, 20, 1)


def bent(change: Callable[[bytes], bytes]) -> Callable[[Message, bytes], tuple[Message | bytes, bytes]]:
    """A last leg sends other log probabilities than it signs for, or none that can be."""
    return lambda frame, payload: (frame, change(payload) if isinstance(frame, Sampled) else payload)


def raised(payload: bytes) -> bytes:
    drawn, *others = unpack_said(payload)
    return pack_said([drawn._replace(millionths=drawn.millionths + 1), *others])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (raised, "signed for other tokens than it sent"),
        (lambda payload: payload[:-1], "did not send what was asked for"),
        (lambda payload: payload + bytes(8), "did not send what was asked for"),
        (lambda _: b"", "did not send what was asked for"),
        (lambda payload: bytes(8) + payload[8:], "of another token"),
    ],
)
async def test_a_leg_that_sends_others_than_it_signs_for_is_blamed(tmp_path: Path, change: object, why: str) -> None:
    async with SmallMarket(tmp_path) as market, asyncio.timeout(60):
        Liar(market, 2, bent(change))  # type: ignore[arg-type]
        _, result = await market.run(market.deal(PROMPT, 12, logprobs=0))
        assert result.error is not None
        assert why in result.error.message
        assert result.error.legs == (2,)


async def test_whoever_asked_for_none_takes_none(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path) as market, asyncio.timeout(60):
        Liar(market, 2, bent(lambda _: bytes(8)))
        _, result = await market.run(market.deal(PROMPT, 12))
        assert result.error is not None
        assert "did not send what was asked for" in result.error.message


PLAN = Plan(prompt=3, most=40, chunk=8, window=4)


def of_a_leg(top: int | None = 1) -> Saying:
    found = Saying(PLAN, top)
    if top is not None:
        found.drawn(3, [said_of(token, at, top) for at, token in enumerate((5, 6, 7), 3)])
    return found


def known(*tokens: int, at: int = 3, top: int = 1) -> Known:
    return Known(tokens, tuple(said_of(token, position, top) for position, token in enumerate(tokens, at)))


async def test_a_leg_that_stays_is_told_nothing_else_than_it_said() -> None:
    other = known(5, 6)._replace(said=(*known(5).said, pack_said([LogProb(6, 9), LogProb(6, 9)])))
    for position, told, right in (
        (3, known(5, 6), True),
        (3, known(5, 6, 7), True),
        (4, known(6, at=4), True),
        (3, Known(), True),
        (3, known(5, 6, 7, 8), False),  # it never said that
        (3, other, False),
        (4, known(6, at=5), False),
        (3, Known((5, 6), known(5).said), False),
        (3, Known((5,)), False),
    ):
        leg = of_a_leg()
        if right:
            leg.take_up(position, told, joins=False)
            leg.take_up(position, told, joins=False)
        else:
            with pytest.raises(MalformedError):
                leg.take_up(position, told, joins=False)
    with pytest.raises(MalformedError):
        of_a_leg(None).take_up(3, known(5), joins=True)


async def test_a_leg_that_joins_believes_what_can_be() -> None:
    joined = Saying(PLAN, 1)
    joined.take_up(3, known(5, 6), joins=True)
    joined.drawn(5, known(7, at=5).said)
    joined.take_up(4, known(6, 7, at=4), joins=False)
    with pytest.raises(DishonestError):
        Saying(PLAN, 1).take_up(3, Known((5,), known(6).said), joins=True)
