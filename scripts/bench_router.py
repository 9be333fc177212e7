"""Time the router: from a book of offers to a route, within a latency, against a graph search, and under churn.

    python scripts/bench_router.py [--quick] [--cpu]

Prints rows with what was measured, what is aimed at, and whether it is met. All of one run, so that ratios hold on a
machine that has other things to do, too; with --cpu times are the process's own, for such a machine.
"""

from __future__ import annotations

import hashlib
import heapq
import importlib
import itertools
import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from node.market.book import OfferBook, VerifiedOffer
from protocol.activations import ActivationType
from protocol.candidates import Candidates, Limits, Weights, broken, lattice_of
from protocol.cells import Ints
from protocol.columns import Column, Columns
from protocol.ids import BlockSpan
from protocol.judging import Judge
from protocol.lattice import Path, PathLeg, cheapest, path_cost
from protocol.offer import Evidence, Hardware, HardwareKind, Offer
from protocol.offer import Limits as OfferLimits
from protocol.policy import LatencyClass, Needs, Policy
from protocol.rates import Rates
from protocol.router import route_over
from protocol.search import find
from protocol.ways import Ways
from protocol.wish import Wish

BLOCKS = 80
LATENCY_WEIGHT = 500
NOW = 1_800_000_000
MODEL = VENUE = bytes(32)
COUNTRIES = "FR DE IS NO SE FI DK NL BE AT CZ PL IT ES PT IE US CA MX BR AR CL GB CH JP KR TW SG IN AU NZ ZA".split()  # noqa: SIM905
REGIONS = len(COUNTRIES)
DENIED = ("US", "GB", "BR")
CLOCK = time.process_time if "--cpu" in sys.argv[1:] else time.perf_counter
SMALL = 1_000
"""Cases that are held against every path there is."""


def random_offer(draw: random.Random, number: int, sequence: int = 1) -> Offer:
    """A span of 4 to 20 blocks of a model of 80, prices and speeds by block."""
    length = draw.randint(4, 20)
    start = draw.randint(0, BLOCKS - length)
    return Offer(
        public_key=b"\x02" + hashlib.sha256(b"%d" % number).digest(),
        sequence=sequence,
        issued_at=NOW,
        expires_at=NOW + 300,
        venue=VENUE,
        model=MODEL,
        model_name="bench",
        license="",
        span=BlockSpan(start=start, end=start + length),
        blocks=BLOCKS,
        precision="bf16",
        activations=(ActivationType.FP32,),
        hardware=Hardware(device=HardwareKind.CPU, name="", count=1, memory_mib=4096, category=""),
        limits=OfferLimits(
            window=64,
            chunk=512,
            context=draw.choice([512, 4096, 8192, 8192]),
            sessions=draw.choice([0, 4, 8, 8, 8, 8]),
            draft_depth=0,
            credit=0,
        ),
        rates=Rates(
            opening=0,
            price_in=length * draw.randint(1000, 5000),
            price_out=length * draw.randint(4000, 20000),
            price_cached=0,
            price_rejected=0,
            late_discount_ppm=0,
        ),
        forecast=(),
        prompt_us=1000,
        position_us=length * draw.randint(200, 2000),
        late_us=length * 20_000,
        energy=None,
        jurisdiction=draw.choice(COUNTRIES),
        region="",
        addresses=("/ip4/192.0.2.1/tcp/4001",),
        data_addresses=("/ip4/192.0.2.1/tcp/4002/tls",),
        statements=(),
    )


def random_offers(count: int, seed: int) -> list[Offer]:
    """So many, each of another key."""
    draw = random.Random(seed)
    return [random_offer(draw, number) for number in range(count)]


def random_ways(columns: Columns, seed: int) -> Ways:
    """32 regions on a map of 100 ms, and half a millisecond to 8 ms to each machine in them."""
    draw = np.random.default_rng(seed)
    at = draw.uniform(0, 100_000, (REGIONS, 2))
    apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)).astype(np.int64)
    return Ways(
        access_us=draw.integers(500, 8_000, columns.rows),
        region=columns.at(Column.PLACE) % REGIONS,
        between_us=apart,
    )


POLICY = Policy(
    latency_class=LatencyClass.BATCH,
    max_price_in=None,
    max_price_out=None,
    allow=(),
    deny=DENIED,
    min_evidence=Evidence.CLAIMED,
    min_stake=0,
    precision="bf16",
)


