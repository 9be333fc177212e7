"""What a node asks, and the floor below which it offers nothing: from what its operator sets and what it measured."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import ConfigurationError
from protocol.rates import Rates
from protocol.tariff import (
    MAX_MARGIN_PPM,
    MAX_PRICE,
    MAX_PUE_MILLI,
    ONE_PUE,
    FlatTariff,
    ask_price,
    energy_price,
    floor_price,
)
from protocol.units import MICRO, ceil_div, format_micro

__all__ = ["Costs", "Pricing", "Quote"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a prompt and a generated token take through the whole span, in a session alone."""

    millijoules_in: int
    millijoules_out: int
    prompt_us: int
    position_us: int


@dataclass(frozen=True, slots=True)
class Quote:
    """Micro-units per million tokens of one kind, for the whole span."""

    floor: int
    """Below it, work loses money."""
    ask: int
    """At or above `floor`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """What a node's operator sets. Raises ConfigurationError for values out of range."""

    tariff: FlatTariff
    pue_milli: int = ONE_PUE
    overhead: int = 0
    """Micro-units per million tokens that work costs besides energy."""
    margin_ppm: int = 0
    """Profit on the floor, in millionths."""
    capital: int = 0
    """Micro-units per million generated tokens that pay for the hardware when it is fully used; prompt tokens pay as
    much less as they take less time."""
    opening: int = 0
    """Micro-units for taking a job."""
    cached_ppm: int = 100_000
    """Share of a prompt token's price that one still in the KV costs, in millionths."""
    late_discount_ppm: int = 0
    """By how much a generated token that came late is cheaper, in millionths."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("PUE", self.pue_milli, ONE_PUE, MAX_PUE_MILLI),
            ("overhead", self.overhead, 0, MAX_PRICE),
            ("margin", self.margin_ppm, 0, MAX_MARGIN_PPM),
            ("capital price", self.capital, 0, MAX_PRICE),
            ("opening charge", self.opening, 0, MAX_PRICE),
            ("share for cached tokens", self.cached_ppm, 0, MICRO),
            ("discount for late tokens", self.late_discount_ppm, 0, MICRO),
        ):
            if not low <= value <= high:
                raise ConfigurationError(f"a {name} of {value} is outside {low} to {high}")

    def quote(self, millijoules: int, *, capital: int, utilisation_ppm: int = 0) -> Quote:
        """The floor and the ask for tokens of which each takes so many millijoules.

        Raises ConfigurationError: the ask is beyond what an offer may say.
        """
        energy = energy_price(millijoules, self.pue_milli, self.tariff.micro_per_kwh)
        floor = floor_price(energy, self.overhead)
        ask = ask_price(floor, self.margin_ppm, capital, utilisation_ppm)
        if ask > MAX_PRICE:
            raise ConfigurationError(
                f"an ask of {format_micro(ask)} per 1M tokens is beyond what an offer may say",
                hint="look at the energy price, the PUE and the joules per token",
            )
        return Quote(floor, ask)

    def rates(self, costs: Costs, *, utilisation_ppm: int = 0) -> Rates:
        """What to ask for the whole span. Raises ConfigurationError as `quote`."""
        capital_in = min(self.capital, ceil_div(self.capital * costs.prompt_us, costs.position_us))
        prompt = self.quote(costs.millijoules_in, capital=capital_in, utilisation_ppm=utilisation_ppm)
        generated = self.quote(costs.millijoules_out, capital=self.capital, utilisation_ppm=utilisation_ppm)
        return Rates(
            opening=self.opening,
            price_in=prompt.ask,
            price_out=generated.ask,
            price_cached=ceil_div(prompt.ask * self.cached_ppm, MICRO),
            price_rejected=0,
            late_discount_ppm=self.late_discount_ppm,
        )
