"""Money for what was served, by the amount kernel, what it cost, and the books that must balance to the unit.

Each class has one session an epoch with each site that serves it; what is paid follows from the session's cumulative
counts, as a voucher's amount does. Arrays are (epochs, sites).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.errors import ConfigurationError, RuleError
from protocol.session.metering import amount
from protocol.units import MICRO, IntOrArray, ceil_div
from simulator.clearing import Trades
from simulator.demand import Classes
from simulator.exact import LARGEST, Ints, exact_sum, magnitude
from simulator.late import Lateness
from simulator.population import Population
from simulator.pricing import Prices
from simulator.tables import MILLI

__all__ = ["ACCOUNTS", "Block", "Books", "cost", "payments", "settle"]

_NOTHING = np.zeros(1, dtype=np.int64)

ACCOUNTS = ("providers", "suppliers", "lenders", "token_holders", "treasury", "cheated", "auditors", "burned")
"""Besides the clients of each class; what is burned is nobody's."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What happened in some epochs. Money in micro-units, energy in millijoules at the meter."""

    tokens_in: Ints
    """(E, N)"""
    tokens_out: Ints
    """(E, N)"""
    requests: Ints
    """(E, N)"""
    busy_us: Ints
    """(E, N)"""
    revenue: Ints
    """(E, N) what clients paid."""
    work_cost: Ints
    """(E, N) energy spent on tokens."""
    idle_cost: Ints
    """(E, N) energy spent waiting, and what the highest draw of a month costs (`simulator.peaks`)."""
    overhead: Ints
    """(E, N) what each token costs besides energy."""
    hourly_cost: Ints
    """(E, N) what presence costs besides energy and capital."""
    running_cost: Ints
    """(E, N) all of these: what would not be spent if the site were gone."""
    capital: Ints
    """(E, N) what pays for the building of the site."""
    energy: Ints
    """(E, N) millijoules at the meter, waiting included."""
    paid: Ints
    """(C, E) what each class paid."""


def payments(
    classes: Classes,
    trades: Trades,
    lateness: Lateness,
    price_in: Ints,
    price_out: Ints,
    opening: Ints = _NOTHING,
) -> Ints:
    """Micro-units of each trade, at prices of its own per million tokens and an opening one for each request, less what
    late tokens are cheaper by.

    Raises:
        ConfigurationError: an amount beyond what 60 bits hold.
    """
    tokens_in, tokens_out = trades.sizes(classes)
    _check_products(tokens_in, tokens_out, magnitude(price_in, price_out))
    _check_products(trades.requests, _NOTHING, magnitude(opening))
    late: dict[str, Ints] = {}
    if lateness.matters:
        _check_products(price_out, _NOTHING, MICRO)
        late["late"] = lateness.expected(trades, tokens_out)
        late["late_discount_ppm"] = lateness.discount[trades.site]
    return amount(tokens_in, tokens_out, price_in, price_out, **late) + trades.requests * opening


