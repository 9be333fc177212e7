"""Round trips are measured once for all who ask at a time, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from market_offers import an_offer, key_of

from node.app.network import round_trips
from node.app.network.round_trips import RoundTrips
from protocol.market.offer import Offer
from protocol.routing.ways import UNKNOWN_RTT_US

pytestmark = pytest.mark.asyncio

NEAR, FAR = an_offer(0), an_offer(1)


class Road:
    """Stands for the network: how long each node takes, and who was asked."""

    def __init__(self) -> None:
        self.us: dict[bytes, int | None] = {NEAR.public_key: 1_000, FAR.public_key: 90_000}
        self.asked: list[bytes] = []
        self.arrived = asyncio.Queue[bytes]()
        self.open = asyncio.Event()
        self.open.set()

    async def measure(self, offer: Offer) -> int | None:
        self.asked.append(offer.public_key)
        self.arrived.put_nowait(offer.public_key)
        await self.open.wait()
        return self.us[offer.public_key]


@pytest_asyncio.fixture
async def road() -> Road:
    return Road()


@pytest_asyncio.fixture
async def trips(road: Road) -> AsyncIterator[RoundTrips]:
    async with RoundTrips(road.measure) as made:
        yield made


async def test_a_node_is_measured_once_and_remembered(road: Road, trips: RoundTrips) -> None:
    both = {NEAR.public_key: 1_000, FAR.public_key: 90_000}
    assert await trips.to([NEAR, FAR, an_offer(0, (1, 2))]) == both
    assert await trips.to([FAR]) == {FAR.public_key: 90_000}
    assert sorted(road.asked) == sorted(both)


async def test_a_caller_may_want_it_newer(road: Road, trips: RoundTrips) -> None:
    await trips.to([NEAR])
    road.us[NEAR.public_key] = 2_000
    assert await trips.to([NEAR], fresh_s=60) == {NEAR.public_key: 1_000}
    assert await trips.to([NEAR], fresh_s=0) == {NEAR.public_key: 2_000}


@pytest.mark.parametrize("us", [None, UNKNOWN_RTT_US])
async def test_a_silent_or_busy_node_is_remembered_more_briefly(
    road: Road, trips: RoundTrips, us: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    road.us[FAR.public_key] = us
    known = {} if us is None else {FAR.public_key: us}
    assert await trips.to([FAR]) == known
    assert await trips.to([FAR]) == known
    assert len(road.asked) == 1
    road.us[FAR.public_key] = 5_000
    monkeypatch.setattr(round_trips, "SILENT_S", 0)
    assert await trips.to([FAR]) == {FAR.public_key: 5_000}


async def test_those_who_ask_at_once_share_a_measurement_and_one_may_leave(road: Road, trips: RoundTrips) -> None:
    road.open.clear()
    asking = [asyncio.create_task(trips.to([NEAR])) for _ in range(5)]
    await road.arrived.get()
    asking[0].cancel()
    await asyncio.gather(asking[0], return_exceptions=True)
    road.open.set()
    assert await asyncio.gather(*asking[1:]) == [{NEAR.public_key: 1_000}] * 4
    assert road.asked == [NEAR.public_key]


async def test_a_bug_in_measuring_reaches_those_who_wait_and_is_not_remembered(road: Road, trips: RoundTrips) -> None:
    del road.us[NEAR.public_key]
    with pytest.raises(KeyError):
        await trips.to([NEAR])
    road.us[NEAR.public_key] = 7
    assert await trips.to([NEAR]) == {NEAR.public_key: 7}


async def test_so_many_are_measured_at_once_and_so_many_remembered(
    road: Road, trips: RoundTrips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(round_trips, "MOST_KNOWN", 3)
    road.open.clear()
    offers = [an_offer(number) for number in range(round_trips.MOST_AT_ONCE + 4)]
    road.us = {key_of(number).public_key: number for number in range(len(offers))}
    asking = asyncio.create_task(trips.to(offers))
    for _ in range(round_trips.MOST_AT_ONCE):
        await road.arrived.get()
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(road.asked) == round_trips.MOST_AT_ONCE
    road.open.set()
    assert len(await asking) == len(offers)
    assert len(trips._known) == 3


async def test_measurements_are_given_up_at_the_end(road: Road) -> None:
    road.open.clear()
    async with RoundTrips(road.measure) as trips:
        asking = asyncio.create_task(trips.to([NEAR]))
        await road.arrived.get()
    with pytest.raises(asyncio.CancelledError):
        await asking
