"""What providers ask in some hours, and what energy costs them, by the kernels that a node prices its offer with."""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.tariff import ask_price, energy_price, floor_price
from protocol.units import MICRO, IntOrArray
from simulator.exact import Ints
from simulator.population import SECONDS_AN_HOUR, Population
from simulator.scenario import Market

__all__ = ["Prices", "capital_price", "hour_prices"]


_ONE_JOULE = np.array([1000], dtype=np.int64)  # in millijoules


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """(H, N) arrays, micro-units per million tokens (or joules); the overhead is one number."""

    ask_in: Ints
    ask_out: Ints
    energy_in: Ints
    """Energy of a million prompt tokens."""
    energy_out: Ints
    """Energy of a million generated tokens."""
    joule: Ints
    """A million joules at the machine: waiting is metered as if each joule were a token of one joule."""
    overhead: Ints
    """What a million tokens cost besides energy and presence."""


def hour_prices(market: Market, population: Population, use: Ints, tariff: Ints) -> Prices:
    """Asks and energy prices of every provider for some hours.

    Args:
        use: (N,) millionths: the share of its time that each provider has been in use, as its ask reads it.
        tariff: (H, N) micro-units per kWh.
    """
    energy_in = energy_price(population.joules_in, population.pue, tariff)
    energy_out = energy_price(population.joules_out, population.pue, tariff)
    capital_in = capital_price(market.target_use, population.hourly_cost, population.tokens_in_per_s)
    capital_out = capital_price(market.target_use, population.hourly_cost, population.tokens_out_per_s)
    return Prices(
        ask_in=_ask(market, energy_in, capital_in, use),
        ask_out=_ask(market, energy_out, capital_out, use),
        energy_in=energy_in,
        energy_out=energy_out,
        joule=energy_price(_ONE_JOULE, population.pue, tariff),
        overhead=np.array([market.overhead], dtype=np.int64),
    )


def capital_price(target_use: int, hourly_cost: IntOrArray, tokens_per_s: IntOrArray) -> IntOrArray:
    """Micro-units per million tokens that a site adds for its hourly cost when all of its time is in use.

    A site in use for `target_use` of its time adds that share of this to its asks, on that share of its tokens; the
    price is such that it then earns just its hourly cost.
    """
    at_full_use = hourly_cost * MICRO // (tokens_per_s * SECONDS_AN_HOUR)
    return at_full_use * MICRO // target_use * MICRO // target_use


def _ask(market: Market, energy: Ints, capital: Ints, use: Ints) -> Ints:
    return ask_price(floor_price(energy, market.overhead), market.margin, capital, use)
