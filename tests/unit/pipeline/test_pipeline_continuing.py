"""Sessions that go on from others: what is held is neither computed nor paid again, and the tokens are the same."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from continued_deals import deal_on, expected_tokens
from counting_engine import CountingEngine
from small_market import RATES, SmallMarket, limits_of

from node.app.buying.continuing import Earlier
from node.pipeline.buying.client import JobClient
from node.pipeline.buying.job import JobResult
from node.pipeline.vouchers import VoucherStore
from node.worker import InlineWorker
from protocol.errors import RefusedError
from protocol.identity.signing import SigningKey, open_envelope
from protocol.session.metering import Work, owed
from protocol.session.order import Acceptance

pytestmark = pytest.mark.asyncio

THIRDS = ((0, 2), (2, 4), (4, 6))


async def first_turn(market: SmallMarket, prompt: Sequence[int] = (1, 2, 3, 4, 5), most: int = 10) -> Earlier:
    came, result = await market.run(deal_on(market, prompt, most))
    assert result.error is None
    assert came == expected_tokens(prompt, most)
    return ended(result)


def ended(result: JobResult) -> Earlier:
    earlier = Earlier.of(result)
    assert earlier is not None
    return earlier


def held_by(result: JobResult) -> list[int]:
    return [open_envelope(sealed, Acceptance)[0].cached for _, sealed in sorted(result.acceptances.items())]


def computed(market: SmallMarket, number: int) -> int:
    return market.nodes[number].engine.rows


def complete(result: JobResult) -> None:
    assert (result.error, result.settle_error) == (None, None)
    assert result.tab.complete


async def test_a_second_turn_computes_and_pays_only_what_is_new(market: SmallMarket) -> None:
    earlier = await first_turn(market)
    before, earned = [computed(market, n) for n in range(3)], [market.free(node.key) for node in market.nodes]
    prompt = (*earlier.tokens, 7, 8, 9)
    came, result = await market.run(deal_on(market, prompt, 6, earlier=earlier))
    complete(result)
    assert came == expected_tokens(prompt, 6)
    # The last token of the first answer was drawn, and never fed.
    held = len(earlier.tokens) - 1
    assert held_by(result) == [held] * 3
    assert [each.start for each in result.tab.joinings] == [held] * 3
    new = len(prompt) - held + 5
    assert [computed(market, n) - before[n] for n in range(3)] == [new] * 3
    paid = owed(RATES, Work(held, len(prompt) - held, 6))
    assert [market.free(node.key) - before for node, before in zip(market.nodes, earned, strict=True)] == [paid] * 3


async def test_turn_after_turn(market: SmallMarket) -> None:
    earlier, prompt = None, (1, 2, 3)
    for turn in range(6):
        came, result = await market.run(deal_on(market, prompt, 5 + turn, earlier=earlier))
        complete(result)
        assert came == expected_tokens(prompt, 5 + turn)
        assert held_by(result) == [0 if earlier is None else len(earlier.tokens) - 1] * 3
        earlier = ended(result)
        prompt = (*earlier.tokens, 9, turn)
    assert [node.engine.sessions for node in market.nodes] == [1, 1, 1]


@pytest.mark.parametrize("shared", [1, 4, 5, 9, 14])
async def test_another_question_about_the_same_beginning(market: SmallMarket, shared: int) -> None:
    """What the client does not want is forgotten, however much is held."""
    earlier = await first_turn(market)
    other = 9 if earlier.tokens[shared] != 9 else 8
    prompt = (*earlier.tokens[:shared], other, 6, 6)
    came, result = await market.run(deal_on(market, prompt, 6, earlier=earlier))
    complete(result)
    assert came == expected_tokens(prompt, 6)
    assert held_by(result) == [shared] * 3


@pytest.mark.parametrize("gone", range(3))
async def test_a_leg_that_is_new_is_fed_what_was_sent_before(tmp_path: Path, gone: int) -> None:
    async with SmallMarket(tmp_path, spans=(*THIRDS, *THIRDS)) as market:
        earlier = await first_turn(market)
        nodes = [number + 3 if number == gone else number for number in range(3)]
        before = [computed(market, number) for number in nodes]
        prompt = (*earlier.tokens, 7)
        came, result = await market.run(deal_on(market, prompt, 6, earlier=earlier, nodes=nodes))
        complete(result)
        assert came == expected_tokens(prompt, 6)
        held, whole = len(earlier.tokens) - 1, len(prompt) + 5
        assert held_by(result) == [0 if at == gone else held for at in range(3)]
        rows = [computed(market, number) - began for number, began in zip(nodes, before, strict=True)]
        assert rows == [whole if at == gone else whole - held for at in range(3)]
        paid = [
            owed(RATES, Work(0 if at == gone else held, len(prompt) - (0 if at == gone else held), 6))
            for at in range(3)
        ]
        assert list(result.paid) == paid


async def test_a_leg_that_kept_no_rows_computes_them_again(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spans=(*THIRDS, *THIRDS)) as market:
        earlier = await first_turn(market)
        for trail in list(market.nodes[1].provider.trails._resting):
            trail.lose()
        prompt = (*earlier.tokens, 7)
        came, result = await market.run(deal_on(market, prompt, 6, earlier=earlier, nodes=(0, 1, 5)))
        complete(result)
        assert came == expected_tokens(prompt, 6)
        held = len(earlier.tokens) - 1
        assert held_by(result) == [held, held, 0]
        assert [each.start for each in result.tab.joinings] == [held, 0, 0]
        assert list(result.paid) == [owed(RATES, Work(cached, len(prompt) - cached, 6)) for cached in (held, 0, 0)]


async def test_a_session_that_was_cut_short_is_gone_on_from(market: SmallMarket) -> None:
    prompt = (1, 2, 3, 4, 5)
    async with market.client.start(deal_on(market, prompt, 30)) as job:
        came = [await anext(job) for _ in range(7)]
    earlier = ended(job.result)
    assert list(earlier.tokens[:12]) == [*prompt, *came]
    came, result = await market.run(deal_on(market, earlier.tokens, 10, earlier=earlier))
    complete(result)
    assert came == expected_tokens(earlier.tokens, 10)
    assert min(held_by(result)) >= 8


async def test_a_session_whose_leg_died_is_gone_on_from(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path, spans=(*THIRDS, *THIRDS)) as market:
        prompt = (1, 2, 3, 4, 5)
        job = market.client.start(deal_on(market, prompt, 40))
        came = []
        async with job:
            async for token in job:
                came.append(token)
                if len(came) == 9:
                    await market.kill(1)
        assert job.result.error is not None
        earlier = ended(job.result)
        left = 40 - (len(earlier.tokens) - len(prompt))
        rest, result = await market.run(deal_on(market, earlier.tokens, left, earlier=earlier, nodes=(0, 4, 2)))
        complete(result)
        assert [*came, *rest] == expected_tokens(prompt, 40)
        cached = held_by(result)
        assert cached[1] == 0
        assert min(cached[0], cached[2]) >= len(prompt)


@pytest.mark.parametrize("dead", range(3))
@pytest.mark.parametrize("at", [1, 5, 12])
async def test_a_session_that_goes_on_from_another_is_healed(tmp_path: Path, dead: int, at: int) -> None:
    """The standby holds nothing: it is fed what was sent in both sessions."""
    async with SmallMarket(tmp_path, spans=(*THIRDS, (0, 6))) as market:
        came, result = await market.run(deal_on(market, (1, 2, 3, 4, 5), 10))
        earlier = ended(result)
        prompt = (*earlier.tokens, 7, 8)
        job = market.client.start(deal_on(market, prompt, 20, earlier=earlier, standbys=(3,)))
        came = []
        async with job:
            async for token in job:
                came.append(token)
                if len(came) == at:
                    await market.kill(dead)
        assert job.result.error is None
        assert came == expected_tokens(prompt, 20)
        assert [each.gone for each in job.result.healed] == [(dead,)]
        assert job.result.tab.joinings[dead].start == len(earlier.tokens) - 1
        # And what was healed is gone on from, by those who served at the end.
        last = ended(job.result)
        nodes = [3 if number == dead else number for number in range(3)]
        assert [key for key, _ in last.legs] == [market.nodes[number].key.public_key for number in nodes]


async def test_nobody_else_goes_on_from_it(market: SmallMarket) -> None:
    earlier = await first_turn(market)
    stranger = SigningKey(b"\x55" * 32)
    market.ledger.deposit(stranger, 1_000_000)
    client = JobClient(market.side_of(stranger, VoucherStore(market.folder / "stranger", InlineWorker())))
    prompt = (*earlier.tokens, 7)
    came, result = await market.run(deal_on(market, prompt, 6, earlier=earlier, client=stranger), client)
    complete(result)
    assert came == expected_tokens(prompt, 6)
    assert held_by(result) == [0, 0, 0]
    came, result = await market.run(deal_on(market, prompt, 6, earlier=earlier))
    complete(result)
    assert held_by(result) == [len(earlier.tokens) - 1] * 3


async def test_what_was_refused_can_be_asked_again(market: SmallMarket) -> None:
    """The other legs have accepted, and adopted what they held: under the new session's name."""
    earlier = await first_turn(market)
    prompt = (*earlier.tokens, 7)
    market.nodes[1].refuse_all = RefusedError("not now", code="busy")
    _, refused = await market.run(deal_on(market, prompt, 6, earlier=earlier))
    assert refused.error is not None
    market.nodes[1].refuse_all = None
    came, result = await market.run(deal_on(market, prompt, 7, earlier=earlier))
    complete(result)
    assert came == expected_tokens(prompt, 7)
    assert held_by(result) == [len(earlier.tokens) - 1] * 3