class Scene:
    """Some offers in a book's columns, and what a client asks of them."""

    def __init__(self, count: int, seed: int) -> None:
        self.offers = random_offers(count, seed)
        self.columns = Columns(self.offers)
        self.ways = random_ways(self.columns, seed)

    def judge(self, needs: Needs = Needs(positions=1000)) -> Judge:  # noqa: B008 - frozen
        """The policy over these columns."""
        return Judge(
            columns=self.columns, policy=POLICY, model=MODEL, blocks=BLOCKS, venue=VENUE, now=NOW + 1, needs=needs
        )

    def candidates(self) -> Candidates:
        """Those that the policy admits."""
        rows = np.flatnonzero(self.judge().admitted())
        rows = rows[np.argsort(self.ways.region[rows], kind="stable")]
        return candidates_of(self.columns, self.ways, rows)


def candidates_of(columns: Columns, ways: Ways, rows: Ints) -> Candidates:
    """Rows that stand by region, as candidates."""

    def column(which: Column) -> Ints:
        return columns.at(which)[rows]

    return Candidates(
        provider=column(Column.PROVIDER),
        start=column(Column.START),
        end=column(Column.END),
        price_in=column(Column.PRICE_IN),
        price_out=column(Column.PRICE_OUT),
        position_us=column(Column.POSITION_US),
        prompt_us=column(Column.PROMPT_US),
        access_us=ways.access_us[rows],
        region=ways.region[rows],
        between_us=ways.between_us,
        blocks=BLOCKS,
    )


def times_of(runs: int, call: Callable[[], object]) -> list[float]:
    """Milliseconds of some runs."""
    found = []
    for _ in range(runs):
        began = CLOCK()
        call()
        found.append((CLOCK() - began) * 1e3)
    return found


def row(what: str, measured: str, target: str, met: bool) -> None:
    """One line of the table."""
    print(f"{what:<62} {measured:>22}  {target:>14}  {'met' if met else 'NOT MET'}", flush=True)


# From book to route


