"""A node's offer reaches the books of others, again and again, and anew after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from market_offers import NOW, an_offer, key_of

from node.events import Event
from node.market import Advertiser, OfferBook
from protocol.errors import ConfigurationError, JoulemeshError, LostPeerError, SignatureError
from protocol.market.offer import MAX_TTL_S, Offer

TOPIC = "offers"


class Air:
    """Carries what is published to a book, unless it is down."""

    def __init__(self, book: OfferBook) -> None:
        self.book = book
        self.sent = asyncio.Queue[tuple[str, bytes]]()
        self.down = False

    async def publish(self, topic: str, data: bytes) -> None:
        await self.sent.put((topic, data))
        if self.down:
            raise LostPeerError("nobody listens")
        self.book.add(data)


class World:
    """One node, its own book, and a neighbour's."""

    def __init__(self) -> None:
        self.now_ms = NOW * 1000 + 250
        self.price = 10
        self.events: list[str] = []
        self.own, self.others = OfferBook(self.now), OfferBook(self.now)
        self.air = Air(self.others)

    def now(self) -> int:
        return self.now_ms // 1000

    def offer(self) -> Offer:
        return an_offer(0, sequence=0, issued_at=0, expires_at=0, price_in=self.price)

    def node(self, describe: Callable[[], Offer] | None = None, number: int = 0, **settings: Any) -> Advertiser:
        def heard(event: Event) -> None:
            self.events.append(f"{event.name}: {event.to_json().get('code', 'well')}")

        return Advertiser(
            key_of(number),
            self.air,
            TOPIC,
            describe or self.offer,
            keep=self.own.add,
            now_ms=lambda: self.now_ms,
            events=heard,
            **settings,
        )


async def sent(world: World) -> bytes:
    async with asyncio.timeout(5):
        topic, data = await world.air.sent.get()
    assert topic == TOPIC
    return data


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.asyncio
async def test_an_offer_is_sent_at_once_and_renewed() -> None:
    world = World()
    task = asyncio.create_task(world.node(interval_s=0.01, ttl_s=120).run())
    first, second = await sent(world), await sent(world)
    await stop(task)
    assert first != second
    assert len(world.others.offers()) == len(world.own.offers()) == 1
    offer = world.others.offers()[0]
    assert (offer.issued_at, offer.expires_at) == (NOW, NOW + 120)
    assert offer.sequence >= NOW * 1000 + 251, "above the first, although the clock stood still"


@pytest.mark.asyncio
async def test_a_change_is_sent_without_waiting() -> None:
    world = World()
    node = world.node(interval_s=60)
    task = asyncio.create_task(node.run())
    await sent(world)
    world.price = 25
    node.renew()
    await sent(world)
    await stop(task)
    assert [offer.rates.price_in for offer in world.others.offers()] == [25]


@pytest.mark.asyncio
@pytest.mark.parametrize("turns", range(6))
async def test_a_stop_right_after_a_change_is_not_lost(turns: int) -> None:
    """The trap: on Python 3.11 `asyncio.wait_for` returns when both come in one turn, and forgets the stop."""
    world = World()
    node = world.node(interval_s=60)
    task = asyncio.create_task(node.run())
    await sent(world)
    await asyncio.sleep(0)
    node.renew()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert task.cancelled()


@pytest.mark.asyncio
async def test_a_restarted_node_is_heard_at_once() -> None:
    world = World()
    for price in (1, 2):
        world.price = price
        world.now_ms += 1
        task = asyncio.create_task(world.node().run())
        await sent(world)
        await stop(task)
    assert [offer.rates.price_in for offer in world.others.offers()] == [2]


@pytest.mark.asyncio
async def test_a_node_that_leaves_takes_its_offer_along() -> None:
    world = World()
    node = world.node()
    task = asyncio.create_task(node.run())
    await sent(world)
    await stop(task)
    await node.withdraw()
    world.now_ms += 1000
    assert world.others.offers() == []


@pytest.mark.asyncio
async def test_a_failure_to_send_is_told_and_tried_again() -> None:
    world = World()
    world.air.down = True
    task = asyncio.create_task(world.node(interval_s=0.01).run())
    await sent(world)
    world.air.down = False
    await sent(world)
    await sent(world)
    await stop(task)
    assert world.events[:2] == ["offer not sent: lost-peer", "offer published: well"]
    assert len(world.others.offers()) == 1


@pytest.mark.asyncio
async def test_an_offer_that_cannot_be_made_ends_the_node() -> None:
    world = World()

    def unpriced() -> Offer:
        raise ConfigurationError("energy is not known")

    with pytest.raises(ConfigurationError):
        await world.node(unpriced).run()


@pytest.mark.asyncio
async def test_nobody_advertises_for_another() -> None:
    world = World()
    with pytest.raises(SignatureError):
        world.own.add(world.node(number=1).sealed())
    world.own.add(world.node(number=0).sealed())


@pytest.mark.parametrize("settings", [{"interval_s": 0}, {"interval_s": 120, "ttl_s": 120}, {"ttl_s": MAX_TTL_S + 1}])
def test_an_offer_lives_longer_than_its_interval(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="renewed"):
        World().node(**settings)


def test_errors_of_the_book_are_ours() -> None:
    with pytest.raises(JoulemeshError):
        World().own.add(b"\x00")