@pytest.mark.parametrize("room", [True, False], ids=["room for both", "no room for both"])
async def test_sessions_that_begin_as_the_same_one(market: SmallMarket, room: bool) -> None:
    """Where there is room each has a copy; else the second one has the pages of the first, as far as they are alike."""
    earlier = await first_turn(market)
    if not room:
        for node in market.nodes:
            node.engine.fill(30)
    for shared, held in ((9, 9), (15, 14 if room else 9), (12, 12)):
        prompt = (*earlier.tokens[:shared], 7, 7, 7)
        came, result = await market.run(deal_on(market, prompt, 7, earlier=earlier))
        complete(result)
        assert came == expected_tokens(prompt, 7)
        assert held_by(result) == [held] * 3


async def test_what_is_held_makes_nobody_wait(market: SmallMarket) -> None:
    """Sessions that begin as an earlier one, all at once, where nobody may wait for as many rows as one of them has."""
    earlier = await first_turn(market)
    prompt = (*earlier.tokens[:-3], 7)
    for node in market.nodes:
        node.limits.wait_s = (len(prompt) - 1) * 10e-6
    asked = [market.run(deal_on(market, prompt, most, earlier=earlier)) for most in (3, 4, 5, 6)]
    for most, (came, result) in zip((3, 4, 5, 6), await asyncio.gather(*asked), strict=True):
        complete(result)
        assert came == expected_tokens(prompt, most)


