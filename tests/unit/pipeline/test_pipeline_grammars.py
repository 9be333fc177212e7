"""Answers held to a grammar: the same text however they are served, and a bad grammar costs its session alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from continued_deals import deal_on
from counting_engine import next_token
from held_engine import HeldEngine, held, text_of
from oracle_drafter import OracleDrafter
from small_market import BLOCKS, SmallMarket, limits_of

from node.app.buying.continuing import Earlier
from node.app.buying.grammars import of_schema
from node.pipeline.serving.looking_back import LookingBack
from protocol.errors import MalformedError
from protocol.session.frames import Told
from protocol.session.grammar import MASKS, grammar_of
from protocol.session.shaping import Shaping, begun_with, bound_to, held_to, look_back
from protocol.session.terms import Plan

pytestmark = pytest.mark.asyncio

PROMPT = (3, 1, 4, 1, 5, 9, 2)
SCHEMA = {
    "type": "object",
    "properties": {"ab": {"type": "integer", "minimum": 100, "maximum": 999}, "cd": {"enum": ["x", "y", "z"]}},
    "required": ["ab", "cd"],
    "additionalProperties": False,
}
TEXT = of_schema(SCHEMA)
THIRDS = ((0, 2), (2, 4), (4, 6))


def shaping_of(text: bytes = TEXT, answered: int = 0) -> Shaping:
    found = begun_with(held_to(None, grammar_of(text)), answered)
    assert found is not None
    return found


def following(tokens: Sequence[int], prompt: int = len(PROMPT), text: bytes = TEXT) -> int:
    before = look_back(shaping_of(text), tokens[:prompt], text).with_more(tokens[prompt:])
    return held(next_token(tokens[-1], len(tokens) - 1), before)


def answer(prompt: Sequence[int] = PROMPT, most: int = 40) -> list[int]:
    tokens = list(prompt)
    while len(tokens) < len(prompt) + most and tokens[-1] != 0:
        tokens.append(following(tokens, len(prompt)))
    return tokens[len(prompt) :]


def market_of(folder: Path, spans: tuple = THIRDS, spares: tuple = ()) -> SmallMarket:
    market = SmallMarket(folder, spans=spans, spares=spares)
    for node in market.nodes:
        node.engine = HeldEngine(node.span.start, node.span.end, BLOCKS)
        node.masks = MASKS if node.span.end == BLOCKS else ""
    return market


async def test_what_comes_is_json_by_the_schema() -> None:
    found = answer()
    assert found[-1] == 0, "and then it ends"
    value = json.loads(text_of(found))
    assert value.keys() == {"ab", "cd"}
    assert 100 <= value["ab"] <= 999
    assert value["cd"] in "xyz"


@pytest.mark.parametrize("spans", [((0, 6),), THIRDS], ids=["one leg", "three"])
async def test_the_last_leg_keeps_to_it(tmp_path: Path, spans: tuple) -> None:
    async with market_of(tmp_path, spans) as market:
        came, result = await market.run(market.deal(PROMPT, 40, shaping=shaping_of(), grammar=TEXT))
        assert (result.error, result.settle_error) == (None, None)
        assert came == answer()
        cut, _ = await market.run(market.deal(PROMPT, 7, shaping=shaping_of(), grammar=TEXT))
        assert cut == answer()[:7]


@pytest.mark.parametrize("right", [0.5, 1.0])
async def test_drafts_change_nothing(tmp_path: Path, right: float) -> None:
    """Those that the grammar forbids are not taken."""
    market = market_of(tmp_path)
    market.nodes[0].drafter = OracleDrafter(following, right)
    for node in market.nodes:
        node.draft_depth = 4
    async with market:
        deal = market.deal(PROMPT, 40, window=5, chunk=4, shaping=shaping_of(), grammar=TEXT)
        came, result = await market.run(deal)
        assert (result.error, result.settle_error) == (None, None)
        assert came == answer()
        if right == 1.0:
            assert len(market.nodes[-1].engine.passes) < len(came)


@pytest.mark.parametrize("dead", [0, 2])
async def test_an_answer_survives_any_leg(tmp_path: Path, dead: int) -> None:
    async with market_of(tmp_path, spares=((0, 6), (4, 6))) as market:
        tokens: list[int] = []
        async with market.client.start(market.deal(PROMPT, 40, shaping=shaping_of(), grammar=TEXT)) as job:
            async for token in job:
                tokens.append(token)
                if len(tokens) == 9:
                    await market.kill(dead)
        assert job.result.error is None
        assert tokens == answer()
        assert [each.gone for each in job.result.healed] == [(dead,)]


async def test_it_goes_on_in_another_session_and_where_pages_are_short(tmp_path: Path) -> None:
    market = market_of(tmp_path)
    for node in market.nodes:
        node.limits = limits_of(overcommit=400)
    async with market:
        job = market.client.start(deal_on(market, PROMPT, 40, shaping=shaping_of(), grammar=TEXT))
        came: list[int] = []
        async with job:
            async for token in job:
                came.append(token)
                if len(came) == 9:
                    break
        earlier = Earlier.of(job.result)
        assert earlier is not None
        prompt, shaping = (*PROMPT, *came), shaping_of(answered=len(came))
        rest, result = await market.run(deal_on(market, prompt, 31, earlier=earlier, shaping=shaping, grammar=TEXT))
        assert result.error is None
        assert [*came, *rest] == answer()
        # Another beginning than the grammar has is refused, and nobody draws anything.
        wrong = (*PROMPT, 9, 9, 9)
        none, result = await market.run(deal_on(market, wrong, 8, shaping=shaping_of(answered=3), grammar=TEXT))
        assert (none, result.error and result.error.code) == ([], "grammar")


@pytest.mark.parametrize(
    "text", [b"start: %json {", b"\xff\xfe", b"start: missing", b'start: %json {"type":"object","not":{}}']
)
async def test_a_grammar_that_cannot_be_read_costs_its_session(tmp_path: Path, text: bytes) -> None:
    async with market_of(tmp_path, ((0, 6),)) as market:
        came, result = await market.run(market.deal(PROMPT, 8, shaping=shaping_of(text), grammar=text))
        assert (came, result.error and result.error.code) == ([], "grammar")
        came, result = await market.run(market.deal(PROMPT, 40, shaping=shaping_of(), grammar=TEXT))
        assert (came, result.error) == (answer(), None)


async def test_whose_offer_makes_other_masks_takes_no_such_order(tmp_path: Path) -> None:
    async with market_of(tmp_path, ((0, 6),)) as market:
        market.nodes[0].masks = "llguidance/1.0.0"
        came, result = await market.run(market.deal(PROMPT, 8, shaping=shaping_of(), grammar=TEXT))
        assert (came, result.error and result.error.code) == ([], "dishonest")


async def test_only_the_grammar_of_the_terms_is_taken() -> None:
    plan, told = Plan(prompt=7, most=9, chunk=4, window=4), Told(session=bytes(32), answer=False, last=True)
    shaping = bound_to(shaping_of(answered=2), PROMPT, TEXT)
    honest = look_back(shaping, PROMPT, TEXT).told
    leg = LookingBack(plan, shaping, draws=True)
    leg.take(told.replace(last=False), honest[:5], serves=True)
    leg.take(told, honest[5:], serves=True)
    assert leg.to_prepare is not None
    assert (leg.to_prepare[1].answer, leg.to_prepare[1].grammar) == (PROMPT[-2:], TEXT)
    assert not leg.ready, "before its masks can be made"
    for other in (honest[:-1], honest + b" ", honest[4:], honest[:-1] + b" ", TEXT + honest[:8]):
        with pytest.raises(MalformedError):
            LookingBack(plan, shaping, draws=True).take(told, other, serves=True)
