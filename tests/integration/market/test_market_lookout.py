"""A node looks for its own offer in the books of others, and says when it is not to be seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from market_offers import NOW, an_offer, key_of

from node.events import Event, KeyInUse, OfferPublished, OfferSeen, OfferUnseen
from node.market import Advertiser, Lookout, OfferBook
from node.market.lookout import PATIENCE
from protocol.identity.signing import seal
from protocol.market.offer import Offer

pytestmark = pytest.mark.asyncio


class Others:
    """Two peers with books, which hear what is published unless they are deaf, and answer unless they are gone."""

    def __init__(self) -> None:
        self.books = [OfferBook(lambda: NOW), OfferBook(lambda: NOW)]
        self.deaf = False
        self.gone = False
        self.events: list[Event] = []
        self.told = asyncio.Queue[Event]()

    async def publish(self, _topic: str, data: bytes) -> None:
        if not self.deaf:
            for book in self.books:
                book.add(data)

    async def ask(self) -> Sequence[Sequence[bytes]]:
        return [] if self.gone else [book.sealed(node=key_of(0).public_key) for book in self.books]

    def tell(self, event: Event) -> None:
        if isinstance(event, OfferPublished):
            return  # the advertiser's part
        self.events.append(event)
        self.told.put_nowait(event)

    def advertiser(self, data_address: str = "/ip4/192.0.2.1/tcp/4002/tls") -> Advertiser:
        def offer() -> Offer:
            return an_offer(0, sequence=0, issued_at=0, expires_at=0, data_addresses=(data_address,))

        return Advertiser(
            key_of(0), self, "offers", offer, keep=lambda sealed: None, now_ms=lambda: NOW * 1000, events=self.tell
        )

    def lookout(self, advertiser: Advertiser) -> Lookout:
        return Lookout(advertiser, self.ask, now=lambda: NOW, events=self.tell)


async def send(others: Others, advertiser: Advertiser) -> None:
    await others.publish("offers", advertiser.sealed())


async def test_an_offer_that_others_have_is_seen_and_nothing_is_said() -> None:
    others = Others()
    advertiser = others.advertiser()
    await send(others, advertiser)
    others.books[1] = OfferBook(lambda: NOW)  # one that has it is enough
    assert await others.lookout(advertiser).look()
    assert others.events == []


async def test_an_offer_that_nobody_has_is_told_once_and_told_again_when_it_is_seen() -> None:
    others = Others()
    others.deaf = True
    advertiser = others.advertiser()
    lookout = others.lookout(advertiser)
    await send(others, advertiser)
    assert not await lookout.look()
    assert others.events == [], "a first look may come too early"
    for _ in range(5):
        assert not await lookout.look()
    assert others.events == [OfferUnseen(peers=2)]
    others.deaf = False
    await send(others, advertiser)
    assert await lookout.look()
    assert await lookout.look()
    assert others.events == [OfferUnseen(peers=2), OfferSeen()]


async def test_a_node_without_peers_is_not_seen() -> None:
    others = Others()
    others.gone = True
    advertiser = others.advertiser()
    lookout = others.lookout(advertiser)
    await send(others, advertiser)
    for _ in range(PATIENCE):
        assert not await lookout.look()
    assert others.events == [OfferUnseen(peers=0)]


async def test_what_cannot_be_seen_is_sent_again() -> None:
    others = Others()
    others.deaf = True
    advertiser = others.advertiser()
    lookout = Lookout(advertiser, others.ask, now=lambda: NOW, events=others.tell, interval_s=60, soon_s=0.01)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(advertiser.run()), group.create_task(lookout.run())]
        async with asyncio.timeout(5):
            assert await others.told.get() == OfferUnseen(peers=2)
            others.deaf = False
            assert await others.told.get() == OfferSeen()
        for task in tasks:
            task.cancel()


async def test_a_second_node_with_the_key_is_told_to_the_first() -> None:
    """It takes the first off the market: its offers are newer under the same key."""
    others = Others()
    first, second = others.advertiser(), others.advertiser("/ip4/192.0.2.66/tcp/4002/tls")
    lookout = others.lookout(first)
    await send(others, first)
    assert await lookout.look()
    second.sealed()  # its clock is ahead by a little
    await send(others, second)
    for _ in range(PATIENCE + 1):
        await lookout.look()
    assert others.events == [KeyInUse(addresses=("/ip4/192.0.2.66/tcp/4002/tls",)), OfferUnseen(peers=2)]


async def test_an_offer_from_before_a_restart_is_neither_ones_own_nor_a_rivals() -> None:
    others = Others()
    before = an_offer(0, sequence=NOW * 1000 - 1, issued_at=NOW - 1, expires_at=NOW + 60)
    for book in others.books:
        book.add(seal(before, key_of(0)))
    others.deaf = True
    advertiser = others.advertiser()
    await send(others, advertiser)
    assert not await others.lookout(advertiser).look()
    assert others.events == []


async def test_what_a_peer_makes_up_counts_for_nothing() -> None:
    others = Others()
    advertiser = others.advertiser()
    await send(others, advertiser)

    async def lie() -> Sequence[Sequence[bytes]]:
        return [[b"junk", seal(an_offer(0, sequence=NOW * 1000 + 5), key_of(1))], [seal(an_offer(1), key_of(1))]]

    lookout = Lookout(advertiser, lie, now=lambda: NOW, events=others.tell)
    assert not await lookout.look()
    assert others.events == []
