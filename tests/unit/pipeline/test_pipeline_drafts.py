"""Drafts around the ring: the same answer and the same money with and without, and lies that change neither."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from counting_engine import VOCABULARY, next_token
from drafted_ring import drafting, expected_tokens, following
from oracle_drafter import OracleDrafter
from small_market import RATES, SmallMarket, limits_of

from node.pipeline.serving.flow import Flow
from node.pipeline.serving.lookup import LookupDrafter
from node.pipeline.serving.onward import sampled_frames
from node.pipeline.serving.windows import Passed
from node.ports import DraftAsk, StepOutput
from protocol.errors import DishonestError
from protocol.session.frames import MAX_ITEMS, SampledToken
from protocol.session.metering import Work, owed

pytestmark = pytest.mark.asyncio

CUTS = {1: ((0, 6),), 2: ((0, 2), (2, 6)), 3: ((0, 2), (2, 4), (4, 6)), 4: ((0, 1), (1, 2), (2, 4), (4, 6))}


def receipts(result) -> list:
    return [each.signed.receipt for window in result.tab.book.windows for each in window.receipts]


@pytest.mark.parametrize("instant", [True, False])
@pytest.mark.parametrize("right", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("legs", [1, 2, 3, 4])
async def test_an_answer_is_the_same_with_drafts_right_or_wrong(tmp_path, legs, right, instant) -> None:
    prompt, most = (3, 1, 4, 1, 5, 9, 2, 6, 5), 40
    oracle = OracleDrafter(following, right, instant=instant)
    async with drafting(SmallMarket(tmp_path, spans=CUTS[legs]), oracle) as market:
        came, result = await market.run(market.deal(prompt, most, window=5, chunk=4))
        assert (result.error, result.settle_error) == (None, None)
        assert came == expected_tokens(prompt, most)
        assert result.tab.complete
        assert oracle.asked > 0
        price = owed(RATES, Work(0, len(prompt), most))
        assert [market.free(node.key) for node in market.nodes] == [price] * legs
        rows = len(prompt) + most - 1
        computed = [each.rows for each in receipts(result)][-legs:]
        assert all(each >= rows for each in computed)
        if right == 1.0:
            assert market.nodes[-1].engine.passes.__len__() < most
        if right == 0.0:
            assert computed[0] > rows


async def test_more_tokens_may_come_of_one_pass_than_one_frame_tells() -> None:
    tokens = [SampledToken(session=bytes(32), position=at, token=at, route=0) for at in range(2 * MAX_ITEMS + 8)]
    said = b"".join(at.to_bytes(8, "little") for at in range(len(tokens)))
    frames = list(sampled_frames(tokens, said))
    assert [len(frame.tokens) for frame, _ in frames] == [MAX_ITEMS, MAX_ITEMS, 8]
    assert [token for frame, _ in frames for token in frame.tokens] == tokens
    assert [len(beside) for _, beside in frames] == [8 * len(frame.tokens) for frame, _ in frames]
    assert b"".join(beside for _, beside in frames) == said
    assert [beside for _, beside in sampled_frames(tokens)] == [b""] * 3
    assert list(sampled_frames(())) == []


@pytest.mark.parametrize("round_trip_s", [pytest.param(0.025, marks=pytest.mark.long), 0.075])
@pytest.mark.parametrize("right", [0.7, 0.9])
async def test_passes_under_way_hide_the_distance(tmp_path, right, round_trip_s) -> None:
    """The whole of a job over far links, on the clock of these tests: against one token for each trip.

    The first job has to find out what guesses are worth; the next one begins with it.
    """
    prompt, most, took = (3, 1, 4, 1, 5), 400, []
    for name in ("with", "without"):
        market = drafting(
            SmallMarket(tmp_path / name, limits=limits_of(60.0)), OracleDrafter(following, right, seed=2), depth=15
        )
        market.network.delay_s, market.pass_s = round_trip_s / 2, 0.01
        async with market:
            await market.run(market.deal((2, 7, 1), 100, window=16, chunk=8, drafts=name == "with"))
            deal = market.deal(prompt, most, window=16, chunk=8, drafts=name == "with")
            came, result = await market.run(deal)
            assert result.error is None
            assert came == expected_tokens(prompt, most)
            took.append(result.token_times_s[-1] - result.token_times_s[0])
    assert took[1] / took[0] >= 0.75 / (1 - right)


class Liar(OracleDrafter):
    """Says what no honest drafter does."""

    def __init__(self, lie: str) -> None:
        super().__init__(following, 1.0)
        self.lie = lie

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        lies = {
            "beyond the vocabulary": (VOCABULARY, 2**40),
            "below it": (-1,),
            "too many": tuple(range(1, 40)),
            "nothing": (),
            "the token that ends answers": (0, 0, 0),
        }
        return [lies[self.lie]] * len(asks)


@pytest.mark.parametrize(
    "lie", ["beyond the vocabulary", "below it", "too many", "nothing", "the token that ends answers"]
)
async def test_a_drafter_that_lies_changes_nothing(tmp_path, lie) -> None:
    prompt, most = (3, 1, 4, 1, 5), 30
    async with drafting(SmallMarket(tmp_path), Liar(lie)) as market:
        came, result = await market.run(market.deal(prompt, most, window=4, chunk=4))
        assert result.error is None
        assert came == expected_tokens(prompt, most)


async def test_many_sessions_draft_side_by_side_and_leave_nothing(tmp_path) -> None:
    import asyncio

    oracle = OracleDrafter(following, 0.8, instant=False)
    async with drafting(SmallMarket(tmp_path), oracle) as market:
        prompts = [tuple(range(1, 3 + each)) for each in range(8)]
        found = await asyncio.gather(*(market.run(market.deal(each, 25)) for each in prompts))
        for prompt, (came, result) in zip(prompts, found, strict=True):
            assert result.error is None
            assert came == expected_tokens(prompt, 25)
        await asyncio.sleep(3)
        assert oracle.sequences == {}
        assert [node.provider.active for node in market.nodes] == [0, 0, 0]


@pytest.mark.parametrize("token", range(18, 26))
async def test_a_leg_that_takes_over_hears_of_no_window_that_it_has_no_part_in(tmp_path, token) -> None:
    """The last receipt for a window and the end of a leg may reach the client in one breath."""
    market = SmallMarket(tmp_path, spares=((0, 6), (4, 6)))
    for node in market.nodes:
        node.drafter, node.draft_depth = OracleDrafter(following, 0.8), 4
    prompt, tokens = (3, 1, 4, 1, 5, 3, 1, 4, 1), []
    async with market, market.client.start(market.deal(prompt, 30)) as job:
        async for each in job:
            tokens.append(each)
            if len(tokens) == token:
                await market.kill(0)
    assert job.result.error is None
    assert tokens == expected_tokens(prompt, 30)


async def test_text_that_repeats_itself_is_guessed_from_itself(tmp_path) -> None:
    async with drafting(SmallMarket(tmp_path), LookupDrafter()) as market:
        came, result = await market.run(market.deal((1, 2, 3), 120, window=16))
        assert result.error is None
        assert came == expected_tokens((1, 2, 3), 120)


async def test_a_stop_token_in_the_middle_of_drafts_ends_the_answer(tmp_path, monkeypatch) -> None:
    import counting_engine

    def stopping(token: int, position: int) -> int:
        return 0 if position == 17 else next_token(token, position)

    monkeypatch.setattr(counting_engine, "next_token", stopping)
    oracle = OracleDrafter(lambda tokens: stopping(tokens[-1], len(tokens) - 1), 1.0)
    async with drafting(SmallMarket(tmp_path), oracle, depth=8) as market:
        came, result = await market.run(market.deal((1, 2, 3), 40, window=8))
        assert result.error is None
        assert came[-1] == 0
        assert len(came) == 18 - 3 + 1


async def test_where_one_leg_does_not_verify_nobody_drafts(tmp_path) -> None:
    oracle = OracleDrafter(following, 1.0)
    market = drafting(SmallMarket(tmp_path), oracle)
    market.nodes[1].draft_depth = 0
    async with market:
        came, result = await market.run(market.deal((1, 2, 3), 20))
        assert result.error is None
        assert came == expected_tokens((1, 2, 3), 20)
        assert oracle.asked == 0


async def test_deeper_drafts_than_were_offered_are_refused(tmp_path) -> None:
    async with drafting(SmallMarket(tmp_path, limits=limits_of()), OracleDrafter(following, 1.0)) as market:
        deal = market.deal((1, 2, 3), 20)
        assert deal.terms.speculation.depth == 4
        market.nodes[1].draft_depth = 3
        _, result = await market.run(deal)
        assert result.error is None  # what was offered is honoured
        fewer = market.deal((1, 2, 3), 20)
        assert fewer.terms.speculation.depth == 3


async def test_a_client_may_do_without(tmp_path) -> None:
    oracle = OracleDrafter(following, 1.0)
    async with drafting(SmallMarket(tmp_path), oracle) as market:
        _, result = await market.run(market.deal((1, 2, 3), 20, drafts=False))
        assert result.error is None
        assert oracle.asked == 0


async def test_a_middle_leg_that_does_not_go_back_contradicts_its_neighbours(tmp_path, monkeypatch) -> None:
    """It signs for the rows of a guess that was wrong: those before it signed for others."""
    stale: dict[int, Passed] = {}
    forget, book = Flow._forget, Flow._book

    def keeping(self: Flow, position: int) -> None:
        if not self.ends.first and not self.ends.last:
            for passed in self._tentative:
                for at in range(max(position, passed.position), passed.end):
                    stale[at] = passed.part(at, at + 1)
        forget(self, position)

    def lying(self: Flow, passed: Passed) -> None:
        if not self.ends.first and not self.ends.last and passed.position in stale:
            kept = stale[passed.position]
            received, sent = (old + new[len(old) :] for old, new in zip(kept[2:4], passed[2:4], strict=True))
            passed = passed._replace(received=received, sent=sent)
        book(self, passed)

    monkeypatch.setattr(Flow, "_forget", keeping)
    monkeypatch.setattr(Flow, "_book", lying)
    async with drafting(SmallMarket(tmp_path), OracleDrafter(following, 0.5)) as market:
        _, result = await market.run(market.deal((1, 2, 3, 4, 5), 40))
        assert stale
        assert isinstance(result.error, DishonestError)
        assert set(result.failures) <= {0, 1}


async def test_a_last_leg_that_takes_wrong_guesses_is_found_by_whoever_draws_again(tmp_path, monkeypatch) -> None:
    """Receipts of all legs agree, and the tokens are not those that the model draws: a spot check's margin (F7)."""
    verified = Flow._verified

    def believing(self: Flow, arrived, output: StepOutput) -> int:
        if self.ends.last and arrived.first_draft < arrived.end:
            guesses = self._show_ids(arrived)
            tokens = (*guesses[-(len(output.tokens) - 1) :], output.tokens[-1]) if len(output.tokens) > 1 else None
            if tokens is not None and len(tokens) == len(output.tokens):
                object.__setattr__(output, "tokens", tokens)
        return verified(self, arrived, output)

    monkeypatch.setattr(Flow, "_verified", believing)
    prompt, most = (1, 2, 3, 4, 5), 40
    async with drafting(SmallMarket(tmp_path), OracleDrafter(following, 0.5)) as market:
        came, result = await market.run(market.deal(prompt, most))
        assert result.error is None
        assert came != expected_tokens(prompt, most)
        tokens = [*prompt, *came]
        drawn = [following(tokens[:at]) for at in range(len(prompt), len(tokens))]
        assert any(one != other for one, other in zip(drawn, came, strict=True))


async def test_rows_in_vain_are_paid_where_they_have_a_price(tmp_path) -> None:
    """As many as the leg counts that counts fewest, at each leg's own rate; a leg claims no more than was promised."""
    prompt, most = (1, 2, 3, 4, 5), 40
    market = drafting(SmallMarket(tmp_path), OracleDrafter(following, 0.6))
    for node in market.nodes:
        node.rates = RATES.replace(price_rejected=RATES.price_out)
    async with market:
        came, result = await market.run(market.deal(prompt, most))
        assert (result.error, result.settle_error) == (None, None)
        assert came == expected_tokens(prompt, most)
        fewest = min(each.rows for each in receipts(result)[-3:]) - (len(prompt) + most - 1)
        assert fewest > 0
        rates = market.nodes[0].rates
        price = min(owed(rates, Work(0, len(prompt), most, rejected=fewest)), result.deal.session.legs[0].cap)
        assert [market.free(node.key) for node in market.nodes] == [price] * 3
