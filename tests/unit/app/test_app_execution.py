"""One answer over a few attempts: refused before the first token, tried elsewhere; never after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from memory_links import MemoryLink
from small_market import FEE, GRACE_S, MANIFEST, SmallMarket
from virtual_loop import run_virtually

from node.app.buying.another_try import plan_again, to_be_avoided, worth_another_try
from node.app.buying.busy import MOST_WAIT_S, BusyNodes
from node.app.buying.execution import ATTEMPTS, RISKED_TIMES, Execution
from node.app.buying.planning import JobPlan
from node.app.buying.receipts import Kept
from node.app.buying.report import build_report
from node.app.buying.request import Request
from node.events import Event, NoWayOn, Retrying, WaitingForBusy
from node.market import OfferBook
from node.pipeline.buying.job import Deal, JobResult
from node.ports import VenueRules
from protocol.errors import JoulemeshError, LostPeerError, RefusedError
from protocol.market.offer import Offer
from protocol.reputation.standing import Deed
from protocol.routing.routes import NoRouteError, Route
from protocol.session.metering import reserved_caps

PROMPT = (1, 2, 3, 4, 5)
NO_WAY = NoRouteError("nobody else offers block 2", code="gap")


class Shop:
    """A market, and plans that are made of it one after another."""

    def __init__(self, market: SmallMarket) -> None:
        self.market = market
        self.events: list[Event] = []
        self.failed: list[JobResult] = []
        self.heal: Callable[[], Awaitable[None]] | None = None

    def plan(self, deal: Deal) -> JobPlan:
        route = Route(
            legs=tuple(chosen.leg for chosen in deal.legs),
            price_in=3,
            price_out=6,
            latency_us=1,
            gap=0,
            explanations=(),
        )
        return JobPlan(
            request=Request(prompt=PROMPT),
            manifest=MANIFEST,
            route=route,
            deal=deal,
            rules=VenueRules(grace_s=GRACE_S, fee=FEE),
            free_micro=self.market.free(self.market.client_key),
        )

    async def elsewhere(self, plan: JobPlan, results: Sequence[JobResult]) -> JobPlan | JoulemeshError:
        self.failed.append(results[-1])
        if self.heal is None:
            return NO_WAY
        await self.heal()
        return self.plan(self.market.deal(PROMPT, 10))

    def execution(self, most: int = 10) -> Execution:
        plan = self.plan(self.market.deal(PROMPT, most))
        return Execution(plan, self.market.client, self.elsewhere, self.events.append)


def in_shop(folder: Path, story: Callable[[Shop], Awaitable[None]]) -> None:
    async def tell() -> None:
        async with SmallMarket(folder) as market:
            await story(Shop(market))

    run_virtually(tell())


async def failed_by(shop: Shop, legs: dict[int, Exception], code: str = "busy") -> JobResult:
    """A job that ended before its first token, through failures of these legs."""
    result = shop.market.client.start(shop.market.deal(PROMPT, 10)).result
    for leg, error in legs.items():
        result.blame(leg, error)  # type: ignore[arg-type]
    result.error = RefusedError("why not", code=code)
    return result


def test_who_failed_a_job_is_avoided_unless_there_is_a_newer_offer_of_its(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        keys = [node.key.public_key for node in shop.market.nodes]
        refused, lost = RefusedError("at another price", code="below-ask"), LostPeerError("gone")
        result = await failed_by(shop, {0: refused, 2: lost})
        asked_with = result.deal.legs[0].sealed
        assert worth_another_try([result])
        assert to_be_avoided(result, lambda node: []) == [keys[0], keys[2]]
        assert to_be_avoided(result, lambda node: [asked_with]) == [keys[0], keys[2]]
        assert to_be_avoided(result, lambda node: [b"a newer offer"]) == [keys[2]]

    in_shop(tmp_path, story)


def test_another_plan_waits_for_an_offer_that_closes_the_gap(tmp_path: Path) -> None:
    """That of a node that began a moment ago may not have been heard, by the ledger neither."""

    async def story(shop: Shop) -> None:
        result = await failed_by(shop, {1: LostPeerError("gone")})
        plan, market = shop.plan(result.deal), shop.market
        heard = [result.deal.offer(leg) for leg in range(3)]
        late = heard[1].replace(public_key=market.client_key.public_key)
        asked: list[bool] = []

        async def offers(*, enough: Callable[[Sequence[Offer]], bool]) -> Sequence[Offer]:
            asked.extend(enough(found) for found in (heard, [*heard, late]))
            return heard

        async def make(request: Request) -> JobPlan:
            assert request.exclude == {heard[1].public_key}
            return plan

        assert await plan_again(plan, result, OfferBook(lambda: 0), offers, make) is plan
        assert asked == [False, True]

        async def none(_: Request) -> JobPlan:
            raise NO_WAY

        assert await plan_again(plan, result, OfferBook(lambda: 0), offers, none) is NO_WAY

    in_shop(tmp_path, story)


def test_a_leg_that_complains_of_its_neighbour_is_not_the_culprit_where_that_one_failed(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        beyond = RefusedError("the next leg cannot be reached", code="next-unreachable")
        told_of_both = await failed_by(shop, {0: beyond, 1: LostPeerError("gone")})
        assert told_of_both.culprits == (1,)
        assert told_of_both.first_failure.message == "gone"
        told_by_one = await failed_by(shop, {0: beyond})
        assert told_by_one.culprits == (0, 1)
        assert told_by_one.first_failure is beyond
        told_later = await failed_by(shop, {0: LostPeerError("it has ended", code="neighbour-lost")})
        assert told_later.culprits == (0, 1, 2), "round the ring"

    in_shop(tmp_path, story)


@pytest.mark.parametrize(("code", "again"), [("busy", True), ("expired", True), ("context", False), ("cap", False)])
def test_what_a_second_provider_refuses_as_this_clients_fault_is_not_tried_again(
    tmp_path: Path, code: str, again: bool
) -> None:
    async def story(shop: Shop) -> None:
        result = await failed_by(shop, {1: RefusedError("no", code=code)}, code)
        assert worth_another_try([result])
        assert worth_another_try([result, result]) is again
        nobody = await failed_by(shop, {}, code)
        assert not worth_another_try([nobody])

    in_shop(tmp_path, story)


async def read(job: Execution) -> list[int]:
    async with job as tokens:
        return [token async for token in tokens]


def report_of(job: Execution) -> Any:
    kept = Kept(bundle=None, verified=None, file=None)
    return build_report(job, text=("q", "a"), kept=kept, balance_after_micro=None)


def test_a_job_that_is_served_is_served_once(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        job = shop.execution()
        tokens = await read(job)
        assert tokens == job.tokens
        assert len(tokens) == 10
        assert (len(job.results), shop.events) == (1, [])
        report = report_of(job)
        assert (report.paid_micro, report.fees_micro, report.held_micro) == (81, 2 * FEE, 0)
        assert [leg.paid_micro for leg in report.legs] == [27, 27, 27]
        assert (report.attempts, report.paid_before_micro, report.held_until) == (1, 0, None)
        assert report.legs[0].millijoules == 10 * len(PROMPT) + 20 * 9

    in_shop(tmp_path, story)


def test_a_refused_order_is_tried_elsewhere_and_told(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        shop.market.nodes[1].refuse_all = RefusedError("not at this price", code="full")

        async def heal() -> None:
            shop.market.nodes[1].refuse_all = None

        shop.heal = heal
        job = shop.execution()
        assert len(await read(job)) == 10
        why = "leg 1 (blocks 2:4) refused: not at this price"
        assert shop.events == [Retrying(code="full", reason=why, attempt=2, held_micro=0, held_until=None)]
        assert [result.error is None for result in job.results] == [False, True]
        assert job.result is job.results[1]
        report = report_of(job)
        assert (report.attempts, report.paid_before_micro) == (2, 4), "two legs had taken the first order"
        assert report.fees_micro == 5 * FEE
        assert sum(each.reserved for each in shop.market.ledger.books.sessions.values()) == 0

    in_shop(tmp_path, story)


def test_several_silent_providers_one_after_another_are_gone_round_and_what_they_hold_is_told(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        silent = [1, 2]

        async def on_link(link: MemoryLink) -> None:
            with contextlib.suppress(LostPeerError):
                while True:
                    await link.receive()

        def mute(number: int) -> None:
            node = shop.market.nodes[number]
            shop.market.network.listen(node.address, node.key.public_key, on_link, node.provider.allowance)

        async def another_is_silent() -> None:
            node = shop.market.nodes[silent.pop(0)]
            for link in shop.market.network.links.pop(node.address):
                link.cut()
            await asyncio.sleep(1)  # on a virtual clock: its neighbours have seen it
            shop.market.network.listen(
                node.address, node.key.public_key, node.provider.on_link, node.provider.allowance
            )
            if silent:
                mute(silent[0])

        mute(silent[0])
        shop.heal = another_is_silent
        job = shop.execution()
        assert len(await read(job)) == 10
        first, second = [event for event in shop.events if isinstance(event, Retrying)]
        assert (first.attempt, second.attempt, first.code) == (2, 3, "stalled")
        assert "leg 1 (blocks 2:4)" in first.reason
        assert first.held_micro > 0
        assert first.held_until == job.results[0].deal.session.expiry + GRACE_S
        assert "stays held until" in first.sentence()
        assert report_of(job).held_micro == first.held_micro + second.held_micro
        noted = [(address, deed) for address, deed, _ in shop.market.peers.noted]
        nodes = [node.key.address for node in shop.market.nodes]
        assert noted[:2] == [(nodes[1], Deed.SILENT), (nodes[2], Deed.SILENT)]
        assert noted[2:] == [(node, Deed.SERVED) for node in nodes]

    in_shop(tmp_path, story)


def test_no_more_money_is_risked_than_a_few_sessions_hold(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        for node in shop.market.nodes:
            await shop.market.kill(shop.market.nodes.index(node))

        async def hope() -> None:
            pass

        shop.heal = hope
        job = shop.execution()
        assert await read(job) == []
        assert len(job.results) == RISKED_TIMES + 1 < ATTEMPTS
        assert all(sum(result.held) == reserved_caps(result.deal.session) for result in job.results)
        assert isinstance(shop.events[-1], NoWayOn)
        assert "worth risking" in shop.events[-1].reason

    in_shop(tmp_path, story)


def test_attempts_are_bounded(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        shop.market.nodes[1].refuse_all = RefusedError("never", code="busy")

        async def hope() -> None:
            pass

        shop.heal = hope
        job = shop.execution()
        assert await read(job) == []
        assert len(job.results) == ATTEMPTS
        assert [event.attempt for event in shop.events if isinstance(event, Retrying)] == [*range(2, ATTEMPTS + 1)]
        assert shop.events[-1] == NoWayOn(reason=f"{ATTEMPTS} sessions were opened for it")
        assert job.result is not None
        assert job.result.error is not None
        assert report_of(job).error["code"] == "busy"

    in_shop(tmp_path, story)


def test_where_there_is_no_other_way_the_first_failure_is_what_remains(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        shop.market.nodes[2].refuse_all = RefusedError("no room", code="full")
        job = shop.execution()
        assert await read(job) == []
        assert len(shop.failed) == 1
        assert report_of(job).error["code"] == "full"
        assert shop.events == [NoWayOn(reason=NO_WAY.message)]

    in_shop(tmp_path, story)


def test_leaving_early_pays_what_came_and_tries_nothing_else(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        job = shop.execution(60)
        async with job as tokens:
            async for _ in tokens:
                break
        assert job.result is not None
        assert job.result.settled is not None
        assert shop.failed == []

    in_shop(tmp_path, story)


def test_a_cancelled_caller_finds_the_result_that_it_paid_for(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        job, some = shop.execution(200), asyncio.Event()

        async def buy() -> None:
            async with job as tokens:
                async for _ in tokens:
                    some.set()
                    await asyncio.sleep(0)

        task = asyncio.create_task(buy())
        await some.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        report = report_of(job)
        assert report.error["code"] == "cancelled"
        assert report.tokens_out == len(job.tokens) > 0
        assert job.result is not None
        assert job.result.settled is not None

    in_shop(tmp_path, story)


def test_a_node_that_says_when_to_come_back_is_asked_again_then_and_not_before(tmp_path: Path) -> None:
    """Where there is no way round it; where that is too far off, it is the end."""

    async def story(shop: Shop) -> None:
        node = shop.market.nodes[1]
        busy = BusyNodes(shop.market.clock, shop.events.append)
        result = await failed_by(shop, {1: RefusedError("many prompts", code="busy", retry_s=20)})
        busy.note(result)
        assert to_be_avoided(result, lambda node: []) == []
        asked: list[int] = []

        async def plan() -> JobPlan:
            asked.append(shop.market.now)
            return shop.plan(result.deal)

        began = shop.market.now
        await busy.planned(plan)
        assert asked == [began, began + 20]
        assert shop.events == [WaitingForBusy(wait_s=20)]
        assert "in 20 s" in shop.events[0].sentence()
        await busy.planned(plan)
        assert asked[2:] == [began + 20]
        busy.note(await failed_by(shop, {1: RefusedError("many prompts", code="busy", retry_s=MOST_WAIT_S + 1)}))
        with pytest.raises(NoRouteError) as error:
            await busy.planned(plan)
        assert (error.value.code, error.value.hint) == ("busy", f"come back in {MOST_WAIT_S + 1} s")
        assert busy.until == {node.key.public_key: began + 20 + MOST_WAIT_S + 1}

    in_shop(tmp_path, story)


def test_a_refusal_with_a_time_says_it_to_people_too(tmp_path: Path) -> None:
    async def story(shop: Shop) -> None:
        shop.market.nodes[1].refuse_all = RefusedError("many prompts", code="busy", retry_s=7)
        job = shop.execution()
        assert await read(job) == []
        assert job.result is not None
        error = job.result.error
        assert isinstance(error, RefusedError)
        assert (error.code, error.retry_s, error.hint) == ("busy", 7, "come back in 7 s")
        assert not [deed for _, deed, _ in shop.market.peers.noted if deed is Deed.FAILED]

    in_shop(tmp_path, story)