async def test_who_needs_the_room_has_it(tmp_path: Path) -> None:
    async with SmallMarket(tmp_path) as market:
        for node in market.nodes:
            node.engine._kv_tokens = 60
        earlier = await first_turn(market)
        assert [node.provider.room for node in market.nodes] == [60] * 3
        await first_turn(market, (3, 1), 50)  # 14 are held warm, 52 are needed
        assert [node.engine.sessions for node in market.nodes] == [1] * 3
        prompt = (*earlier.tokens, 7)
        came, result = await market.run(deal_on(market, prompt, 6, earlier=earlier))
        complete(result)
        assert came == expected_tokens(prompt, 6)
        assert held_by(result) == [0] * 3
        _, refused = await market.run(deal_on(market, (1, 2), 70))
        assert isinstance(refused.error, RefusedError)
        assert refused.error.code == "no-room"
        # What could not have helped was left alone.
        again = ended(result)
        _, result = await market.run(deal_on(market, (*again.tokens, 3), 2, earlier=again))
        assert held_by(result) == [len(again.tokens) - 1] * 3


@pytest.mark.parametrize("warm_s", [0, 100])
async def test_it_cools_down(tmp_path: Path, warm_s: int) -> None:
    limits = limits_of()
    limits.warm_s = warm_s
    async with SmallMarket(tmp_path, limits=limits) as market:
        earlier = await first_turn(market)
        await asyncio.sleep(warm_s + 2)
        assert [node.engine.sessions for node in market.nodes] == [0] * 3
        assert [len(node.provider.trails) for node in market.nodes] == [0] * 3
        came, result = await market.run(deal_on(market, (*earlier.tokens, 7), 6, earlier=earlier))
        complete(result)
        assert came == expected_tokens((*earlier.tokens, 7), 6)
        assert held_by(result) == [0] * 3


async def test_what_lies_about_itself_is_found_out(tmp_path: Path) -> None:
    """A leg that holds something else than it says draws other tokens: the engine of these tests shows it."""
    async with SmallMarket(tmp_path) as market:
        earlier = await first_turn(market)
        assert isinstance(market.nodes[2].engine, CountingEngine)
        held = next(iter(market.nodes[2].engine._held.values()))
        held.sums[-1] += 1
        prompt = (*earlier.tokens, 7)
        came, _ = await market.run(deal_on(market, prompt, 6, earlier=earlier))
        assert came != expected_tokens(prompt, 6)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2, 3))])
async def test_any_conversation_gives_the_tokens_that_it_should(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    async with SmallMarket(tmp_path, spans=(*THIRDS, *THIRDS)) as market:
        for node in market.nodes:
            node.engine._kv_tokens = 400
        talks: list[Earlier | None] = [None] * 4
        for _ in range(25):
            number = dice.randrange(4)
            earlier = talks[number]
            known = () if earlier is None else earlier.tokens[: dice.choice([len(earlier.tokens), dice.randint(1, 60)])]
            prompt = (*known, *(dice.randint(1, 49) for _ in range(dice.randint(1, 20))))
            if len(prompt) > 150:
                talks[number] = None
                continue
            nodes = [at + dice.choice([0, 0, 0, 3]) for at in range(3)]
            most = dice.randint(1, 20)
            deal = deal_on(
                market,
                prompt,
                most,
                earlier=earlier,
                nodes=nodes,
                window=dice.choice([1, 4, 16]),
                chunk=dice.choice([1, 5, 16, 64]),
            )
            if dice.random() < 0.3:
                seen = dice.randint(0, most - 1)
                async with market.client.start(deal) as job:
                    came = [await anext(job) for _ in range(seen)]
                result = job.result
            else:
                came, result = await market.run(deal)
                complete(result)
                assert len(came) == most
            assert came == expected_tokens(prompt, most)[: len(came)]
            assert result.settle_error is None
            talks[number] = Earlier.of(result) or talks[number]
            for node in market.nodes:
                assert node.engine.kv_free >= 0
    assert [node.engine.sessions for node in market.nodes] == [0] * 6
    assert [len(node.provider.trails) for node in market.nodes] == [0] * 6
