"""How offers spread and vanish: many real hosts on loopback, joined through one as nodes are through their ledger.

    python scripts/bench_gossip.py [--hosts 50] [--late 5] [--dead 5] [--period 30] [--bursts 0.2] [--json]

Each host re-advertises once a period, with an offer that lasts almost three. Some come late, two periods after the
others, and some die without a word three periods later. Says, in periods: after how many each live offer was known to
all live hosts, counted from when its host began (p50, p95 and the last); likewise those of the late, and what the late
had to hear; after how many the dead ones' were known to nobody; and how much of what lives the least informed host knew
at any look, from two periods after the last had begun. `--bursts` is the share of time in which a host takes nothing in
by gossip, a third of a period at a time; the exchange of offers (`node.market.exchange`) is as deaf then.

Hosts are spread over `--processes`, each with an event loop and a network thread. All share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from market_offers import an_offer, key_of

from node.app.network.membership import REJOIN_S, Network
from node.app.network.merits import Merits
from node.app.process.clock import clock
from node.app.settlement.checkpoints import Checkpoints
from node.events import unheard
from node.file_limit import raise_file_limit
from node.market import EXCHANGE_S, Advertiser, OfferGate
from node.market.advertiser import INTERVAL_S, TTL_S
from node.p2p.dials import DialBudget
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.errors import RefusedError, UnreachableError
from protocol.market.offer import Offer
from protocol.names import OFFERS_TOPIC

LOOKS = 150
"""In a period."""
TARGET_KNOWN, TARGET_GONE = 2, 3
LATE_AT, DEATH_AT, END_AT = 2.2, 5.0, 8.2
"""Periods since the first hosts began."""
BURST = 1 / 3
"""Of a period."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all processes know of a run. Times are seconds of the machine's steady clock."""

    hosts: int
    late: int
    dead: int
    period_s: float
    bursts: float
    gossip: bool
    exchange: bool

    @property
    def scale(self) -> float:
        """Seconds here for one of a node with a node's own interval."""
        return self.period_s / INTERVAL_S

    def begins(self, number: int) -> float:
        """When a host begins, in seconds after the first."""
        first = self.hosts - self.late
        if number < first:
            return self.period_s * number / first / 2
        return self.period_s * (LATE_AT + (number - first) / max(1, self.late) / 2)

    def dies(self, number: int) -> float | None:
        """When a host dies; the bootstrap host and the late ones live."""
        return self.period_s * DEATH_AT if 1 <= number <= self.dead else None


class Deafness:
    """Bursts in which a host hears nothing."""

    def __init__(self, plan: Plan, number: int) -> None:
        self._draw = random.Random(number)
        self._plan = plan
        self._until = self._next = 0.0

    def __call__(self) -> bool:
        share, now = self._plan.bursts, time.monotonic()
        if not share:
            return False
        if now >= self._next:
            burst_s = BURST * self._plan.period_s
            self._until = now + burst_s
            self._next = self._until + burst_s * (1 / share - 1) * self._draw.uniform(0.5, 1.5)
        return now < self._until


@dataclass(slots=True)
class Seen:
    """What one host knew, and when: seconds of the steady clock by key."""

    began: float
    first: dict[bytes, float] = field(default_factory=dict)
    last: dict[bytes, float] = field(default_factory=dict)
    least: list[tuple[float, int, int]] = field(default_factory=list)
    """Looks at which it knew fewer than it had to: when, how many, of how many."""


