"""The kernels that price work: the same values on ints and on arrays, and how much faster arrays are.

Every kernel runs on the same tuples both ways in this one process, and a sample is held against fractions.

    python scripts/bench_tariff.py [--tuples 1000000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from itertools import starmap
from math import ceil
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from node.tariff.follow import checked_tariff
from node.tariff.schedule import supply_series
from protocol.charges import MAX_LOCAL_PRICE, MAX_RATE_PPM, blended_price, demand_price, exchanged, with_share
from protocol.price_series import STEP_S, mean_between
from protocol.tariff import (
    MAX_CARBON_G_PER_KWH,
    MAX_CARBON_PRICE,
    MAX_HARDWARE_PRICE,
    MAX_MARGIN_PPM,
    MAX_MILLIJOULES_PER_TOKEN,
    MAX_PRICE,
    MAX_PUE_MILLI,
    MAX_TARIFF,
    ask_price,
    capital_price,
    carbon_cost,
    energy_price,
    floor_price,
    followed_price,
)
from protocol.units import MICRO

SAMPLE = 2_000
"""Tuples that are held against fractions."""
TARGET = 30
"""Times that arrays have to be faster."""
PRICES = tuple(int(each) for each in np.random.default_rng(7).integers(-MAX_TARIFF, MAX_TARIFF, 200))
TUPLES = tuple(int(each) for each in np.cumsum((0, *PRICES))), (*PRICES, 0)
ARRAYS = tuple(np.array(each, dtype=np.int64) for each in TUPLES)


class Kernel(NamedTuple):
    """A kernel, the bounds of its arguments, and what fractions say."""

    run: Callable[..., Any]
    bounds: tuple[tuple[int, int], ...]
    oracle: Callable[..., int]


def _mean(begin: Any, long_s: Any) -> Any:
    return mean_between(*(ARRAYS if isinstance(begin, np.ndarray) else TUPLES), begin, begin + long_s)


def _mean_of_fractions(begin: int, long_s: int) -> int:
    end, total = begin + long_s, 0
    for index in range(begin // STEP_S, -(-end // STEP_S)):
        total += PRICES[index] * (min(end, (index + 1) * STEP_S) - max(begin, index * STEP_S))
    return ceil(Fraction(total, long_s))


def _capital(hourly: int, token_us: int, use: int) -> int:
    whole = min(ceil(Fraction(hourly * token_us, 3600)), MAX_PRICE)
    return min(ceil(Fraction(whole * MICRO, use)), MAX_PRICE)


def _blend(load: Any, watts: Any, price: Any, rest: Any) -> Any:
    return blended_price(load, [(watts, price)], rest)


SHARE, TARIFF = (0, MICRO), (-MAX_TARIFF, MAX_TARIFF)
KERNELS = {
    "energy_price": Kernel(
        energy_price,
        ((0, MAX_MILLIJOULES_PER_TOKEN), (0, MAX_PUE_MILLI), TARIFF),
        lambda mj, pue, price: ceil(Fraction(mj * pue * price, 3_600_000)),
    ),
    "floor_price": Kernel(
        floor_price, ((-MAX_PRICE, MAX_PRICE), (0, MAX_PRICE)), lambda energy, over: max(0, energy) + over
    ),
    "ask_price": Kernel(
        ask_price,
        ((0, MAX_PRICE), (0, MAX_MARGIN_PPM), (0, MAX_PRICE), SHARE),
        lambda floor, margin, capital, use: (
            floor + int(Fraction(floor * margin, MICRO)) + int(Fraction(capital * use, MICRO))
        ),
    ),
    "carbon_cost": Kernel(
        carbon_cost,
        ((0, MAX_CARBON_G_PER_KWH), (0, MAX_CARBON_PRICE)),
        lambda grams, price: ceil(Fraction(grams * price, MICRO)),
    ),
    "capital_price": Kernel(capital_price, ((0, MAX_HARDWARE_PRICE), (1, 600_000_000), (1, MICRO)), _capital),
    "followed_price": Kernel(
        followed_price,
        ((0, MAX_PRICE), SHARE, (0, MAX_PRICE)),
        lambda median, cut, floor: max(floor, median - ceil(Fraction(median * cut, MICRO))),
    ),
    "with_share": Kernel(
        with_share,
        ((-MAX_LOCAL_PRICE, MAX_LOCAL_PRICE), (-MICRO, 10 * MICRO)),
        lambda price, share: ceil(price * (1 + Fraction(share, MICRO))),
    ),
    "exchanged": Kernel(
        exchanged,
        ((-MAX_LOCAL_PRICE, MAX_LOCAL_PRICE), (1, MAX_RATE_PPM)),
        lambda price, rate: ceil(Fraction(price * rate, MICRO)),
    ),
    "demand_price": Kernel(
        demand_price,
        ((0, MAX_LOCAL_PRICE), (1, 744), (1, MICRO)),
        lambda price, hours, load: ceil(Fraction(price * MICRO, hours * load)),
    ),
    "blended_price": Kernel(
        _blend,
        ((1, 10**9), (0, 10**9), TARIFF, TARIFF),
        lambda load, watts, price, rest: ceil(Fraction(min(load, watts) * price + max(0, load - watts) * rest, load)),
    ),
    "mean_between": Kernel(_mean, ((0, 100 * STEP_S), (1, 99 * STEP_S)), _mean_of_fractions),
}


def main() -> None:
    """Print a line for each kernel; raises AssertionError where two ways differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuples", type=int, default=1_000_000, help="for each kernel (default 1000000)")
    count = parser.parse_args().tuples
    spent = [0.0, 0.0]
    for (name, kernel), draws in zip(KERNELS.items(), _draws(), strict=True):
        columns = [draws.integers(low, high, count, endpoint=True) for low, high in kernel.bounds]
        rows = list(zip(*(column.tolist() for column in columns), strict=True))
        # The first time memory is taken from the system, which the other way round costs next to nothing.
        array_s, arrays = min((_timed(partial(kernel.run, *columns)) for _ in range(3)), key=itemgetter(0))
        plain_s, plain = _timed(partial(list, starmap(kernel.run, rows)))
        assert arrays.tolist() == plain, name
        assert plain[:SAMPLE] == [kernel.oracle(*row) for row in rows[:SAMPLE]], name
        spent = [spent[0] + plain_s, spent[1] + array_s]
        times = plain_s / array_s
        print(f"{name:<16} {count:,} alike; ints {plain_s:6.2f} s, arrays {array_s:6.3f} s: {times:5.0f} times")
    print(f"all kernels: {spent[0] / spent[1]:.0f} times (target {TARGET})")
    _series()


def _draws() -> Iterator[np.random.Generator]:
    for seed in range(len(KERNELS)):
        yield np.random.default_rng(seed)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made


def _series() -> None:
    """What a node computes every quarter of an hour."""
    row = [0] * 7 + [1] * 14 + [0] * 3
    text = (
        'zone = "Europe/Berlin"\n[price]\nkind = "table"\nenergyratestructure = [[{ rate = 0.1 }], [{ rate = 0.3 }]]\n'
        f"energyweekdayschedule = {[row] * 12}\n[[charge]]\npercent = 19\n"
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tariff.toml"
        path.write_text(text)
        tariff = checked_tariff(path, 1_900_000_000)
    seconds = [_timed(lambda: supply_series(tariff, {}, 1_899_999_900, 196))[0] for _ in range(20)]
    print(f"a series of 49 hours from a table: {min(seconds) * 1000:.2f} ms")


if __name__ == "__main__":
    main()
