"""Money for what was served, by the amount kernel, what it cost, and the books that must balance to the unit.

Each class has one session a day and hour with each provider that serves it, at the price asked in that hour; what is
paid follows from the session's cumulative counts, as a voucher's amount does. Arrays are (hours, providers).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.errors import ConfigurationError, RuleError
from protocol.metering import amount
from protocol.units import MICRO, IntOrArray, ceil_div
from simulator.clearing import HOUR_US
from simulator.demand import Classes
from simulator.exact import LARGEST, Ints, exact_sum, magnitude
from simulator.population import Population
from simulator.pricing import Prices
from simulator.scenario import MILLI

__all__ = ["Books", "Day", "cost", "settle"]

_NOTHING = np.zeros(1, dtype=np.int64)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What happened in some hours. Money in micro-units, energy in millijoules at the meter."""

    tokens_in: Ints
    """(H, N)"""
    tokens_out: Ints
    """(H, N)"""
    busy_us: Ints
    """(H, N)"""
    revenue: Ints
    """(H, N) what clients paid."""
    work_cost: Ints
    """(H, N) energy spent on tokens."""
    idle_cost: Ints
    """(H, N) energy spent waiting."""
    overhead: Ints
    """(H, N) what each token costs besides energy."""
    hourly_cost: Ints
    """(H, N) what presence costs besides energy."""
    energy: Ints
    """(H, N) millijoules at the meter, waiting included."""
    paid: Ints
    """(C, H) what each class paid."""

    @property
    def profit(self) -> Ints:
        """(H, N) revenue less all costs."""
        return self.revenue - self.work_cost - self.idle_cost - self.overhead - self.hourly_cost


def settle(classes: Classes, population: Population, present: Ints, served: Ints, prices: Prices) -> Day:
    """Pay for `served` (C, H, N) requests at `prices`, and charge every provider that is `present` its costs.

    Raises:
        ConfigurationError: an amount beyond what 62 bits hold.
    """
    tokens_in, tokens_out = np.zeros(served.shape[1:], np.int64), np.zeros(served.shape[1:], np.int64)
    busy_us, revenue, paid = np.zeros_like(tokens_in), np.zeros_like(tokens_in), []
    dearest_ask = magnitude(prices.ask_in, prices.ask_out)
    for c, requests in enumerate(served):
        session_in, session_out = requests * classes.tokens_in[c], requests * classes.tokens_out[c]
        _check_products(session_in, session_out, dearest_ask)
        earned = amount(session_in, session_out, prices.ask_in, prices.ask_out)
        paid.append(earned.sum(axis=1))
        revenue += earned
        tokens_in += session_in
        tokens_out += session_out
        busy_us += requests * classes.busy_us[c]
    idle_mj = (HOUR_US * present - busy_us) * population.idle_watts // MILLI  # a watt for a microsecond is a microjoule
    idle_j = idle_mj // MILLI
    machine_mj = tokens_in * population.joules_in + tokens_out * population.joules_out + idle_mj
    return Day(
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        busy_us=busy_us,
        revenue=revenue,
        work_cost=_spent(tokens_in, tokens_out, prices.energy_in, prices.energy_out),
        idle_cost=_spent(idle_j, _NOTHING, prices.joule, prices.joule),
        overhead=_spent(tokens_in, tokens_out, prices.overhead, prices.overhead),
        hourly_cost=np.broadcast_to(population.hourly_cost * present, revenue.shape),
        energy=ceil_div(machine_mj * population.pue, MILLI),
        paid=np.stack(paid),
    )


class Books:
    """Every account of the simulated economy as a Python int, so that no sum can wrap: together they hold nothing."""

    def __init__(self, classes: Classes) -> None:
        self._names = classes.names
        self.clients = dict.fromkeys(classes.names, 0)
        self.providers = 0
        self.suppliers = 0
        self._totals = dict.fromkeys(("money", "tokens", "energy"), 0)

    def post(self, day: Day) -> None:
        """Enter a day: clients pay providers, providers pay for energy, overhead and presence.

        Raises:
            ConfigurationError: totals that a column of 64-bit integers might not hold.
        """
        costs = day.work_cost + day.idle_cost + day.overhead + day.hourly_cost
        self._check_total("money", day.revenue, costs)
        self._check_total("tokens", day.tokens_in, day.tokens_out)
        self._check_total("energy", day.energy)
        for name, paid in zip(self._names, day.paid, strict=True):
            self.clients[name] -= exact_sum(paid)
        self.providers += exact_sum(day.profit)
        self.suppliers += exact_sum(costs)

    def check(self) -> None:
        """Raise `RuleError` unless what went in came out, to the unit."""
        missing = sum(self.clients.values()) + self.providers + self.suppliers
        if missing:
            raise RuleError(f"the books do not balance: {missing} micro-units too many", code="conservation")

    def _check_total(self, what: str, *figures: Ints) -> None:
        """Every sum over some hours, providers or classes of a run is at most this one."""
        self._totals[what] += sum(exact_sum(np.abs(figure)) for figure in figures)
        if self._totals[what] >= LARGEST:
            raise ConfigurationError(
                f"the run's total of {what} outgrows 62-bit integers",
                hint="simulate fewer providers or hours, or smaller machines, requests or prices",
            )


def cost(count_in: IntOrArray, count_out: IntOrArray, price_in: IntOrArray, price_out: IntOrArray) -> IntOrArray:
    """Micro-units that a provider spends on so many tokens (or joules) at prices per million, rounded up once.

    No node reckons so: what a provider spends is on no ledger. Below 0 where energy is.
    """
    return ceil_div(count_in * price_in + count_out * price_out, MICRO)


def _spent(count_in: Ints, count_out: Ints, price_in: Ints, price_out: Ints) -> Ints:
    _check_products(count_in, count_out, magnitude(price_in, price_out))
    return cost(count_in, count_out, price_in, price_out)


def _check_products(count_in: Ints, count_out: Ints, dearest: int) -> None:
    """Raise `ConfigurationError` where a count times the largest price might reach 2**60, which `amount` asks for."""
    if (magnitude(count_in) + magnitude(count_out)) * dearest >= LARGEST >> 2:
        raise ConfigurationError("an hour's amounts outgrow 60-bit integers", hint="lower prices or units per provider")
