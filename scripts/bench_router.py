"""Time the router: from a book of offers to a route, within a latency, against a graph search, and under churn.

    python scripts/bench_router.py [--quick] [--cpu]

Prints rows with what was measured, what is aimed at, and whether it is met. All of one run, so that ratios hold on a
machine that has other things to do, too; with --cpu times are the process's own, for such a machine. Each time is the
median over several books; of a book, the best of a few.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from router_bench.churn import bench_book
from router_bench.graph import dijkstra, graph_search, with_networkx
from router_bench.markets import POLICY, Scene, every_path, small
from router_bench.rows import CLOCK, best_of, row

from protocol.policy.corridors import Corridor
from protocol.routing.candidates import Limits, Weights, broken, lattice_of
from protocol.routing.lattice import cheapest, path_cost
from protocol.routing.router import route_over
from protocol.routing.search import find
from protocol.routing.wish import Wish

LATENCY_WEIGHT = 500
SMALL = 1_000
"""Cases that are held against every path there is."""
SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
"""Limits on time, between the fastest route and the cheapest."""


# From book to route


def bench_routes(books: int) -> None:
    """10,000 offers with standbys, with a reason for each, and by a law for each hop; 100,000 without."""
    wish = Wish(latency_weight=LATENCY_WEIGHT, standbys=1)
    scenes = [Scene(10_000, seed) for seed in range(1, books + 1)]
    corridor = Corridor(source="EU", to="EU", purpose="inference", expires_at=2**40 - 1)
    bound = POLICY.replace(
        origin="FR", corridors=(corridor, *(corridor.replace(source="FR", to=to) for to in ("CH", "IS", "JP")))
    )
    for what, most, call in (
        ("book -> route, 10,000 offers, masks, route, standbys", 5, lambda s: route_over(s.judge(), s.ways, wish)),
        (
            "the same, and a sentence for each offer",
            25,
            lambda s: list(route_over(s.judge(), s.ways, wish).explanations),
        ),
        ("the same, each hop by corridors", 0, lambda s: route_over(s.judge(policy=bound), s.ways, wish)),
        (
            "the same, with two backups",
            0,
            lambda s: route_over(s.judge(), s.ways, Wish(latency_weight=LATENCY_WEIGHT, backups=2)),
        ),
    ):
        _timed_row(what, [partial(call, scene) for scene in scenes], most)
    wish = Wish(latency_weight=LATENCY_WEIGHT)
    large = [Scene(100_000, 2 + seed) for seed in range(2)]
    calls = [partial(lambda s: route_over(s.judge(), s.ways, wish), scene) for scene in large]
    _timed_row("book -> route, 100,000 offers, no reasons", calls, 30)


def _timed_row(what: str, calls: Sequence[Callable[[], object]], most: int) -> None:
    took = median(best_of(5, call) for call in calls)
    row(what, f"{took:.2f} ms median", f"<= {most} ms" if most else "-", not most or took <= most)


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


# Within a latency


def bench_within(books: int) -> None:
    """The cheapest route whose tokens keep to a time, between the fastest and the cheapest of all."""
    times, exact, gaps = [], 0, []
    for seed in range(books):
        candidates = Scene(10_000, 10 + seed).candidates()
        slow, fast = (
            cheapest(lattice_of(candidates, weights)) for weights in (Weights(500, 500, 0), Weights(0, 0, 1000))
        )
        assert slow is not None
        assert fast is not None
        lattice = lattice_of(candidates, Weights(0, 0, 1))
        longest, shortest = (path_cost(lattice, path.legs) for path in (slow, fast))
        for share in SHARES:
            limits = Limits(price_in=None, price_out=None, time_us=int(shortest + share * (longest - shortest)))
            call = partial(find, candidates, limits, Weights(500, 500, 0))
            times.append(best_of(5, call))
            found = call()
            assert found is not None
            assert not broken(candidates, limits, found.path)
            exact += found.gap == 0
            gaps.append(found.gap / found.path.cost)
    row(
        f"cheapest within a latency, 10,000 offers, {len(times)} queries",
        f"{median(times):.1f} ms median",
        "<= 15 ms",
        median(times) <= 15,
    )
    row("  proven exact", f"{exact} of {len(times)}", ">= 90 %", exact >= 0.9 * len(times))
    row("  largest certified gap", f"{max(gaps):.2%}", "certified", True)


# A graph search, as others do it


def bench_graph() -> None:
    """Against Dijkstra's search in a graph of (server, block), as Petals makes it: a client may enter a server anywhere
    in its span, and leaves it at the span's end."""
    scene = Scene(2_000, 30)
    candidates = scene.everybody()
    weights = Weights(500, 500, LATENCY_WEIGHT)
    ours = best_of(9, lambda: cheapest(lattice_of(candidates, weights)))
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


def main() -> None:
    """Print the table."""
    quick = "--quick" in sys.argv[1:]
    print(f"{'row':<62} {'measured':>22}  {'target':>14}")
    bench_small()
    bench_routes(3 if quick else 9)
    bench_within(2 if quick else 6)
    bench_graph()
    bench_book(1)


if __name__ == "__main__":
    main()
