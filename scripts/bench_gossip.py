"""How offers spread and vanish: many real hosts on loopback, joined through one as nodes are through their ledger.

    python scripts/bench_gossip.py [--hosts 50] [--period 30] [--dead 5] [--json]

Each host re-advertises once a period, with an offer that lasts three. Says after how many periods every live offer was
known to all, how many were known at all times in the two periods after that, and after how many periods the offers of
hosts that died without a word were known to nobody. All hosts share one process, two threads and its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from market_offers import an_offer, key_of

from node.app.checkpoints import Checkpoints
from node.app.clock import clock
from node.app.merits import Merits
from node.app.network import REJOIN_S, Network
from node.events import unheard
from node.file_limit import raise_file_limit
from node.market import Advertiser, OfferGate
from node.p2p.dials import DialBudget
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.names import BOOK_PROTOCOL, OFFERS_TOPIC
from protocol.offer import Offer

LOOK_S = 0.2
TARGET_KNOWN, TARGET_GONE = 2, 3
"""Periods."""


@dataclass(slots=True)
class Node:
    """One host on the network as a node has it, and what keeps it going."""

    network: Network
    stack: AsyncExitStack
    advertiser: Advertiser
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def key(self) -> bytes:
        return self.network.host.public_key

    def begin(self, after_s: float, period_s: float) -> None:
        """As a node does that has joined; they do not all start at once."""
        self.tasks = [asyncio.create_task(self._advertise(after_s)), asyncio.create_task(self._widen(period_s))]

    async def _advertise(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self.advertiser.run()

    async def _widen(self, period_s: float) -> None:
        while True:
            await asyncio.sleep(min(REJOIN_S, period_s / 3))
            await self.network.widen()

    async def die(self) -> None:
        """Without a word."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.stack.aclose()

    def knows(self) -> set[bytes]:
        return {offer.public_key for offer in self.network.book.offers()}


async def start(runtime: TrioRuntime, number: int, period_s: float) -> Node:
    """A host that follows offers, to send its own once a period; it has yet to be connected and to begin."""
    key, stack = key_of(number), AsyncExitStack()
    host = await stack.enter_async_context(P2PHost.open(runtime, key.secret))
    heard = await Checkpoints.hear(host, unheard)
    network = Network(host, unheard, heard, merits=Merits(clock), dials=DialBudget())
    gate = OfferGate(clock, network.is_known, time.monotonic)
    offers = await host.subscribe(OFFERS_TOPIC, gate.verify, admit=gate.admit)
    host.serve(BOOK_PROTOCOL, network.serve_book, max_request=1024)
    await stack.enter_async_context(network.following(offers))

    def describe() -> Offer:
        return an_offer(number, addresses=host.addresses)

    advertiser = Advertiser(
        key, host, OFFERS_TOPIC, describe, keep=network.book.add, now_ms=lambda: time.time_ns() // 1_000_000,
        events=unheard, interval_s=period_s, ttl_s=max(2, round(3 * period_s)),
    )  # fmt: skip
    return Node(network, stack, advertiser)


async def until_all_know(nodes: list[Node], limit_s: float) -> float | None:
    """Seconds until every one knows every one."""
    wanted, began = {node.key for node in nodes}, time.monotonic()
    while not all(wanted <= node.knows() for node in nodes):
        if time.monotonic() - began > limit_s:
            return None
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - began


async def until_gone(nodes: list[Node], dead: set[bytes], limit_s: float) -> float | None:
    """Seconds until nobody knows the dead any more."""
    began = time.monotonic()
    while any(dead & node.knows() for node in nodes):
        if time.monotonic() - began > limit_s:
            return None
        await asyncio.sleep(LOOK_S)
    return time.monotonic() - began


async def least_known(nodes: list[Node], for_s: float) -> float:
    """The least share of live offers that any of them knew at any look."""
    wanted, ends, least = {node.key for node in nodes}, time.monotonic() + for_s, 1.0
    while time.monotonic() < ends:
        least = min(least, *(len(wanted & node.knows()) / len(wanted) for node in nodes))
        await asyncio.sleep(LOOK_S)
    return least


async def measured(hosts: int, dying: int, period_s: float) -> dict[str, float | int | None]:
    async with TrioRuntime.open() as runtime:
        began = time.monotonic()
        nodes = [await start(runtime, number, period_s) for number in range(hosts)]
        for node in nodes[1:]:
            await node.network.join(nodes[0].network.host.addresses)
        for number, node in enumerate(nodes):
            node.begin(period_s * number / hosts / 2, period_s)
        joined_s = time.monotonic() - began
        known_s = await until_all_know(nodes, 10 * period_s)
        cpu, at = time.process_time(), time.monotonic()
        least = await least_known(nodes, 2 * period_s)
        busy = (time.process_time() - cpu) / (time.monotonic() - at)
        dead, nodes = nodes[-dying:], nodes[:-dying]
        gone = {node.key for node in dead}
        dying_now = [asyncio.create_task(node.die()) for node in dead]
        gone_s = await until_gone(nodes, gone, 10 * period_s)
        await asyncio.gather(*dying_now, *(node.die() for node in nodes))
    return {
        "hosts": hosts,
        "period_s": period_s,
        "joined_s": round(joined_s, 1),
        "known_periods": None if known_s is None else round(known_s / period_s, 2),
        "least_known_share": round(least, 3),
        "dead": dying,
        "gone_periods": None if gone_s is None else round(gone_s / period_s, 2),
        "busy_cores": round(busy, 3),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--period", type=float, default=30.0, help="seconds")
    parser.add_argument("--dead", type=int, default=5, help="hosts that die without a word")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    raise_file_limit()
    found = asyncio.run(measured(options.hosts, options.dead, options.period))
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<18} {value}")
    known, gone = found["known_periods"], found["gone_periods"]
    met = known is not None and known <= TARGET_KNOWN and gone is not None and gone <= TARGET_GONE
    print(
        f"target: known to all within {TARGET_KNOWN} periods, gone within {TARGET_GONE}: {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
