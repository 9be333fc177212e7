"""Time the router's dynamic programme against the same programme in plain Python, on the same random offers.

    python scripts/bench_router.py [offers ...]

Prints, for each number of offers, the best of five runs of either, their ratio, and a whole call of `route`.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable

import numpy as np

from protocol.activations import ActivationType
from protocol.ids import BlockSpan
from protocol.lattice import INFINITE, Ints, Lattice, cheapest
from protocol.offer import Evidence, Hardware, HardwareKind, Limits, Offer
from protocol.policy import LatencyClass, Needs, Policy
from protocol.rates import Rates
from protocol.routing import route
from protocol.search import Candidates, Weights, lattice_of

BLOCKS = 80
LATENCY_WEIGHT = 500
NOW = 1_800_000_000


def random_offers(count: int, seed: int) -> list[Offer]:
    """Spans of 4 to 20 blocks of a model of 80, prices and speeds by block."""
    draw = random.Random(seed)
    offers = []
    for number in range(count):
        length = draw.randint(4, 20)
        start = draw.randint(0, BLOCKS - length)
        offers.append(
            Offer(
                public_key=b"\x02" + hashlib.sha256(b"%d" % number).digest(),
                sequence=1,
                issued_at=NOW,
                expires_at=NOW + 300,
                venue=bytes(32),
                model=bytes(32),
                model_name="bench",
                license="",
                span=BlockSpan(start=start, end=start + length),
                blocks=BLOCKS,
                precision="bf16",
                activations=(ActivationType.FP32,),
                hardware=Hardware(device=HardwareKind.CPU, name="", count=1, memory_mib=4096, category=""),
                limits=Limits(window=64, chunk=512, context=8192, sessions=8, draft_depth=0, credit=0),
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
                jurisdiction=draw.choice(["FR", "DE", "IS", "US"]),
                region="",
                addresses=("/ip4/192.0.2.1/tcp/4001",),
                data_addresses=("/ip4/192.0.2.1/tcp/4002/tls",),
                statements=(),
            )
        )
    return offers


def columns(offers: list[Offer], rtt_us: dict[bytes, int]) -> Candidates:
    """The offers as the router's arrays."""

    def column(values: list[int]) -> Ints:
        return np.array(values, dtype=np.int64)

    return Candidates(
        provider=np.arange(len(offers)),
        start=column([offer.span.start for offer in offers]),
        end=column([offer.span.end for offer in offers]),
        price_in=column([offer.rates.price_in for offer in offers]),
        price_out=column([offer.rates.price_out for offer in offers]),
        position_us=column([offer.position_us for offer in offers]),
        access_us=column([rtt_us[offer.public_key] // 2 for offer in offers]),
        region=np.zeros(len(offers), dtype=np.int64),
        between_us=np.zeros((1, 1), dtype=np.int64),
        blocks=BLOCKS,
    )


def plain(lattice: Lattice) -> int:
    """The cost of the cheapest path, by lists and loops."""
    block_cost, access = lattice.block_cost.tolist(), lattice.access.tolist()
    arriving, value = 0, [INFINITE] * len(block_cost)
    for active in [block.tolist() for block in lattice.active]:
        following = [INFINITE] * len(block_cost)
        left = INFINITE
        for candidate in active:
            best = min(value[candidate], arriving + access[candidate]) + block_cost[candidate]
            following[candidate] = best
            left = min(left, best + access[candidate])
        arriving, value = left, following
    return arriving


def best_of(runs: int, call: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def bench(count: int) -> None:
    """One line of the table."""
    offers = random_offers(count, seed=count)
    rtt_us = {offer.public_key: random.Random(offer.public_key).randint(2_000, 120_000) for offer in offers}
    candidates = columns(offers, rtt_us)
    weights = Weights(500, 500, LATENCY_WEIGHT)
    lattice = lattice_of(candidates, weights)
    found = cheapest(lattice)
    if found is None or found.cost != plain(lattice):
        raise SystemExit("the two programmes disagree")
    fast = best_of(5, lambda: cheapest(lattice_of(candidates, weights)))
    slow = best_of(5, lambda: plain(lattice))
    policy = Policy(
        latency_class=LatencyClass.BATCH,
        max_price_in=None,
        max_price_out=None,
        allow=("EEA",),
        deny=(),
        min_evidence=Evidence.CLAIMED,
        min_stake=0,
        precision="bf16",
    )

    def whole() -> object:
        return route(
            offers,
            policy,
            model=bytes(32),
            blocks=BLOCKS,
            venue=bytes(32),
            now=NOW,
            rtt_us=rtt_us,
            latency_weight=LATENCY_WEIGHT,
            needs=Needs(positions=1000),
        )

    print(f"{count:>8} {fast * 1e3:>10.2f} {slow * 1e3:>10.1f} {slow / fast:>7.1f} {best_of(3, whole) * 1e3:>12.1f}")


def main() -> None:
    """Print the table."""
    print(f"{'offers':>8} {'numpy ms':>10} {'plain ms':>10} {'ratio':>7} {'route() ms':>12}")
    for count in [int(argument) for argument in sys.argv[1:]] or [1_000, 10_000]:
        bench(count)


if __name__ == "__main__":
    main()