def bench_routes(runs: int) -> None:
    """10,000 offers with standbys, and with a reason for each; 100,000 without."""
    scene = Scene(10_000, 1)
    wish = Wish(latency_weight=LATENCY_WEIGHT, standbys=1)
    plain = median(times_of(runs, lambda: route_over(scene.judge(), scene.ways, wish)))
    row("book -> route, 10,000 offers, masks, route, standbys", f"{plain:.2f} ms median", "<= 5 ms", plain <= 5)
    told = median(times_of(runs, lambda: list(route_over(scene.judge(), scene.ways, wish).explanations)))
    row("the same, and a sentence for each offer", f"{told:.1f} ms median", "<= 25 ms", told <= 25)
    large = Scene(100_000, 2)
    wish = Wish(latency_weight=LATENCY_WEIGHT)
    much = median(times_of(max(3, runs // 4), lambda: route_over(large.judge(), large.ways, wish)))
    row("book -> route, 100,000 offers, no reasons", f"{much:.1f} ms median", "<= 30 ms", much <= 30)


# Every path there is


def bench_small() -> None:
    """Small cases at random against all paths."""
    draw = random.Random(3)
    wrong = 0
    for _ in range(SMALL):
        candidates = small(draw)
        lattice = lattice_of(candidates, Weights(500, 500, draw.choice([0, 3, 90])))
        found = cheapest(lattice)
        least = min((path_cost(lattice, legs) for legs in every_path(candidates)), default=None)
        wrong += least != (None if found is None else found.cost)
    row(f"equal to brute force on {SMALL:,} small cases", f"{wrong} differ", "0", wrong == 0)


def small(draw: random.Random) -> Candidates:
    """Up to six candidates in up to four regions."""
    region = sorted(draw.randrange(4) for _ in range(draw.randint(1, 6)))
    spans = [sorted(draw.sample(range(6), 2)) for _ in region]

    def some(most: int) -> Ints:
        return np.array([draw.randint(1, most) for _ in region], dtype=np.int64)

    return Candidates(
        provider=np.arange(len(region)),
        start=np.array([start for start, _ in spans]),
        end=np.array([end for _, end in spans]),
        price_in=some(40),
        price_out=some(40),
        position_us=some(5_000),
        prompt_us=some(9),
        access_us=some(3_000),
        region=np.array(region),
        between_us=np.array([[draw.randint(0, 4_000) for _ in range(4)] for _ in range(4)]),
        blocks=5,
    )


def every_path(c: Candidates, at: int = 0, last: int = -1) -> Iterator[tuple[PathLeg, ...]]:
    """All chains of spans over the blocks from `at` on."""
    if at == c.blocks:
        yield ()
        return
    for i in range(len(c.start)):
        if i != last and c.start[i] <= at < c.end[i]:
            for end in range(at + 1, int(c.end[i]) + 1):
                for rest in every_path(c, end, i):
                    yield ((i, at, end), *rest)


# Within a latency


def bench_within(runs: int) -> None:
    """The cheapest route whose tokens keep to a time, between the fastest and the cheapest of all."""
    times, exact, gaps = [], 0, []
    queries = 0
    for seed in range(max(2, runs // 5)):
        candidates = Scene(10_000, 10 + seed).candidates()
        slow, fast = (
            cheapest(lattice_of(candidates, weights)) for weights in (Weights(500, 500, 0), Weights(0, 0, 1000))
        )
        assert slow is not None
        assert fast is not None
        longest = sum_us(candidates, slow)
        shortest = sum_us(candidates, fast)
        for share in (0.1, 0.2, 0.3, 0.45, 0.6, 0.8):
            limits = Limits(price_in=None, price_out=None, time_us=int(shortest + share * (longest - shortest)))
            began = CLOCK()
            found = find(candidates, limits, Weights(500, 500, 0))
            times.append((CLOCK() - began) * 1e3)
            queries += 1
            assert found is not None
            assert not broken(candidates, limits, found.path)
            exact += found.gap == 0
            gaps.append(found.gap / found.path.cost)
    row(
        f"cheapest within a latency, 10,000 offers, {queries} queries",
        f"{median(times):.1f} ms median",
        "<= 15 ms",
        median(times) <= 15,
    )
    row("  proven exact", f"{exact} of {queries}", ">= 90 %", exact >= 0.9 * queries)
    row("  largest certified gap", f"{max(gaps):.2%}", "certified", True)


def sum_us(candidates: Candidates, path: Path) -> int:
    """Of a token round a path."""
    times = lattice_of(candidates, Weights(0, 0, 1))
    return path_cost(times, path.legs)


# A graph search, as others do it


def bench_graph() -> None:
    """Against Dijkstra's search in a graph of (server, block), as Petals makes it: a client may enter a server anywhere
    in its span, and leaves it at the span's end."""
    scene = Scene(2_000, 30)
    candidates = candidates_of(scene.columns, scene.ways, np.argsort(scene.ways.region, kind="stable"))
    weights = Weights(500, 500, LATENCY_WEIGHT)
    ours = median(times_of(9, lambda: cheapest(lattice_of(candidates, weights))))
    mine = cheapest(lattice_of(candidates, weights))
    for what, search, most in (
        ("against that graph in networkx, 2,000 offers", with_networkx, 500),
        ("against that graph by this file's own search", dijkstra, 0),
    ):
        began = CLOCK()
        theirs = graph_search(candidates, weights, search)
        took = (CLOCK() - began) * 1e3
        assert mine is not None
        if theirs is None:
            print(f"{what:<62} {'no networkx here':>22}")
            continue
        target = f">= {most}x" if most else "-"
        row(what, f"{took:.0f} / {ours:.2f} ms = {took / ours:.0f}x", target, took >= most * ours)
        row("  and never dearer", f"{theirs / mine.cost - 1:+.2%} dearer", ">= 0", theirs >= mine.cost)


def graph_search(c: Candidates, weights: Weights, search: Callable[[Graph], Way | None]) -> int | None:
    """The cost of the cheapest path that leaves each server at its span's end; the way back to the first included."""
    lattice = lattice_of(c, weights)
    cost, access = lattice.block_cost.tolist(), lattice.access.tolist()
    region, between = c.region.tolist(), lattice.between.tolist()
    start, end = c.start.tolist(), c.end.tolist()
    graph: Graph = {START: {}}
    holding = [[i for i in range(len(start)) if start[i] <= block < end[i]] for block in range(c.blocks)]
    for i in holding[0]:
        graph[START][i, 0] = access[i]
    for i in range(len(start)):
        for block in range(start[i], end[i]):
            graph.setdefault((i, block), {})[i, block + 1] = cost[i]
        out = graph.setdefault((i, end[i]), {})
        if end[i] == c.blocks:
            out[END] = access[i]
            continue
        for j in holding[end[i]]:
            if j != i:
                out[j, end[i]] = access[i] + between[region[i]][region[j]] + access[j]
    found = search(graph)
    if found is None:
        return None
    total, first, last = found
    return total + between[region[last]][region[first]]


Node = tuple[int, int]
Graph = dict[Node, dict[Node, int]]
Way = tuple[int, int, int]
"""The cost of the cheapest way from start to end, and the first and the last server on it."""
START, END = (-1, 0), (-2, 0)


def with_networkx(graph: Graph) -> Way | None:
    """By a library for graphs, as others use one; None where it is not installed."""
    try:
        networkx: Any = importlib.import_module("networkx")
    except ImportError:
        return None
    whole = networkx.DiGraph()
    for node, out in graph.items():
        for following, weight in out.items():
            whole.add_edge(node, following, weight=weight)
    total, path = networkx.single_source_dijkstra(whole, START, END)
    return total, path[1][0], path[-2][0]


def dijkstra(graph: Graph) -> Way | None:
    """By a heap and two dictionaries."""
    best: dict[Node, int] = {START: 0}
    before: dict[Node, Node] = {}
    tick = itertools.count()
    queue: list[tuple[int, int, Node]] = [(0, next(tick), START)]
    while queue:
        so_far, _, node = heapq.heappop(queue)
        if node == END:
            path = [before[END]]
            while before[path[-1]] != START:
                path.append(before[path[-1]])
            return so_far, path[-1][0], path[0][0]
        if so_far > best[node]:
            continue
        for following, more in graph.get(node, {}).items():
            total = so_far + more
            if total < best.get(following, total + 1):
                best[following], before[following] = total, node
                heapq.heappush(queue, (total, next(tick), following))
    return None


# A book under churn


def bench_book(minutes: int) -> None:
    """10,000 offers, each sent again three times a minute, a tenth of them by others each minute; time and memory."""
    draw = random.Random(40)
    offers = [
        VerifiedOffer(offer, hashlib.sha512(b"%d" % n).digest() * 12)
        for n, offer in enumerate(random_offers(10_000, 40))
    ]
    now = [NOW + 1]
    tracemalloc.start()
    book = OfferBook(lambda: now[0], most=16_384, most_guests=16_384)
    for offer in offers:
        book.take(offer)
    copies = [random_offer(draw, 20_000 + n) for n in range(10_000)]
    used = tracemalloc.get_traced_memory()[0] + sum(len(each.sealed) + 3_000 for each in offers)
    tracemalloc.stop()
    del copies
    busy, number = 0.0, 10_000
    for second in range(60 * minutes):
        now[0] += 1
        again = [
            VerifiedOffer(replace_times(offers[at].offer, now[0]), b"%d %d" % (second, at) + offers[at].sealed[:700])
            for at in draw.sample(range(len(offers)), len(offers) // 20)
        ]
        fresh = [
            VerifiedOffer(replace_times(random_offer(draw, number + n), now[0]), b"%d" % (number + n) + bytes(700))
            for n in range(len(offers) // 600)
        ]
        number += len(fresh)
        began = time.process_time()
        for each in (*again, *fresh):
            book.take(each)
        admitted = Judge(
            columns=book.columns, policy=POLICY, model=MODEL, blocks=BLOCKS, venue=VENUE, now=now[0], needs=Needs()
        ).admitted()
        busy += time.process_time() - began
        assert admitted.any()
        for at, each in zip(draw.sample(range(len(offers)), len(fresh)), fresh, strict=True):
            offers[at] = each
    share = busy / (60 * minutes)
    row("book of 10,000, 500 sent again and 16 new each second", f"{share:.1%} of a core", "< 20 %", share < 0.2)
    row("  memory of book and offers", f"{used / 2**20:.0f} MiB", "<= 100 MB", used <= 100e6)


def replace_times(offer: Offer, now: int) -> Offer:
    """The same offer, sent again."""
    return replace(offer, sequence=offer.sequence + now, issued_at=now, expires_at=now + 120)


def main() -> None:
    """Print the table."""
    quick = "--quick" in sys.argv[1:]
    print(f"{'row':<62} {'measured':>22}  {'target':>14}")
    bench_small()
    bench_routes(5 if quick else 21)
    bench_within(5 if quick else 30)
    bench_graph()
    bench_book(1)


if __name__ == "__main__":
    main()
