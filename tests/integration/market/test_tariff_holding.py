"""A node holds back where power is dear or short, says so, and offers nothing for as long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from market_offers import NOW, an_offer, key_of
from tariff_files import table_toml, write

from node.app.selling.asks import Asks
from node.app.selling.holding import Holding
from node.events import Event, OfferPublished, OfferWithdrawn, WorkHeldBack, WorkResumed
from node.market import Advertiser, Lookout
from node.market.advertiser import TTL_S
from node.pipeline.serving.limits import ProviderLimits
from node.tariff import FollowedSupply
from protocol.errors import RefusedError
from protocol.identity.signing import open_envelope
from protocol.market.offer import Offer
from protocol.market.pricing import Costs, MarginPolicy, Pricing, Supply
from protocol.market.requoting import Pace
from protocol.policy.policy import LatencyClass
from protocol.serving.curtailment import AT_EASE, Level, Signal

QUARTER = 1_900_000_800
assert QUARTER % 900 == 0


@dataclass
class Grid:
    """A signal that the test says."""

    signal: Signal = AT_EASE


@dataclass
class World:
    now: int = QUARTER
    jobs: int = 0
    renewed: int = 0
    shed: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    grid: Grid = field(default_factory=Grid)
    limits: ProviderLimits = field(default_factory=lambda: ProviderLimits(max_sessions=8))

    def __post_init__(self) -> None:
        self.power = FollowedSupply(None, Supply(100_000), clock=lambda: self.now, events=self.events.append)
        self.holding = Holding(
            self.power,
            self.grid,  # type: ignore[arg-type]
            self.limits,
            session_w=lambda: (10_000, 20_000, 1_000),
            active=lambda: self.jobs,
            shed=self._shed,
            renew=self._renew,
            events=self.events.append,
        )
        self.holding.ceiling = 100_000

    def _shed(self, wanted: Callable[[LatencyClass], bool], reason: str) -> None:
        assert [each for each in LatencyClass if not wanted(each)] == [LatencyClass.BATCH]
        self.shed.append(reason)

    def _renew(self) -> None:
        self.renewed += 1

    def price(self, micro: int) -> None:
        self.power.settle(Supply(micro))
        self.holding.look()

    def told(self) -> list[str]:
        return [event.how if isinstance(event, WorkHeldBack) else event.name for event in self.events]


def taken(holding: Holding) -> list[LatencyClass]:
    made = []
    for each in LatencyClass:
        with contextlib.suppress(RefusedError):
            holding.require(each)
            made.append(each)
    return made


def test_above_the_ceiling_it_drains_and_then_is_paused_and_then_works_again() -> None:
    world = World(jobs=2)
    world.price(100_000)
    assert (world.holding.offers, world.renewed, world.events) == (True, 0, [])
    world.price(100_001)
    assert not world.holding.offers
    assert taken(world.holding) == []
    with pytest.raises(RefusedError, match="holds back") as refused:
        world.holding.require(LatencyClass.CHAT)
    assert refused.value.code == "paused"
    assert world.shed == [], "what runs ends at the rates agreed"
    world.jobs = 0
    world.holding.look()
    world.price(99_000)
    assert taken(world.holding) == list(LatencyClass)
    assert world.told() == ["drain", "paused", WorkResumed.name]
    assert world.renewed == 2
    held = world.events[0]
    assert isinstance(held, WorkHeldBack)
    assert "0.100001 per kWh, above the ceiling of 0.100000" in held.reason


def test_a_grid_that_is_short_sheds_batch_first() -> None:
    world = World(jobs=3)
    world.grid.signal = Signal(Level.SHED, "evening peak")
    world.holding.look()
    assert world.shed == ["evening peak"]
    assert world.holding.offers
    assert LatencyClass.BATCH not in taken(world.holding)
    world.grid.signal = Signal(Level.DRAIN, "storm")
    world.holding.look()
    assert taken(world.holding) == []
    world.grid.signal = AT_EASE
    world.holding.look()
    assert world.told() == ["shed", "drain", WorkResumed.name]


def test_places_follow_the_power_that_there_is() -> None:
    world = World()
    for cap_w, limit_w, places in ((None, None, 8), (2_000, None, 4), (2_000, 1_500, 3), (1_000, 1_500, 2)):
        world.holding.cap_w, world.grid.signal = cap_w, Signal(Level.NORMAL, limit_w=limit_w)
        world.holding.look()
        assert (world.limits.max_sessions, world.holding.offers) == (places, True)
    world.holding.cap_w = 499
    world.holding.look()
    assert not world.holding.offers
    assert world.limits.max_sessions == 1, "what runs keeps its place"


def test_a_quarter_of_an_hour_is_a_reason_to_offer_anew() -> None:
    world = World(now=QUARTER + 899)
    world.holding.look()
    assert world.renewed == 0
    world.now += 1
    world.holding.look()
    world.holding.look()
    assert world.renewed == 1


def test_asks_follow_the_tariff_and_the_forecast_says_so(tmp_path: Path) -> None:

    path = write(tmp_path, table_toml([0.1, 1.0], [0, 1] * 12))
    now = [QUARTER // 7200 * 7200]
    power = FollowedSupply(path, Supply(1), clock=lambda: now[0], events=lambda _: None)
    asks = Asks(pricing=Pricing(policy=MarginPolicy.FIXED), power=power, pace=Pace(least_s=600, least_ppm=0))
    costs = Costs(millijoules_in=1_080, millijoules_out=10_800, prompt_us=1, position_us=1)
    assert asks.rates(costs, 0).price_out == 300_000
    assert asks.forecast(costs, 0) == (3_000_000, 300_000) * 24
    now[0] += 3599
    assert asks.rates(costs, 0).price_out == 300_000
    now[0] += 1
    assert (asks.rates(costs, 0).price_in, asks.rates(costs, 0).price_out) == (300_000, 3_000_000)
    now[0] += 3600
    assert asks.rates(costs, 0).price_out == 300_000


@pytest.mark.asyncio
async def test_what_is_offered_no_more_is_withdrawn_and_nobody_looks_for_it() -> None:
    sent = asyncio.Queue[Offer]()
    events: list[Event] = []
    offers = [True]

    class Air:
        async def publish(self, _topic: str, data: bytes) -> None:
            sent.put_nowait(open_envelope(data, Offer)[0])

    advertiser = Advertiser(
        key_of(0),
        Air(),
        "offers",
        lambda: an_offer(0) if offers[0] else None,
        keep=lambda sealed: None,
        now_ms=lambda: NOW * 1000,
        events=events.append,
        interval_s=60,
    )

    async def nobody() -> list[list[bytes]]:
        raise AssertionError("nobody should be asked")

    task = asyncio.create_task(advertiser.run())
    first = await sent.get()
    offers[0] = False
    advertiser.renew()
    last = await sent.get()
    assert (first.expires_at - first.issued_at, last.expires_at - last.issued_at) == (TTL_S, 1)
    assert last.sequence > first.sequence
    advertiser.renew()
    await asyncio.sleep(0)
    assert await Lookout(advertiser, nobody, now=lambda: NOW, events=events.append).look()
    offers[0] = True
    advertiser.renew()
    assert (await sent.get()).expires_at == NOW + TTL_S, "nothing was sent in between"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await advertiser.withdraw()
    await advertiser.withdraw()
    kinds = [type(event) for event in events]
    assert kinds == [OfferPublished, OfferWithdrawn, OfferPublished, OfferWithdrawn]
