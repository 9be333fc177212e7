"""Nodes that promise more room than they have: jobs take pages by and by, and give way to others, and no token is
wrong. JOULE_CROWDS says how many random crowds there are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from disturbed_market import DisturbedMarket, Outcome, Trouble, answer, draft, random_spans
from small_market import POLICY

from node.app.buying.continuing import Earlier
from node.pipeline.serving import pages
from node.pipeline.serving.leg import LegJob
from node.pipeline.serving.rows import Known
from protocol.errors import RefusedError
from protocol.policy.policy import LatencyClass
from protocol.serving.places import Waits
from protocol.session.frames import Joining
from protocol.session.terms import Reroute

pytestmark = pytest.mark.asyncio
PROMPT = (3, 1, 4, 1, 5)
BATCH = POLICY.replace(latency_class=LatencyClass.BATCH)
SPANS = ((0, 2), (2, 4), (4, 6))
MOST = 40
CAPACITY = 85
JOBS = int(os.environ.get("JOULE_CROWDS", "6"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "LEAST", 4)


class Crowd(DisturbedMarket):
    """Several clients at nodes with little room."""

    def __init__(self, folder: Path, *, capacity: int = CAPACITY, overcommit: int = 400, **changes: object) -> None:
        more = {"spans": SPANS} | changes
        super().__init__(folder, Random(1), clients=6, room=capacity, overcommit=overcommit, **more)

    async def ask(
        self,
        number: int,
        most: int = MOST,
        *,
        batch: bool = False,
        after_s: float = 0.0,
        expiry_s: int = 600,
        earlier: Earlier | None = None,
        troubles: Iterable[Trouble] = (),
    ) -> Outcome:
        await asyncio.sleep(after_s)
        key = self.keys[1 + number]
        prompt = PROMPT if earlier is None else (*earlier.tokens, *PROMPT)
        deal = self.deal(
            prompt,
            most,
            client=key,
            policy=BATCH if batch else POLICY,
            window=8,
            expiry_s=expiry_s,
            earlier=earlier,
        )
        return await self.disturbed(deal, troubles, key=key)

    async def settle(self, outcomes: Iterable[Outcome]) -> None:
        """What holds of all that was asked, once it is over."""
        for outcome in outcomes:
            tokens = answer(outcome.deal.prompt, outcome.deal.terms.plan.most)
            assert outcome.tokens == (tokens if outcome.result.error is None else tokens[: len(outcome.tokens)])
            self.check_bundle(outcome)
        await self.calm()
        self.check_zero()
        self.check_money()

    def jobs(self, node: int = 0) -> list[LegJob]:
        """That are served at a node."""
        return [served.job for served in self.nodes[node].provider._places.all]


def fed_again(outcome: Outcome) -> int:
    """Times that it was set aside: its route stayed as it was."""
    assert outcome.result.error is None
    return sum(not each.gone for each in outcome.result.healed)


async def test_who_came_last_gives_way_and_begins_anew(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as market:
        outcomes = await asyncio.gather(
            market.ask(0), market.ask(1, expiry_s=610), market.ask(2, expiry_s=620), market.ask(3, expiry_s=605)
        )
        await market.settle(outcomes)
        first, third, fourth, second = map(fed_again, outcomes)
        assert (first, bool(third), bool(fourth)) == (0, True, True)
        assert second <= third


async def test_who_can_wait_gives_way_first(tmp_path: Path) -> None:
    async with Crowd(tmp_path, capacity=100) as market:
        batch, chat = await asyncio.gather(market.ask(0, batch=True, expiry_s=300), market.ask(1))
        assert (fed_again(batch), fed_again(chat)) == (0, 0)
        last = market.ask(0, 2 * MOST, batch=True, expiry_s=300)  # there when the others need all there is
        batch, *chats = await asyncio.gather(last, market.ask(1), market.ask(2))
        await market.settle([batch, *chats])
        assert fed_again(batch) >= 1
        assert [fed_again(each) for each in chats] == [0, 0]


@pytest.mark.parametrize("part", ["grow", "empty", "lacks"])
async def test_pages_that_one_session_cannot_have_or_give_end_it_and_no_other(tmp_path, monkeypatch, part) -> None:
    async with Crowd(tmp_path) as market:
        engine, over = market.nodes[1].engine, list[bytes]()

        def fail_of_one(session: bytes) -> None:
            if not over:
                over.append(session)
            if session == over[0]:
                raise ZeroDivisionError("a fault")

        if part == "lacks":
            well = LegJob.lacks

            def lacks(job: LegJob) -> int:
                found = well.fget(job)  # type: ignore[attr-defined]
                if found and job.leg == 1:
                    fail_of_one(job.session)
                return int(found)

            monkeypatch.setattr(LegJob, "lacks", property(lacks))
        else:
            whole = getattr(engine, part)

            def fails(session: bytes, *rest: int) -> None:
                fail_of_one(session)
                whole(session, *rest)

            monkeypatch.setattr(engine, part, fails)
        asks = [market.ask(number, expiry_s=600 + 10 * number) for number in range(3)]
        outcomes = await asyncio.gather(*asks)
        assert len(over) == 1
        assert [each.result.error is None for each in outcomes].count(False) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await market.nodes[1].tasks.watch()
        await market.settle(outcomes)


async def test_an_offer_names_room_that_is_there_and_none_while_somebody_waits_for_it(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as market:
        provider = market.nodes[0].provider
        assert provider.room == CAPACITY  # not four times as much
        asked = [asyncio.create_task(market.ask(number, expiry_s=600 + number)) for number in range(3)]
        while not (waiting := [job for job in market.jobs() if job.kv.gone]):
            assert provider.room <= CAPACITY - sum(job.kv.paged for job in market.jobs())
            await asyncio.sleep(0.001)
        assert (provider.room, [job.waits_for.value for job in waiting if job.kv.aside]) == (0, ["work"])
        refused = await market.ask(4, 1)
        assert isinstance(refused.result.error, RefusedError)
        assert refused.result.error.code == "no-room"
        outcomes = await asyncio.gather(*asked)
        await asyncio.sleep(200)  # nothing is warm any more
        assert provider.room == CAPACITY
        later = await market.ask(4, 1)
        assert later.result.error is None
        await market.settle([*outcomes, refused, later])


async def test_no_more_is_promised_than_was_said(tmp_path: Path) -> None:
    async with Crowd(tmp_path, capacity=100, overcommit=150) as market:
        outcomes = await asyncio.gather(*(market.ask(number) for number in range(4)))  # of 45 positions each
        codes = [None if each.result.error is None else each.result.error.code for each in outcomes]
        assert sorted(map(str, codes)) == ["None", "None", "None", "no-room"]
        await market.settle(outcomes)


async def test_who_promises_what_it_has_hands_out_all_at_once(tmp_path: Path) -> None:
    async with Crowd(tmp_path, overcommit=100) as market:
        assert market.nodes[0].provider._compute.make_room is None
        outcomes = await asyncio.gather(market.ask(0), market.ask(1))
        assert sorted(each.result.error is None for each in outcomes) == [False, True]
        await market.settle(outcomes)


async def test_what_was_given_up_is_not_gone_on_from(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as market:
        asked = [asyncio.create_task(market.ask(number, expiry_s=600 + number)) for number in range(3)]
        while not (waiting := [job for job in market.jobs() if job.kv.gone and job.served[1] > 8]):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        job = waiting[0]
        position = len(PROMPT) - 1 + 8
        again = Reroute(session=job.session, number=1, position=position, route=job.route)
        assert job.standing[1] == 0
        with pytest.raises(RefusedError) as refused:
            job.reroute((again,), Joining(base=position, start=position, onward=position), Known())
        assert refused.value.code == "set-aside"
        await market.settle(await asyncio.gather(*asked))


async def test_whose_client_says_that_it_is_over_waits_for_no_room(tmp_path: Path) -> None:
    async with Crowd(tmp_path) as market:
        asked = [asyncio.create_task(market.ask(number, expiry_s=600 + number)) for number in range(3)]
        while not (waiting := [job for job in market.jobs() if job.kv.aside]):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
        waiting[0].finish(0)
        assert waiting[0].waits_for is not Waits.WORK
        assert list(market.nodes[0].provider._rooms._pages.back(CAPACITY)) == []
        await market.settle(await asyncio.gather(*asked))


@pytest.mark.parametrize("number", range(JOBS))
async def test_whoever_gives_way_to_whom_no_token_is_wrong(tmp_path: Path, number: int) -> None:
    """And each asks on; in some of the crowds a node dies."""
    chance = Random(number)
    spans, dies = random_spans(chance), number % 3 == 2
    spares = ((0, 6), (0, 6)) if dies else ()
    room, factor = chance.randint(2 * MOST, 4 * MOST), chance.choice((200, 400, 1_000))
    async with Crowd(tmp_path, capacity=room, overcommit=factor, spans=spans, spares=spares) as market:
        draft(market, chance)

        async def ask(who: int) -> list[Outcome]:
            death = Trouble(kind="kill", node=chance.randrange(len(spans)), tokens=chance.randint(1, MOST // 2))
            first = await market.ask(
                who,
                chance.randint(1, MOST),
                batch=chance.random() < 0.4,
                after_s=chance.choice((0, chance.random() / 10)),
                troubles=[death] if dies and who == 0 else (),
            )
            earlier = Earlier.of(first.result)
            if earlier is None or dies:
                return [first]
            return [first, await market.ask(who, chance.randint(1, MOST // 2), earlier=earlier)]

        outcomes = [each for asked in await asyncio.gather(*map(ask, range(6))) for each in asked]
        for outcome in outcomes:
            error = outcome.result.error
            assert error is None or dies or (error.code == "no-room" and not outcome.tokens), error
        await market.settle(outcomes)