class Node:
    """One host on the network as a node has it, and what keeps it going."""

    def __init__(self, plan: Plan, number: int, stack: AsyncExitStack) -> None:
        self._plan, self.number, self._stack = plan, number, stack
        self.seen = Seen(0.0)
        self.tasks: list[asyncio.Task[None]] = []
        self._deaf = Deafness(plan, number)

    async def open(self, runtime: TrioRuntime) -> None:
        """Listen, and follow offers; it has yet to be connected and to begin."""
        key, plan = key_of(self.number), self._plan
        host = await self._stack.enter_async_context(P2PHost.open(runtime, key.secret))
        heard = await Checkpoints.hear(host, unheard)
        exchange_s = EXCHANGE_S * plan.scale if plan.exchange else 1e6
        self.network = Network(host, unheard, heard, merits=Merits(clock), dials=DialBudget(), exchange_s=exchange_s)
        gate = OfferGate(clock, self.network.is_known, time.monotonic)

        def admit(data: bytes) -> None:
            if self._deaf() or not plan.gossip:
                raise RefusedError("a burst of losses", code="busy")
            gate.admit(data)

        ask = host.request

        async def request(*args: Any, **options: Any) -> bytes:
            if self._deaf():
                raise UnreachableError("a burst of losses")
            return await ask(*args, **options)

        host.request = request  # type: ignore[method-assign]
        offers = await host.subscribe(OFFERS_TOPIC, gate.verify, admit=lambda data: admit_own(host, data, admit))
        self.network.serve_books()
        await self._stack.enter_async_context(self.network.following(offers))
        self._advertiser = Advertiser(
            key, host, OFFERS_TOPIC, self._offer, keep=self.network.book.add,
            now_ms=lambda: time.time_ns() // 1_000_000, events=unheard,
            interval_s=plan.period_s, ttl_s=max(2, int(TTL_S * plan.scale)),
        )  # fmt: skip

    def _offer(self) -> Offer:
        return an_offer(self.number, addresses=self.network.host.addresses)

    async def begin(self, bootstrap: Sequence[str], at: float) -> None:
        """As a node does, once its time has come."""
        await asyncio.sleep(at - time.monotonic())
        self.seen.began = time.monotonic()
        self.tasks = [asyncio.create_task(self._advertiser.run()), asyncio.create_task(self._stay_joined(bootstrap))]
        if self.number:
            await self.network.join(bootstrap)

    async def _stay_joined(self, bootstrap: Sequence[str]) -> None:
        """As `Network.stay_joined` without a ledger: join again who was lost, or never answered."""
        while True:
            await asyncio.sleep(REJOIN_S * self._plan.scale)
            connected = await self.network.host.peers()
            if self.number:
                await self.network.join([each for each in bootstrap if each.rpartition("/p2p/")[2] not in connected])
            await self.network.widen()

    def look(self, live: frozenset[bytes]) -> None:
        """Take note of what it knows, and of whether all that live are among it."""
        now, known = time.monotonic(), {offer.public_key for offer in self.network.book.offers()}
        for key in known:
            self.seen.first.setdefault(key, now)
            self.seen.last[key] = now
        if not live <= known:
            self.seen.least.append((now, len(live & known), len(live)))

    async def die(self) -> None:
        """Without a word."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self._stack.aclose()


def admit_own(host: P2PHost, data: bytes, admit: Any) -> None:
    """What a host publishes itself it does not lose."""
    if host.public_key not in data:
        admit(data)


def keys_of(plan: Plan, at: float) -> frozenset[bytes]:
    """Who has begun and lives at so many seconds after the first."""
    numbers = (number for number in range(plan.hosts) if plan.begins(number) <= at)
    return frozenset(key_of(each).public_key for each in numbers if (plan.dies(each) or at + 1) > at)


async def part(plan: Plan, numbers: Sequence[int], pipe: Connection) -> None:
    """Run some of the hosts from the beginning to the end, and say what they saw."""
    async with TrioRuntime.open() as runtime, AsyncExitStack() as stack:
        nodes = [Node(plan, number, await stack.enter_async_context(AsyncExitStack())) for number in numbers]
        for node in nodes:
            await node.open(runtime)
        pipe.send(nodes[0].network.host.addresses)
        bootstrap, start = await asyncio.to_thread(pipe.recv)
        begun = [asyncio.create_task(node.begin(bootstrap, start + plan.begins(node.number))) for node in nodes]
        living, dying = nodes, []
        while (at := time.monotonic() - start) < END_AT * plan.period_s:
            for node in [node for node in living if (plan.dies(node.number) or at) < at]:
                dying.append(asyncio.create_task(node.die()))
            living = [node for node in living if (plan.dies(node.number) or at + 1) > at]
            live = keys_of(plan, at)
            for node in living:
                if node.seen.began:
                    node.look(live)
            await asyncio.sleep(plan.period_s / LOOKS)
        used = resource.getrusage(resource.RUSAGE_SELF)
        pipe.send(({node.number: node.seen for node in nodes}, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024))
        await asyncio.gather(*begun, *dying, *(node.die() for node in living), return_exceptions=True)


def process(plan: Plan, numbers: Sequence[int], pipe: Connection) -> None:
    """One process of hosts."""
    raise_file_limit()
    asyncio.run(part(plan, numbers, pipe))


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """The middle, the 95th of a hundred and the last; None where some are missing."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": None, "p95": None, "max": None}
    places = {"p50": len(ordered) // 2, "p95": min(len(ordered) - 1, len(ordered) * 95 // 100), "max": -1}
    return {name: None if ordered[at] == float("inf") else round(ordered[at], 2) for name, at in places.items()}


def measured(plan: Plan, processes: int) -> dict[str, Any]:
    """A whole run."""
    context = multiprocessing.get_context("spawn")
    pipes, running = [], []
    for place in range(processes):
        ours, theirs = context.Pipe()
        numbers = range(place, plan.hosts, processes)
        running.append(context.Process(target=process, args=(plan, numbers, theirs), daemon=True))
        running[-1].start()
        pipes.append(ours)
    addresses = [pipe.recv() for pipe in pipes]
    start = time.monotonic() + 1
    for pipe in pipes:
        pipe.send((addresses[0], start))
    seen: dict[int, Seen] = {}
    cpu_s = memory = 0.0
    for pipe in pipes:
        part_seen, used_s, mb = pipe.recv()
        seen |= part_seen
        cpu_s, memory = cpu_s + used_s, memory + mb
    return {
        **figures(plan, seen, start),
        "busy_cores": round(cpu_s / (END_AT * plan.period_s), 3),
        "memory_mb": round(memory),
    }


def figures(plan: Plan, seen: dict[int, Seen], start: float) -> dict[str, Any]:
    """What became of each offer, in periods."""
    never, first = float("inf"), range(plan.hosts - plan.late)
    late = range(plan.hosts - plan.late, plan.hosts)

    def known(number: int, by: Sequence[int]) -> float:
        key = key_of(number).public_key
        return (max(seen[each].first.get(key, never) for each in by) - seen[number].began) / plan.period_s

    def gone(number: int) -> float:
        key, died = key_of(number).public_key, start + plan.period_s * DEATH_AT
        return max((each.last.get(key, died) for who, each in seen.items() if plan.dies(who) is None)) - died

    living = [each for each in late if plan.dies(each) is None]
    caught_up = [
        max(seen[each].first.get(key_of(number).public_key, never) for number in first) - seen[each].began
        for each in living
    ]
    settled = start + plan.period_s * (LATE_AT + 0.5 + TARGET_KNOWN)
    least = [has / of for each in seen.values() for at, has, of in each.least if at > settled]
    return {
        "hosts": plan.hosts,
        "late": plan.late,
        "dead": plan.dead,
        "period_s": plan.period_s,
        "bursts": plan.bursts,
        "known_periods": spread([known(each, first) for each in first]),
        "late_known_periods": spread([known(each, range(plan.hosts)) for each in living]),
        "late_knows_periods": spread([each / plan.period_s for each in caught_up]),
        "gone_periods": spread([gone(each) / plan.period_s for each in range(plan.hosts) if plan.dies(each)]),
        "least_known_share": round(min(least, default=1.0), 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--late", type=int, default=5, help="of them, come late")
    parser.add_argument("--dead", type=int, default=5, help="of them, die without a word")
    parser.add_argument("--period", type=float, default=30.0, help="seconds")
    parser.add_argument("--bursts", type=float, default=0.0, help="share of time in which a host hears nothing")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-gossip", action="store_true", help="by the exchange of offers alone")
    parser.add_argument("--no-exchange", action="store_true", help="by gossip alone")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    plan = Plan(
        asked.hosts, asked.late, asked.dead, asked.period, asked.bursts, not asked.no_gossip, not asked.no_exchange
    )
    found = measured(plan, asked.processes)
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<20} {value}")
    known, gone = (found[name]["max"] for name in ("known_periods", "gone_periods"))
    late = found["late_known_periods"]["max"] if asked.late else 0
    met = None not in (known, late, gone) and max(known, late) <= TARGET_KNOWN and gone <= TARGET_GONE
    print(
        f"target: known to all within {TARGET_KNOWN} periods, gone within {TARGET_GONE}: {'met' if met else 'MISSED'}"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
