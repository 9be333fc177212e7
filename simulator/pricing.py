"""What sites ask in some epochs, and what energy costs them: `protocol.market.pricing` on arrays, by its kernels."""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.energy.tariff import (
    MAX_PRICE,
    ask_price,
    capital_price,
    energy_price,
    floor_price,
    followed_price,
)
from protocol.errors import ConfigurationError
from protocol.units import MICRO, IntOrArray, smaller
from simulator.exact import Ints, magnitude
from simulator.population import Population
from simulator.tables import Market

__all__ = ["Prices", "asks_of", "block_prices", "scaled_prices"]

_ONE_JOULE = np.array([1000], dtype=np.int64)  # in millijoules


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """(E, N) arrays, micro-units per million tokens (or joules); the overhead is one number."""

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

    def part(self, epochs: slice) -> Prices:
        """Of some epochs."""
        names = ("ask_in", "ask_out", "energy_in", "energy_out", "joule")
        return dataclasses.replace(self, **{name: getattr(self, name)[epochs] for name in names})


def asks_of(
    market: Market,
    millijoules: IntOrArray,
    pue: IntOrArray,
    per_kwh: IntOrArray,
    capital: IntOrArray,
    use: IntOrArray,
    median: IntOrArray | None = None,
) -> IntOrArray:
    """What a node with these settings asks per million tokens of one kind: `protocol.market.pricing.Pricing.quote`.

    Args:
        per_kwh: with carbon.
        capital: micro-units per million of these tokens that pay for the hardware at full demand.
        use: millionths of its time that the site is in use.
        median: of what all ask, with the margin policy `book`.
    """
    floor = floor_price(energy_price(millijoules, pue, per_kwh), market.overhead)
    if market.margin_policy == "book" and median is not None:
        return followed_price(median, market.undercut, floor)
    margin = market.margin * use // MICRO if market.margin_policy == "utilisation" else market.margin
    return ask_price(floor, margin, capital, use)


def block_prices(market: Market, population: Population, use: Ints, per_kwh: Ints) -> Prices:
    """Asks and energy prices of every site for some epochs.

    Args:
        use: (N,) millionths: the share of its time that each site has been in use, as its ask reads it.
        per_kwh: (E, N) micro-units per kWh, with carbon.

    Raises ConfigurationError: an ask beyond what an offer may say.
    """
    hourly = (population.hourly_cost + population.capital_daily // 24) // population.units
    capital_out = capital_price(hourly, population.unit_out_us, np.full_like(hourly, market.target_use))
    capital_in = capital_price(hourly, population.unit_in_us, np.full_like(hourly, market.target_use))
    capital_in = smaller(capital_in, capital_out)
    asks = []
    kinds = (population.joules_in, capital_in), (population.joules_out, capital_out)
    for (joules, capital), fixed in zip(kinds, population.fixed_asks, strict=True):
        seen = np.where(population.ignores_energy, 0, joules)
        ask = asks_of(market, seen, population.pue, per_kwh, capital, use)
        if market.margin_policy == "book":
            median = np.sort(ask, axis=1)[:, (ask.shape[1] - 1) // 2, None]
            ask = asks_of(market, seen, population.pue, per_kwh, capital, use, median)
        if fixed.any():
            ask = np.where(fixed > 0, fixed, ask)
        if magnitude(ask) > MAX_PRICE:
            raise ConfigurationError("an ask is beyond what an offer may say", hint="lower hourly_cost or tariffs")
        asks.append(ask)
    return Prices(
        ask_in=asks[0],
        ask_out=asks[1],
        energy_in=energy_price(population.joules_in, population.pue, per_kwh),
        energy_out=energy_price(population.joules_out, population.pue, per_kwh),
        joule=energy_price(_ONE_JOULE, population.pue, per_kwh),
        overhead=np.array([market.overhead], dtype=np.int64),
    )


def scaled_prices(prices: Prices, level: Ints) -> Prices:
    """The same costs, and asks that are `level` (N,) micro-units per million tokens, prompt and generated alike."""
    both = np.broadcast_to(level, prices.ask_in.shape)
    return dataclasses.replace(prices, ask_in=both, ask_out=both)