def settle(
    classes: Classes,
    population: Population,
    working_us: Ints,
    hours: tuple[Ints, int, int],
    trades: Trades,
    earned: Ints,
    prices: Prices,
) -> Block:
    """Book `trades` that `earned` so much each, and charge every site that is there its costs.

    Args:
        working_us: (E, N) microseconds for which each site runs.
        hours: who is present (N,), epochs in an hour, and in a day.

    Raises:
        ConfigurationError: an amount beyond what 62 bits hold.
    """
    shape = working_us.shape
    at = trades.epoch * shape[1] + trades.site

    def by_site(figure: Ints) -> Ints:
        total = np.zeros(shape[0] * shape[1], dtype=np.int64)
        np.add.at(total, at, figure)
        return total.reshape(shape)

    requests = trades.requests
    size_in, size_out = trades.sizes(classes)
    tokens_in, tokens_out = by_site(trades.part(size_in)), by_site(trades.part(size_out))
    busy_us = by_site(trades.part(_busy_us(classes, population, trades)))
    paid = np.zeros(len(classes.names) * shape[0], dtype=np.int64)
    np.add.at(paid, trades.of_class * shape[0] + trades.epoch, earned)
    idle_mj = np.maximum(working_us - busy_us, 0) * population.idle_watts
    idle_mj //= MILLI  # a watt for a microsecond is a microjoule
    machine_mj = tokens_in * population.joules_in
    machine_mj += tokens_out * population.joules_out
    machine_mj += idle_mj
    machine_mj *= population.pue
    present, an_hour, a_day = hours
    work_cost = _spent(tokens_in, tokens_out, prices.energy_in, prices.energy_out)
    idle_cost = _spent(idle_mj // MILLI, _NOTHING, prices.joule, prices.joule)
    overhead = _spent(tokens_in, tokens_out, prices.overhead, prices.overhead)
    hourly_cost = population.hourly_cost * present // an_hour
    return Block(
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        requests=by_site(requests),
        busy_us=busy_us,
        revenue=by_site(earned),
        work_cost=work_cost,
        idle_cost=idle_cost,
        overhead=overhead,
        hourly_cost=np.broadcast_to(hourly_cost, shape),
        running_cost=work_cost + idle_cost + overhead + hourly_cost,
        capital=np.broadcast_to(population.capital_daily * present // a_day, shape),
        energy=ceil_div(machine_mj, MILLI),
        paid=paid.reshape(-1, shape[0]),
    )


def _busy_us(classes: Classes, population: Population, trades: Trades) -> Ints:
    """Microseconds that the whole site needs for each trade."""
    if trades.tokens_in is None:
        return np.asarray(trades.requests * classes.busy_us[trades.of_class, trades.site])
    size_in, size_out = trades.sizes(classes)
    both = (size_in, population.tokens_in_per_s), (size_out, population.tokens_out_per_s)
    return np.asarray(sum(ceil_div(size * MICRO, rate[trades.site]) for size, rate in both))


class Books:
    """Every account of the simulated economy as a Python int, so that no sum can wrap: together they hold nothing."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.clients = dict.fromkeys(names, 0)
        self.accounts = dict.fromkeys(ACCOUNTS, 0)
        self._totals = dict.fromkeys(("money", "tokens", "energy"), 0)

    def post(self, block: Block) -> None:
        """Enter a block: clients pay providers, providers pay for energy, overhead, presence and capital.

        Raises:
            ConfigurationError: totals that a column of 64-bit integers might not hold.
            RuleError: what clients paid in an epoch is not what sites earned.
        """
        revenue, costs, capital = self._totalled("money", block.revenue, block.running_cost, block.capital)
        self._totalled("tokens", block.tokens_in, block.tokens_out)
        self._totalled("energy", block.energy)
        if not np.array_equal(block.paid.sum(axis=0), block.revenue.sum(axis=1)):
            raise RuleError("an epoch's payments did not all arrive", code="conservation")
        for name, paid in zip(self.clients, block.paid, strict=True):
            self.clients[name] -= exact_sum(paid)
        self.accounts["providers"] += revenue - costs - capital
        self.accounts["suppliers"] += costs
        self.accounts["lenders"] += capital
        self.check()

    def move(self, source: str, to: str, amount: int) -> None:
        """Pay from one account to another."""
        self.accounts[source] -= amount
        self.accounts[to] += amount

    def check(self) -> None:
        """Raise `RuleError` unless what went in came out, to the unit."""
        missing = sum(self.clients.values()) + sum(self.accounts.values())
        if missing:
            raise RuleError(f"the books do not balance: {missing} micro-units too many", code="conservation")

    def _totalled(self, what: str, *figures: Ints) -> list[int]:
        """The sums of some figures; every sum over epochs, sites or classes of a run is at most that of all of them."""
        sums = [exact_sum(figure) for figure in figures]
        sizes = [exact_sum(np.abs(each)) if each.min() < 0 else own for each, own in zip(figures, sums, strict=True)]
        self._totals[what] += sum(sizes)
        if self._totals[what] >= LARGEST:
            raise ConfigurationError(
                f"the run's total of {what} outgrows 62-bit integers",
                hint="simulate fewer sites or hours, or smaller machines, requests or prices",
            )
        return sums


def cost(count_in: IntOrArray, count_out: IntOrArray, price_in: IntOrArray, price_out: IntOrArray) -> IntOrArray:
    """Micro-units that a site spends on so many tokens (or joules) at prices per million, rounded up once.

    No node reckons so: what a site spends is on no ledger. Below 0 where energy is.
    """
    return ceil_div(count_in * price_in + count_out * price_out, MICRO)


def _spent(count_in: Ints, count_out: Ints, price_in: Ints, price_out: Ints) -> Ints:
    if not (price_in.any() or price_out.any()) or not (count_in.any() or count_out.any()):
        return np.broadcast_to(_NOTHING, np.broadcast_shapes(count_in.shape, price_in.shape))
    _check_products(count_in, count_out, magnitude(price_in, price_out))
    return cost(count_in, count_out, price_in, price_out)


def _check_products(count_in: Ints, count_out: Ints, dearest: int) -> None:
    """Raise `ConfigurationError` where a count times the largest price might reach 2**60, which `amount` asks for."""
    if (magnitude(count_in) + magnitude(count_out)) * dearest >= LARGEST >> 2:
        raise ConfigurationError(
            "an epoch's amounts outgrow 60-bit integers", hint="lower prices or units per provider"
        )
