"""The kernels that price work: the same values on ints and on arrays, and how much faster arrays are.

Every kernel runs on the same tuples both ways in this one process, and a sample is held against fractions.

    python scripts/bench_tariff.py [--tuples 1000000]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial, reduce
from itertools import starmap
from math import ceil
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from node.tariff.follow import checked_tariff
from node.tariff.schedule import supply_series
from protocol.energy.charges import (
    MAX_LOCAL_PRICE,
    MAX_RATE_PPM,
    Charge,
    blended_price,
    charged,
    demand_price,
    exchanged,
    with_share,
)
from protocol.energy.energy_shares import Roofline, idle_part
from protocol.energy.price_series import STEP_S, mean_between
from protocol.energy.tariff import (
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
    sustain_price,
)
from protocol.routing.cells import Ints
from protocol.session.metering import amount
from protocol.units import MICRO, smaller
from simulator.settlement import cost

SAMPLE = 2_000
"""Tuples that are held against fractions."""
PART = 20_000
"""Elements of an array: what a market has of providers, or hours."""
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


def _amount(tokens_in: Any, tokens_out: Any, price_in: Any, price_out: Any, late: Any, discount: Any) -> Any:
    late = smaller(late, tokens_out)
    return amount(tokens_in, tokens_out, price_in, price_out, late=late, late_discount_ppm=discount)


def _amount_of_fractions(
    tokens_in: int, tokens_out: int, price_in: int, price_out: int, late: int, discount: int
) -> int:
    off = min(late, tokens_out) * int(Fraction(price_out * discount, MICRO))
    owed = ceil(Fraction(tokens_in * price_in + tokens_out * price_out - off, MICRO))
    return max(owed, int(tokens_in + tokens_out > 0))


SHARE, TARIFF, COUNT = (0, MICRO), (-MAX_TARIFF, MAX_TARIFF), (0, 10**6)
CHARGES = Charge(name="grid", per_kwh=70_000, share_ppm=0), Charge(name="tax", per_kwh=0, share_ppm=190_000)
DEVICE = Roofline(milliwatts=300_000, mflop_per_s=10**8, kb_per_s=10**6)
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
    "charged": Kernel(
        lambda price: charged(price, CHARGES),
        ((-MAX_LOCAL_PRICE, MAX_LOCAL_PRICE),),
        lambda price: reduce(
            lambda left, each: ceil((left + each.per_kwh) * (1 + Fraction(each.share_ppm, MICRO))), CHARGES, price
        ),
    ),
    "sustain_price": Kernel(
        sustain_price, ((0, MAX_PRICE), (0, MAX_PRICE)), lambda floor, capital: int(Fraction(floor) + capital)
    ),
    "amount": Kernel(
        _amount, (COUNT, COUNT, (0, MAX_PRICE // 100), (0, MAX_PRICE // 100), COUNT, SHARE), _amount_of_fractions
    ),
    "idle_part": Kernel(
        lambda energy, window, quiet, idle: idle_part(energy, window, window - quiet, idle),
        ((0, 10**15), (10**6, 10**8), (0, 10**6), (0, 10**9)),
        lambda energy, _window, quiet, idle: min(energy, int(Fraction(idle * quiet, MICRO))),
    ),
    "idle_by_time": Kernel(
        lambda energy, window, quiet: idle_part(energy, window, window - quiet, None),
        ((0, 10**15), (10**6, 10**8), (0, 10**6)),
        lambda energy, window, quiet: int(Fraction(energy * quiet, window)),
    ),
    "roofline": Kernel(
        lambda rows: DEVICE.microjoules(rows, parameters=10**8, weight_bytes=2 * 10**8),
        ((1, 512),),
        lambda rows: ceil(
            Fraction(max(ceil(Fraction(2 * 10**8 * rows, DEVICE.mflop_per_s)), 2 * 10**5) * DEVICE.milliwatts, 1000)
        ),
    ),
    "site_cost": Kernel(
        cost,
        (COUNT, COUNT, TARIFF, TARIFF),
        lambda count_in, count_out, price_in, price_out: ceil(
            Fraction(count_in * price_in + count_out * price_out, MICRO)
        ),
    ),
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
        array_s, arrays = min((_timed(partial(_in_parts, kernel.run, columns)) for _ in range(3)), key=itemgetter(0))
        plain_s, plain = _timed(partial(list, starmap(kernel.run, rows)))
        assert arrays.tolist() == plain, name
        assert plain[:SAMPLE] == [kernel.oracle(*row) for row in rows[:SAMPLE]], name
        spent = [spent[0] + plain_s, spent[1] + array_s]
        times = plain_s / array_s
        met = "met" if times >= TARGET else "NOT MET"
        print(f"{name:<16} {count:,} alike; ints {plain_s:6.2f} s, arrays {array_s:6.3f} s: {times:5.0f} times  {met}")
    print(f"all {len(KERNELS)} kernels: {spent[0] / spent[1]:.0f} times (target {TARGET} for each)")
    _series()


def _in_parts(run: Callable[..., Any], columns: list[Ints]) -> Ints:
    """A kernel over arrays as long as markets are."""
    made = np.empty(len(columns[0]), dtype=np.int64)
    for start in range(0, len(made), PART):
        made[start : start + PART] = run(*(column[start : start + PART] for column in columns))
    return made


def _draws() -> Iterator[np.random.Generator]:
    for seed in range(len(KERNELS)):
        yield np.random.default_rng(seed)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()  # its own, whatever else the machine does
    made = work()
    return time.process_time() - began, made


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
