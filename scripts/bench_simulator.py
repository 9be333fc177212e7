"""How fast the simulator is: a year of 1,000 providers, and arrays against Python ints on the same rules.

Both sides of the ratio run in this one process, day by day in turn, so that a busy machine slows both alike.

    python scripts/bench_simulator.py [--providers 100] [--days 5]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from typing import Any

import numpy as np

from simulator.clearing import clear, merit_order, quotes
from simulator.demand import Classes, draw_classes
from simulator.engine import simulate
from simulator.habits import State, first_state
from simulator.population import Population, draw_population, tariffs
from simulator.pricing import hour_prices
from simulator.reference import Site, plain_hour, sites
from simulator.scenario import Settings, find_scenario, load_scenario
from simulator.settlement import settle


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A market before its first day."""

    settings: Settings
    population: Population
    plain: list[Site]
    classes: Classes
    state: State
    tariff: Any
    """(N, T)"""


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--providers", type=int, default=100, help="providers on Python ints (default 100)")
    parser.add_argument("--days", type=int, default=5, help="days for the ratio (default 5)")
    options = parser.parse_args()
    settings = load_scenario(find_scenario("energy-share")).runs["energy x1"]

    start = time.perf_counter()
    simulate(settings)
    taken = time.perf_counter() - start
    steps = settings.run.providers * settings.run.hours
    print(
        f"a year of {settings.run.providers:,} providers: {taken:.2f} s, {taken / steps * 1e9:.0f} ns a provider-hour"
    )

    many, few = _draw(settings), _draw(_smaller(settings, options.providers))
    seconds = [(_array_day(many, day), _int_day(few, day)) for day in range(options.days)]
    hours = options.days * 24
    arrays = sum(each for each, _ in seconds) / hours / settings.run.providers * 1e9
    ints = sum(each for _, each in seconds) / hours / options.providers * 1e9
    print(f"ask, clear and settle, {settings.run.providers:,} providers on arrays: {arrays:.0f} ns a provider-hour")
    print(f"ask, clear and settle, {options.providers:,} providers on ints: {ints:.0f} ns a provider-hour")
    print(f"ratio: {ints / arrays:.0f}")


def _draw(settings: Settings) -> Drawn:
    population = draw_population(settings)
    classes = draw_classes(settings, population)
    tariff = tariffs(settings)[population.region]
    return Drawn(settings, population, sites(population), classes, first_state(settings), tariff)


def _smaller(settings: Settings, providers: int) -> Settings:
    """The same market with fewer providers and as much less demand."""
    demand = {
        name: dataclasses.replace(each, requests_per_hour=each.requests_per_hour * providers // settings.run.providers)
        for name, each in settings.demand.items()
    }
    return dataclasses.replace(settings, run=dataclasses.replace(settings.run, providers=providers), demand=demand)


def _array_day(drawn: Drawn, day: int) -> float:
    hours = slice(day * 24, day * 24 + 24)
    ties, present = np.arange(len(drawn.population)), drawn.state.present.astype(np.int64)
    start = time.perf_counter()
    prices = hour_prices(drawn.settings.market, drawn.population, drawn.state.use, drawn.tariff[:, hours].T)
    sizes = set(zip(drawn.classes.tokens_in.tolist(), drawn.classes.tokens_out.tolist(), strict=True))
    orders = {size: merit_order(quotes(*size, prices.ask_in, prices.ask_out), ties) for size in sizes}
    served = clear(drawn.classes, drawn.classes.turns(day), drawn.classes.potential[:, hours], present, orders)
    settle(drawn.classes, drawn.population, present, served, prices)
    return time.perf_counter() - start


def _int_day(drawn: Drawn, day: int) -> float:
    ties, present, use = list(range(len(drawn.plain))), drawn.state.present.tolist(), drawn.state.use.tolist()
    lawful = [row.tolist() for row in drawn.classes.lawful]
    classes = dataclasses.replace(drawn.classes, lawful=lawful)  # type: ignore[arg-type]  # lists are faster to index
    seconds = 0.0
    for hour in range(day * 24, day * 24 + 24):
        tariff, want = drawn.tariff[:, hour].tolist(), drawn.classes.potential[:, hour].tolist()
        start = time.perf_counter()
        plain_hour(
            drawn.settings.market,
            drawn.plain,
            classes,
            turns=classes.turns(day),
            tie_rank=ties,
            present=present,
            use=use,
            tariff=tariff,
            want=want,
        )
        seconds += time.perf_counter() - start
    return seconds


if __name__ == "__main__":
    main()
