"""Money for what was served, by the amount kernel, and the books that must balance to the unit.

Each class has one session a day and hour with each provider that serves it, at the price asked in that hour; what is
paid follows from the session's cumulative counts, as a voucher's amount does. Arrays are (hours, providers).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.errors import ConfigurationError, RuleError
from protocol.metering import amount
from protocol.units import ceil_div
from simulator.clearing import HOUR_US
from simulator.demand import Classes
from simulator.population import Ints, Population
from simulator.pricing import Prices
from simulator.scenario import MILLI

__all__ = ["Books", "Day", "settle"]

_LARGEST = 2**62
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
    dearest_ask, dearest_joules = _largest(prices.ask_in, prices.ask_out), _largest(prices.energy_in, prices.energy_out)
    for c, requests in enumerate(served):
        session_in, session_out = requests * classes.tokens_in[c], requests * classes.tokens_out[c]
        earned = _charge(session_in, session_out, prices.ask_in, prices.ask_out, dearest_ask)
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
        work_cost=_charge(tokens_in, tokens_out, prices.energy_in, prices.energy_out, dearest_joules),
        idle_cost=_charge(idle_j, _NOTHING, prices.joule, prices.joule, _largest(prices.joule)),
        overhead=_charge(tokens_in, tokens_out, prices.overhead, prices.overhead, _largest(prices.overhead)),
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
        self._turnover = 0.0
        self._energy = 0.0

    def post(self, day: Day) -> None:
        """Enter a day: clients pay providers, providers pay for energy, overhead and presence.

        Raises:
            ConfigurationError: totals that a column of 64-bit integers might not hold.
        """
        for name, paid in zip(self._names, day.paid.sum(axis=1).tolist(), strict=True):
            self.clients[name] -= paid
        self.providers += int(day.profit.sum(axis=0).sum())
        costs = day.work_cost + day.idle_cost + day.overhead + day.hourly_cost
        self.suppliers += int(costs.sum())
        self._turnover += sum(float(np.abs(figure).sum(dtype=np.float64)) for figure in (day.revenue, costs))
        self._energy += float(day.energy.sum(dtype=np.float64))
        if max(self._turnover, self._energy) >= _LARGEST:
            raise ConfigurationError("the run's totals outgrow 62-bit integers", hint="fewer providers or hours")

    def check(self) -> None:
        """Raise `RuleError` unless what went in came out, to the unit."""
        missing = sum(self.clients.values()) + self.providers + self.suppliers
        if missing:
            raise RuleError(f"the books do not balance: {missing} micro-units too many", code="conservation")


def _charge(tokens_in: Ints, tokens_out: Ints, price_in: Ints, price_out: Ints, dearest: int) -> Ints:
    """`amount`, once it is sure that no product reaches 2**62; `dearest` is the largest of the prices."""
    if (int(tokens_in.max()) + int(tokens_out.max())) * dearest >= _LARGEST:
        raise ConfigurationError("an hour's amounts outgrow 62-bit integers", hint="lower prices or units per provider")
    return amount(tokens_in, tokens_out, price_in, price_out)


def _largest(*prices: Ints) -> int:
    """The largest magnitude in any of the arrays."""
    return max(abs(int(bound)) for price in prices for bound in (price.min(), price.max()))
