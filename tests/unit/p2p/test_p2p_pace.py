"""Pacing, the subscription's queue, and when an announcer speaks."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.p2p.gossip import MAX_GOSSIP_BYTES, Announcer, Subscription
from node.p2p.pace import Pace, Paces
from protocol.errors import LocalError

TOPIC = "test"


@given(st.lists(st.floats(0, 3), max_size=60), st.integers(1, 20), st.floats(0.5, 50))
def test_never_more_than_the_burst_and_the_rate(gaps, burst, rate):
    pace = Pace(rate, burst, 0.0)
    now, acted = 0.0, []
    for gap in gaps:
        now += gap
        acted.append(now + pace.take(now))
    for first in range(len(acted)):
        for last in range(first, len(acted)):
            allowed = burst + rate * (acted[last] - acted[first])
            assert last - first + 1 <= allowed + 1 + 1e-6


def test_a_burst_passes_and_then_the_rate():
    pace = Pace(10, 5, 0.0)
    assert [pace.take(0.0) for _ in range(7)] == [0, 0, 0, 0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    assert pace.take(10.0) == 0


def test_who_asks_too_often_is_refused_until_the_bucket_fills():
    pace = Pace(10, 3, 0.0)
    assert [pace.allows(0.0) for _ in range(4)] == [True, True, True, False]
    assert not pace.allows(0.09)
    assert pace.allows(0.11), "what was refused took nothing"


def test_each_asker_has_a_bucket_and_buckets_are_few():
    paces = Paces[str](10, 1, most=2)
    assert paces.allows("one", 0.0)
    assert not paces.allows("one", 0.0)
    assert paces.allows("two", 0.0)
    assert not paces.allows("one", 0.0)
    assert paces.allows("three", 0.0)
    assert len(paces) == 2
    assert not paces.allows("one", 0.0), "the one unused for longest was forgotten, not the one that asks most"
    assert paces.allows("two", 0.0)


@pytest.mark.asyncio
async def test_a_subscription_delivers_each_content_once_and_keeps_the_newest():
    subscription = Subscription[bytes](TOPIC, asyncio.get_running_loop(), queue=3)
    for data in (b"a", b"b", b"a", b"c", b"d"):
        subscription.deliver(data, data.upper())
    subscription.end(None)
    assert [data async for data in subscription] == [b"B", b"C", b"D"]
    assert subscription.dropped == 1


@pytest.mark.asyncio
async def test_a_subscription_that_ends_with_a_failure_gives_what_it_holds_first():
    subscription = Subscription[bytes](TOPIC, asyncio.get_running_loop(), queue=3)
    subscription.deliver(b"a", b"a")
    subscription.end(LocalError("died"))
    assert await anext(subscription) == b"a"
    with pytest.raises(LocalError, match="died"):
        await anext(subscription)


class Recorder:
    """Stands for a host: keeps what is published, and lets the test wait for the n-th."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self._more = asyncio.Event()

    async def publish(self, topic: str, data: bytes) -> None:
        assert topic == TOPIC
        self.published.append(data)
        self._more.set()

    async def wait_for(self, count: int) -> list[bytes]:
        async with asyncio.timeout(5):
            while len(self.published) < count:
                self._more.clear()
                await self._more.wait()
        return self.published


@pytest.mark.asyncio
async def test_an_announcer_repeats_until_expiry_and_replaces():
    host = Recorder()
    announcer = Announcer(host, TOPIC, interval_s=0.02)
    running = asyncio.create_task(announcer.run())
    announcer.announce(b"k", b"old", ttl_s=60)
    assert (await host.wait_for(3))[:3] == [b"old"] * 3
    announcer.announce(b"k", b"new", ttl_s=60)
    count = len(host.published)
    assert set((await host.wait_for(count + 3))[count:]) == {b"new"}
    announcer.announce(b"k", b"brief", ttl_s=0.05)
    announcer.announce(b"other", b"other", ttl_s=60)
    while announcer._values.keys() != {b"other"}:
        await host.wait_for(len(host.published) + 1)
    assert host.published.count(b"brief") <= 4
    announcer.withdraw(b"other")
    announcer.withdraw(b"unknown")
    assert len(announcer) == 0
    running.cancel()


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_right_after_an_announcement_is_not_lost(turns):
    host = Recorder()
    announcer = Announcer(host, TOPIC, interval_s=60)
    running = asyncio.create_task(announcer.run())
    announcer.announce(b"k", b"first", ttl_s=60)
    await host.wait_for(1)
    await asyncio.sleep(0)
    announcer.announce(b"k", b"second", ttl_s=60)
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=5)
    assert done
    assert running.cancelled()


@pytest.mark.asyncio
async def test_an_announcer_ends_with_the_error_of_its_host():
    class Dead:
        async def publish(self, topic: str, data: bytes) -> None:
            raise LocalError("the host is closed")

    announcer = Announcer(Dead(), TOPIC)
    announcer.announce(b"k", b"v", ttl_s=1)
    with pytest.raises(LocalError, match="closed"):
        await announcer.run()


@pytest.mark.asyncio
async def test_what_is_too_long_cannot_be_announced():
    with pytest.raises(LocalError, match="too many"):
        Announcer(Recorder(), TOPIC).announce(b"k", bytes(MAX_GOSSIP_BYTES + 1), ttl_s=1)
