"""What may go wrong while an answer is healed, each by itself: the tokens, the money and the rest hold."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from disturbed_market import DisturbedMarket, Outcome, Trouble, answer

pytestmark = pytest.mark.asyncio
PROMPT = (1, 2, 3, 4, 5)
MOST = 24
SPANS = ((0, 2), (2, 4), (4, 6))
WHOLE = (0, 6)


async def troubled(folder: Path, troubles: list[Trouble], *spares: tuple[int, int]) -> Outcome:
    """A job over three legs, and what is left of it after all have had the time to settle."""
    market = DisturbedMarket(folder, Random(1), spans=SPANS, spares=spares)
    async with market:
        outcome = await market.disturbed(market.deal(PROMPT, MOST), troubles)
        market.check_bundle(outcome)
        await market.calm()
        market.check_zero()
        market.check_money()
    assert outcome.tokens == answer(PROMPT, MOST)[: len(outcome.tokens)]
    return outcome


def joined(outcome: Outcome) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Who went, and who came, each time."""
    assert outcome.result.error is None
    assert len(outcome.tokens) == MOST
    return [(each.gone, each.joined) for each in outcome.result.healed]


@pytest.mark.parametrize("legs", [(0, 1), (1, 2), (0, 2)])
async def test_two_legs_that_die_at_once_are_both_replaced(tmp_path: Path, legs: tuple[int, int]) -> None:
    troubles = [Trouble(kind="kill", node=leg, tokens=6) for leg in legs]
    outcome = await troubled(tmp_path, troubles, WHOLE, WHOLE)
    found = joined(outcome)
    assert sorted(leg for gone, _ in found for leg in gone) == sorted(legs)
    assert sorted(leg for _, came in found for leg in came) == [3, 4]


@pytest.mark.parametrize("legs", [(0, 1), (1, 2), (2, 1)])
async def test_what_a_replacement_computed_again_feeds_the_next_one(tmp_path: Path, legs: tuple[int, int]) -> None:
    """Its rows are not to the last digit those that were signed for, and nobody has lied."""
    troubles = [Trouble(kind="kill", node=leg, tokens=tokens) for leg, tokens in zip(legs, (6, 14), strict=True)]
    outcome = await troubled(tmp_path, troubles, WHOLE, WHOLE)
    assert [gone for gone, _ in joined(outcome)] == [(leg,) for leg in legs]


@pytest.mark.parametrize("leg", [0, 1, 2])
@pytest.mark.parametrize("kinds", [("kill", "revive"), ("mute", "unmute")])
async def test_a_leg_that_comes_back_has_no_part_any_more(tmp_path: Path, leg: int, kinds: tuple[str, str]) -> None:
    """One that hung sends all that it kept, to legs that go on without it."""
    went, back = kinds
    troubles = [Trouble(kind=went, node=leg, tokens=6), Trouble(kind=back, node=leg, tokens=14)]
    outcome = await troubled(tmp_path, troubles, WHOLE)
    assert joined(outcome) == [((leg,), (3,))]


@pytest.mark.parametrize("kind", ["no place", "full", "kill", "mute"])
async def test_where_a_standby_does_not_come_the_next_one_is_called(tmp_path: Path, kind: str) -> None:
    troubles = [Trouble(kind=kind, node=3, tokens=4), Trouble(kind="kill", node=1, tokens=6)]
    outcome = await troubled(tmp_path, troubles, (2, 4), WHOLE)
    (healed,) = joined(outcome)
    assert healed[0] in ((1,), (1, 3))
    assert healed[1] == (4,)


@pytest.mark.parametrize("kind", ["no place", "full"])
async def test_without_another_standby_what_came_is_paid_and_the_rest_comes_back(tmp_path: Path, kind: str) -> None:
    troubles = [Trouble(kind=kind, node=3, tokens=4), Trouble(kind="kill", node=1, tokens=6)]
    outcome = await troubled(tmp_path, troubles, WHOLE)
    assert outcome.result.error is not None
    assert len(outcome.tokens) >= 6


@pytest.mark.parametrize("kind", ["die", "leave"])
@pytest.mark.parametrize("frames", [1, 3, 5, 8, 12])
async def test_a_client_that_goes_away_while_it_heals_leaves_nothing_behind(
    tmp_path: Path, kind: str, frames: int
) -> None:
    troubles = [Trouble(kind="kill", node=1, tokens=6), Trouble(kind=kind, tokens=6, frames=frames)]
    outcome = await troubled(tmp_path, troubles, WHOLE)
    assert outcome.left
