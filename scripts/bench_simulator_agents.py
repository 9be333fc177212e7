"""The simulator against the same market written for Mesa and for SimPy, by processor time, in one process.

Each site is an agent, or a process: every hour it asks by the node's kernels, and pays for power and presence; a market
sorts the quotes and sells each class's whole requests from the cheapest on. That is still less than the simulator does:
it has neither law nor zones, waits, entry nor figures by region. Mesa and SimPy are no dependencies: install them into
an environment of their own that sees this one's packages.

    python scripts/bench_simulator_agents.py [--sites 1000] [--hours 240]
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import time
from collections.abc import Callable, Generator
from typing import Any

from protocol.energy.tariff import ask_price, capital_price, energy_price, floor_price
from protocol.session.metering import amount
from protocol.units import MICRO, ceil_div
from simulator.engine import simulate
from simulator.hardware import Hardware
from simulator.scenario import Settings, find_scenario, load_scenario
from simulator.settlement import cost

HOUR_US = 3_600_000_000


class Site:
    """What a provider does in an hour, whoever calls it: it asks by the node's kernels, and books what it sold."""

    def __init__(self, lots: random.Random, kinds: list[Hardware]) -> None:
        kind = lots.choice(kinds)
        self.joules = kind.joules_in, kind.joules_out
        self.rates = kind.tokens_in_per_s, kind.tokens_out_per_s
        self.idle_watts, self.hourly_cost = kind.idle_watts, kind.hourly_cost
        each_us = [ceil_div(MICRO, rate) for rate in self.rates]
        self.capital = [capital_price(kind.hourly_cost, each, 700_000) for each in each_us]
        self.pue, self.region, self.use, self.profit = 1000 + lots.randrange(300), lots.randrange(5), 600_000, 0
        self.left_us = self.sold_in = self.sold_out = self.earned = 0
        self.hours: list[tuple[int, int, int]] = []

    def quote(self, tariffs: list[int]) -> None:
        """Ask for the next hour."""
        self.energy = [energy_price(joules, self.pue, tariffs[self.region]) for joules in self.joules]
        self.asks = [
            ask_price(floor_price(energy, 0), 100_000, capital, self.use)
            for energy, capital in zip(self.energy, self.capital, strict=True)
        ]
        self.left_us, self.sold_in, self.sold_out, self.earned = HOUR_US, 0, 0, 0

    def remember(self, tariffs: list[int]) -> None:
        """Pay for power and presence, and take in how busy it was."""
        idle = self.left_us * self.idle_watts // 1_000_000
        joule = energy_price(1000, self.pue, tariffs[self.region])
        spent = cost(self.sold_in, self.sold_out, *self.energy) + cost(idle, 0, joule, joule) + self.hourly_cost
        self.profit += self.earned - spent
        self.use += ((HOUR_US - self.left_us) * MICRO // HOUR_US - self.use) // 168
        self.hours.append((self.earned, spent, self.left_us))


def fill(sites: list[Site], settings: Settings) -> None:
    """Sell each class's whole requests from the cheapest on."""
    for demand in settings.demand.values():
        size, want = (demand.tokens_in, demand.tokens_out), demand.requests_per_hour
        most = demand.price_cap * sum(size)
        quoted = sorted((size[0] * site.asks[0] + size[1] * site.asks[1], at) for at, site in enumerate(sites))
        for quote, at in quoted:
            if quote > most or want <= 0:
                break
            site = sites[at]
            busy = sum(ceil_div(tokens * MICRO, rate) for tokens, rate in zip(size, site.rates, strict=True))
            taken = min(want, site.left_us // busy)
            site.left_us -= taken * busy
            want -= taken
            site.sold_in += taken * size[0]
            site.sold_out += taken * size[1]
            site.earned += amount(taken * size[0], taken * size[1], *site.asks)


def by_mesa(settings: Settings) -> None:
    """Agents that a model steps."""
    import mesa

    lots, kinds = random.Random(1), list(settings.hardware.values())

    class Provider(mesa.Agent):
        def __init__(self, model: Any) -> None:
            super().__init__(model)
            self.site = Site(lots, kinds)

        def quote(self) -> None:
            self.site.quote(self.model.tariffs)

        def remember(self) -> None:
            self.site.remember(self.model.tariffs)

    class Market(mesa.Model):
        def __init__(self) -> None:
            super().__init__()
            self.providers = [Provider(self) for _ in range(settings.run.providers)]

        def step(self) -> None:
            self.tariffs = [lots.randrange(30_000, 300_000) for _ in range(5)]
            self.agents.do("quote")
            fill([each.site for each in self.providers], settings)
            self.agents.do("remember")

    market = Market()
    for _ in range(settings.run.hours):
        market.step()


def by_simpy(settings: Settings) -> None:
    """Processes that wait for the next hour."""
    import simpy

    lots, kinds, world = random.Random(1), list(settings.hardware.values()), simpy.Environment()
    sites, tariffs = [Site(lots, kinds) for _ in range(settings.run.providers)], [100_000] * 5

    def provider(site: Site) -> Generator[Any, None, None]:
        while True:
            site.quote(tariffs)
            yield world.timeout(1)
            site.remember(tariffs)

    def market() -> Generator[Any, None, None]:
        yield world.timeout(0.5)
        while True:
            fill(sites, settings)
            tariffs[:] = [lots.randrange(30_000, 300_000) for _ in range(5)]
            yield world.timeout(1)

    for site in sites:
        world.process(provider(site))
    world.process(market())
    world.run(until=settings.run.hours)


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=1000)
    parser.add_argument("--hours", type=int, default=72)
    options = parser.parse_args()
    settings = load_scenario(find_scenario("residency")).runs["free"]
    run = dataclasses.replace(settings.run, providers=options.sites, hours=options.hours, burn_in_days=0)
    demand = {
        name: dataclasses.replace(each, requests_per_hour=each.requests_per_hour * options.sites // 250)
        for name, each in settings.demand.items()
    }
    settings = dataclasses.replace(settings, run=run, demand=demand)
    sides: dict[str, Callable[[Settings], object]] = {"ours": simulate, "Mesa": by_mesa, "SimPy": by_simpy}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(3):
        for name, side in sides.items():
            start = time.process_time()
            side(settings)
            taken[name].append(time.process_time() - start)
    ours = min(taken["ours"])
    print(f"{options.sites} sites, {options.hours} hours: {ours:.2f} s")
    for name in ("Mesa", "SimPy"):
        print(f"{name}: {min(taken[name]) / ours:.1f} times as long")


if __name__ == "__main__":
    main()
