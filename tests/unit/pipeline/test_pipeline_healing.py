"""An answer survives its legs: killed, cut off or silent, they are replaced, and the same tokens come."""

from __future__ import annotations

from pathlib import Path

import pytest
from counting_engine import CountingEngine
from small_market import BLOCKS, SmallMarket, limits_of

from node.pipeline.buying.job import Deal, JobResult
from node.pipeline.serving import parts
from node.ports import StepInput, StepOutput
from protocol.errors import LostPeerError


def answer(prompt: tuple[int, ...], most: int) -> list[int]:
    """What an engine with all blocks says."""
    engine = CountingEngine(0, BLOCKS, BLOCKS)
    engine.open(b"alone", max_tokens=512)
    tokens, position, data = list[int](), 0, prompt
    while len(tokens) < most:
        (output,) = engine.forward(
            [StepInput(session=b"alone", position=position, length=len(data), data=data, draws=1)]
        )
        assert isinstance(output, StepOutput)
        position, data = position + len(data), output.tokens
        tokens.extend(output.tokens)
        if 0 in output.tokens:
            break
    return tokens


pytestmark = pytest.mark.asyncio
PROMPT = (1, 2, 3, 4, 5)


async def killed_at(market: SmallMarket, deal: Deal, kills: dict[int, int]) -> tuple[list[int], JobResult]:
    """Run a job; after so many tokens the node of that number is killed."""
    tokens: list[int] = []
    async with market.client.start(deal) as job:
        async for token in job:
            tokens.append(token)
            if len(tokens) in kills:
                await market.kill(kills[len(tokens)])
    return tokens, job.result


def conserved(market: SmallMarket) -> None:
    books = market.ledger.replayed()
    assert books.digest() == market.ledger.books.digest() if hasattr(books, "digest") else True


@pytest.mark.parametrize("dead", [0, 1, 2])
@pytest.mark.parametrize("at", [1, 4, 5, 9])
async def test_an_answer_survives_any_leg(tmp_path: Path, dead: int, at: int) -> None:
    async with SmallMarket(tmp_path, spares=((0, 6),)) as market:
        tokens, result = await killed_at(market, market.deal(PROMPT, 20), {at: dead})
        assert result.error is None
        assert tokens == answer(PROMPT, 20)
        assert [each.gone for each in result.healed] == [(dead,)]
        assert [each.joined for each in result.healed] == [(3,)]


@pytest.mark.parametrize("dead", [0, 2])
async def test_an_answer_with_windows_longer_than_parts_of_prompts_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    """What stands beyond the base then fills more than a frame that all clients may send."""
    monkeypatch.setattr(parts, "CLIENT_BYTES", 64)
    limits = limits_of()
    limits.max_window = 100
    async with SmallMarket(tmp_path, spares=((0, 6),), limits=limits) as market:
        tokens, result = await killed_at(market, market.deal(PROMPT, 120, window=100), {60: dead})
        assert (result.error, tokens) == (None, answer(PROMPT, 120))
        assert [each.gone for each in result.healed] == [(dead,)]


async def test_two_legs_die_at_once(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spares=((0, 4), (2, 6))) as market:
        tokens: list[int] = []
        async with market.client.start(market.deal(PROMPT, 20)) as job:
            async for token in job:
                tokens.append(token)
                if len(tokens) == 6:
                    await market.kill(0)
                    await market.kill(2)
        assert job.result.error is None
        assert tokens == answer(PROMPT, 20)


async def test_a_replacement_dies_too(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spares=((0, 6), (2, 4))) as market:
        tokens, result = await killed_at(market, market.deal(PROMPT, 30), {6: 1, 14: 3, 20: 4})
        assert isinstance(result.error, LostPeerError)
        assert tokens == answer(PROMPT, 30)[: len(tokens)]
        assert len(tokens) >= 20


async def test_without_a_replacement_what_came_is_paid_and_the_rest_comes_back(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path) as market:
        tokens, result = await killed_at(market, market.deal(PROMPT, 20), {6: 1})
        assert isinstance(result.error, LostPeerError)
        assert tokens == answer(PROMPT, 20)[: len(tokens)]
