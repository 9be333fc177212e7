"""How fast the simulator is: a year of 1,000 sites, 16 classes against 4, and a bare numpy loop over the same market.

All sides of a ratio run in this one process, in turn, and count processor time: a busy machine slows them alike.

    python scripts/bench_simulator.py [--days 60] [--scenarios 2000 | --entry]
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from simulator.engine import simulate
from simulator.figures import figures_of
from simulator.scenario import Settings, find_scenario, load_scenario

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS / "simulation"), str(TESTS / "support")]


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=60, help="days of each run (default 60)")
    parser.add_argument("--scenarios", type=int, default=0, help="instead: try so many random scenarios")
    parser.add_argument("--entry", action="store_true", help="instead: what free entry leaves, seed by seed")
    options = parser.parse_args()
    if options.entry:
        try_entry()
        return
    if options.scenarios:
        try_random(options.scenarios)
        return
    settings = next(iter(load_scenario(find_scenario("residency")).runs.values()))
    run = dataclasses.replace(settings.run, providers=1000, hours=24 * options.days, burn_in_days=0)
    demand = {
        name: dataclasses.replace(each, requests_per_hour=each.requests_per_hour * 4)
        for name, each in settings.demand.items()
    }
    extra = dataclasses.replace(next(iter(demand.values())), tokens_in=4000, tokens_out=1000, requests_per_hour=200_000)
    settings = dataclasses.replace(settings, run=run, demand={**demand, "batch": extra})
    sixteen_classes = split(settings, 4)
    four, sixteen, bare = timed(
        lambda: simulate(settings), lambda: simulate(sixteen_classes), lambda: bare_loop(settings)
    )
    steps = settings.run.providers * settings.run.hours
    print(f"1,000 sites, {options.days} days: {four:.2f} s, {four / steps * 1e9:.0f} ns a site and hour")
    print(f"16 classes against 4: {sixteen / four:.2f} times")
    print(f"against a bare numpy loop: {four / bare:.2f} times")


def timed(*sides: Callable[[], Any]) -> list[float]:
    """Seconds of processor time of each, the least of five rounds in which they take turns."""
    taken: list[list[float]] = [[] for _ in sides]
    for _ in range(5):
        for run, seconds in zip(sides, taken, strict=True):
            start = time.process_time()
            run()
            seconds.append(time.process_time() - start)
    return [min(each) for each in taken]


def split(settings: Settings, parts: int) -> Settings:
    """The same demand in so many times as many classes."""
    demand = {
        f"{name}-{part}": dataclasses.replace(each, requests_per_hour=each.requests_per_hour // parts)
        for name, each in settings.demand.items()
        for part in range(parts)
    }
    return dataclasses.replace(settings, demand=demand)


def bare_loop(settings: Settings) -> float:
    """What anybody would write first: hour by hour, float asks, sorted, filled class by class, paid and summed up."""
    lots = np.random.default_rng(1)
    count, total = settings.run.providers, 0.0
    regions, joules = lots.integers(0, len(settings.regions), count), lots.uniform(1, 2, count)
    capital, speed, use = lots.uniform(0.1, 1, count), lots.uniform(2e6, 2e7, count), np.full(count, 0.6)
    figures = np.zeros((settings.run.hours, len(settings.regions), 8))
    for hour in range(settings.run.hours):
        tariff = lots.uniform(0.03, 0.3, len(settings.regions))[regions]
        energy = joules * tariff / 3.6
        ask = energy * 1.1 + capital * use
        order = np.argsort(ask)
        left, revenue = speed.copy(), np.zeros(count)
        for demand in settings.demand.values():
            want = demand.requests_per_hour * (demand.tokens_in + demand.tokens_out)
            room = left[order] * (ask[order] <= demand.price_cap / 1e6)
            before = np.cumsum(room) - room
            taken = np.clip(want - before, 0, room)
            left[order] -= taken
            revenue[order] += taken * ask[order]
        work = speed - left
        for at, figure in enumerate((work, revenue, work * energy, left, capital, ask, tariff, use)):
            figures[hour, :, at] = np.bincount(regions, figure, len(settings.regions))
        if hour % 24 == 23:
            use += (work / speed - use) / 7
        total += revenue.sum()
    return total


ENTRIES = [
    *(
        ("uniform", capital, sites, noise, elasticity, seed)
        for elasticity, noises, seeds in ((0.0, (0.0, 0.05), (1, 2, 3)), (0.3, (0.0,), (1, 2)))
        for sites in (20, 55, 100)
        for noise in noises
        for capital in (0, 25_000)
        for seed in seeds
    ),
    *(("posted", 25_000, 100, noise, 0.0, 1) for noise in (0.0, 0.1)),
    ("posted", 0, 20, 0.0, 0.0, 1),
]
"""Price rule, dollars a machine costs to build, sites, noise and elasticity of demand, seed."""
_PATIENCE = 14
"""Days; what a scenario has that does not say."""


def try_entry() -> None:
    """Margins over cost in two years after a burn-in with free entry."""
    from plain_markets import growing_toml, run_market

    for rule, capital, sites, noise, elasticity, seed in ENTRIES:
        keys = {"capital": capital, "sites": sites, "noise": noise, "elasticity": elasticity, "seed": seed}
        toml = growing_toml(rule, hours=2 * 8760, patience=_PATIENCE, **keys)
        found = figures_of(run_market(toml))
        mean, worst = found["market.margin"], found["market.worst_quarter_margin"]
        said = ", ".join(f"{name} {value}" for name, value in keys.items())
        print(f"{rule}, {said}: {mean:.3f}, worst {worst:.3f}")


def try_random(count: int) -> None:
    """A result or a refusal for each of so many scenarios over all bounds."""
    from test_simulation_books import random_settings

    done, refused, longest = 0, 0, 0.0
    for number in range(count):
        start = time.process_time()
        try:
            simulate(random_settings(number))
            done += 1
        except ConfigurationError:
            refused += 1
        except Exception as error:  # noqa: BLE001 - each fault is listed, and all others are looked for
            print(f"scenario {number} is neither: {type(error).__name__}: {error}")
        longest = max(longest, time.process_time() - start)
    print(f"{done} of {count} gave a result, {refused} a refusal; the longest took {longest:.1f} s")
    if done + refused < count:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
