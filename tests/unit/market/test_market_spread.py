"""Fifty books on a virtual clock, real in all but their network: how soon everybody knows every live offer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from market_offers import NOW, an_offer, key_of
from virtual_loop import run_virtually

from node.market import Exchange, OfferBook, verify_offer
from node.market.advertiser import INTERVAL_S, TTL_S
from node.market.book import VerifiedOffer
from protocol.errors import LostPeerError
from protocol.identity.signing import seal
from protocol.market.catalog import LackingRequest, OfferList

HOSTS, LATE, DEAD, NEIGHBOURS = 50, 5, 5, 6
BURST_S = INTERVAL_S / 3


class World:
    """What the hosts share: who is connected to whom, what is lost, and what has been checked before."""

    def __init__(self, brought: float, deaf: float) -> None:
        self.draw = random.Random(7)
        self.brought = brought
        """The share of hosts that gossip brings an advertisement to."""
        self.deaf = deaf
        """The share of time in which a host takes nothing in."""
        self.hosts: list[Host] = []
        self.verified: dict[bytes, VerifiedOffer] = {}
        """Signatures cost more than all else here."""

    def now(self) -> int:
        return NOW + int(asyncio.get_running_loop().time() - 1000)

    def check(self, sealed: bytes) -> VerifiedOffer:
        if sealed not in self.verified:
            self.verified[sealed] = verify_offer(sealed, self.now())
        return self.verified[sealed]


class Host:
    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number
        self.key = key_of(number)
        self.book = OfferBook(world.now)
        self.neighbours = (
            {world.hosts[0], *world.draw.sample(world.hosts, min(NEIGHBOURS, number))} if number else set()
        )
        for each in self.neighbours:
            each.neighbours.add(self)
        self.exchange = Exchange(self.book, self._connected, self._ask, self._take, draw=world.draw)
        self.known_at: dict[bytes, float] = {}
        self.began = 0.0
        self.tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        self.began = asyncio.get_running_loop().time()
        self.tasks = [asyncio.create_task(self.exchange.run()), asyncio.create_task(self._advertise())]

    def die(self) -> None:
        for task in self.tasks:
            task.cancel()
        for each in self.neighbours:
            each.neighbours.discard(self)

    @property
    def deaf(self) -> bool:
        burst = int(asyncio.get_running_loop().time() / BURST_S)
        return random.Random(f"{self.number} {burst}").random() < self.world.deaf

    async def _advertise(self) -> None:
        sequence = 0
        while True:
            sequence, now = sequence + 1, self.world.now()
            offer = an_offer(self.number, sequence=sequence, issued_at=now, expires_at=now + TTL_S)
            sealed = seal(offer, self.key)
            self._add(sealed)
            for host in self.world.hosts:
                if host.tasks and host is not self and self.world.draw.random() < self.world.brought and not host.deaf:
                    host._add(sealed)
            await asyncio.sleep(INTERVAL_S)

    def _add(self, sealed: bytes) -> None:
        verified = self.world.check(sealed)
        self.book.take(verified)
        self.known_at.setdefault(verified.offer.public_key, asyncio.get_running_loop().time())

    async def _connected(self) -> Sequence[str]:
        return sorted(str(each.number) for each in self.neighbours if each.tasks)

    async def _ask(self, peer: str, question: LackingRequest) -> OfferList:
        other = self.world.hosts[int(peer)]
        if self.deaf or other.deaf:
            raise LostPeerError("planted")
        return other.exchange.answer(question)

    async def _take(self, sealed: Sequence[bytes]) -> None:
        for each in sealed:
            self._add(each)


async def measured(brought: float, deaf: float) -> tuple[float, float, float]:
    """Periods until all that were there from the beginning knew each other, until the late were known and knew, and
    until the dead were known to nobody; at worst.
    """
    world = World(brought, deaf)
    for number in range(HOSTS):
        world.hosts.append(Host(world, number))
    first, late = world.hosts[:-LATE], world.hosts[-LATE:]
    for host in first:
        host.begin()
        await asyncio.sleep(INTERVAL_S / 2 / HOSTS)
    await asyncio.sleep(3 * INTERVAL_S)
    for host in late:
        host.begin()
    await asyncio.sleep(3 * INTERVAL_S)
    dead = {host.key.public_key for host in first[1 : DEAD + 1]}
    for host in first[1 : DEAD + 1]:
        host.die()
    left = [*first[:1], *first[DEAD + 1 :], *late]
    gone = await _seconds_until_unknown(left, dead)
    for host in left:
        host.die()
    everybody = [host.key.public_key for host in first]
    known = max(host.known_at[each] - host.began for host in first for each in everybody)
    newest = max(host.known_at[each.key.public_key] - each.began for host in world.hosts for each in late)
    caught_up = max(host.known_at[each] - host.began for host in late for each in everybody)
    return known / INTERVAL_S, max(newest, caught_up) / INTERVAL_S, gone / INTERVAL_S


async def _seconds_until_unknown(hosts: Sequence[Host], dead: set[bytes]) -> int:
    for seconds in range(10 * TTL_S):
        if not any(offer.public_key in dead for host in hosts for offer in host.book.offers()):
            return seconds
        await asyncio.sleep(1)
    raise AssertionError("the dead live on")


@pytest.mark.parametrize(
    ("brought", "deaf"),
    [(0.8, 0.25), pytest.param(0.0, 0.0, marks=pytest.mark.long)],
    ids=["in bursts", "without gossip"],
)
def test_every_live_offer_reaches_all_in_two_periods_and_a_dead_nodes_is_gone_in_three(
    brought: float, deaf: float
) -> None:
    known, late, gone = run_virtually(measured(brought, deaf))
    print(f"known {known:.2f}, late {late:.2f}, gone {gone:.2f} periods")
    assert known < 2
    assert late < 2
    assert gone < 3
