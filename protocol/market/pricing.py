"""What a node asks, and the floor below which it offers nothing: from what its operator sets and what it measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from protocol.energy.tariff import (
    MAX_CARBON_G_PER_KWH,
    MAX_CARBON_PRICE,
    MAX_HARDWARE_PRICE,
    MAX_MARGIN_PPM,
    MAX_PRICE,
    MAX_PUE_MILLI,
    MAX_TARIFF,
    ONE_PUE,
    ask_price,
    capital_price,
    carbon_cost,
    energy_price,
    floor_price,
    followed_price,
    sustain_price,
)
from protocol.errors import ConfigurationError
from protocol.market.offer import MAX_DURATION_US
from protocol.market.rates import Rates
from protocol.units import MICRO, ceil_div, format_micro

__all__ = ["Comparable", "Costs", "MarginPolicy", "Pricing", "Quote", "Supply", "late_after", "median_of"]

LATE_FACTOR = 10
"""A token that takes so many times what it takes alone is late; a node may offer otherwise."""
LATE_LEAST_US = 250_000
"""Likewise, and none is late before."""


def late_after(position_us: int) -> int:
    """Microseconds after which a node says that a generated token is late."""
    return min(MAX_DURATION_US, max(LATE_LEAST_US, LATE_FACTOR * position_us))


class MarginPolicy(StrEnum):
    """What a node asks above its floor."""

    FIXED = "fixed"
    """The margin, and capital as far as the machine is in demand."""
    UTILISATION = "utilisation"
    """The margin, too, as far as the machine is in demand: an idle one asks its floor."""
    BOOK = "book"
    """Just below the median of what others ask for the same; as `FIXED` where there is nothing to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a prompt and a generated token take through the whole span, in a session alone."""

    millijoules_in: int
    millijoules_out: int
    prompt_us: int
    position_us: int


@dataclass(frozen=True, slots=True)
class Supply:
    """What a site's power is at one time. Raises ConfigurationError for values out of range."""

    micro_per_kwh: int
    """Micro-units per kWh at the meter; below 0 where consumption is paid."""
    pue_milli: int = ONE_PUE
    carbon_g_per_kwh: int | None = None
    """Grams of CO2 equivalent; None when unknown."""

    def __post_init__(self) -> None:
        if not -MAX_TARIFF <= self.micro_per_kwh <= MAX_TARIFF:
            raise ConfigurationError(
                f"an energy price of {format_micro(self.micro_per_kwh)} per kWh is beyond {MAX_TARIFF // MICRO}",
                hint="give it per kWh, like 0.08: is a price per MWh, or in cents, among what it is made of?",
            )
        if not ONE_PUE <= self.pue_milli <= MAX_PUE_MILLI:
            raise ConfigurationError(f"a PUE of {self.pue_milli / 1000} is outside 1 to {MAX_PUE_MILLI // 1000}")
        if self.carbon_g_per_kwh is not None and not 0 <= self.carbon_g_per_kwh <= MAX_CARBON_G_PER_KWH:
            raise ConfigurationError(f"{self.carbon_g_per_kwh} g of CO2 per kWh is outside 0 to {MAX_CARBON_G_PER_KWH}")


@dataclass(frozen=True, slots=True)
class Quote:
    """Micro-units per million tokens of one kind, for the whole span."""

    floor: int
    """Below it, work loses money."""
    sustain: int
    """At or above it, work pays for the hardware, too."""
    ask: int
    """At or above `floor`."""


@dataclass(frozen=True, slots=True)
class Comparable:
    """What others ask for the same work, scaled to this node's blocks: medians, in micro-units per million tokens."""

    price_in: int
    price_out: int


def median_of(values: Sequence[int]) -> int | None:
    """The lower median; None of nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """What a node's operator sets. Raises ConfigurationError for values out of range."""

    overhead: int = 0
    """Micro-units per million tokens that work costs besides energy."""
    margin_ppm: int = 0
    """Profit on the floor, in millionths."""
    policy: MarginPolicy = MarginPolicy.FIXED
    undercut_ppm: int = 0
    """By how much to stay below the median of others, in millionths, with `MarginPolicy.BOOK`."""
    capital: int = 0
    """Micro-units per million generated tokens that pay for the hardware when it is fully used; prompt tokens pay as
    much less as they take less time."""
    hardware: int | None = None
    """Micro-units per hour that the hardware costs; None to go by `capital`."""
    target_ppm: int = MICRO
    """Share of the time for which `hardware` has to be paid by work, in millionths."""
    carbon: int = 0
    """Micro-units that a tonne of CO2 costs, whoever pays for it."""
    opening: int = 0
    """Micro-units for taking a job."""
    cached_ppm: int = 100_000
    """Share of a prompt token's price that one still in the KV costs, in millionths."""
    late_discount_ppm: int = 0
    """By how much a generated token that came late is cheaper, in millionths."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("overhead", self.overhead, 0, MAX_PRICE),
            ("margin", self.margin_ppm, 0, MAX_MARGIN_PPM),
            ("undercut", self.undercut_ppm, 0, MICRO),
            ("capital price", self.capital, 0, MAX_PRICE),
            ("price of hardware", self.hardware or 0, 0, MAX_HARDWARE_PRICE),
            ("target use", self.target_ppm, 1, MICRO),
            ("price of carbon", self.carbon, 0, MAX_CARBON_PRICE),
            ("opening charge", self.opening, 0, MAX_PRICE),
            ("share for cached tokens", self.cached_ppm, 0, MICRO),
            ("discount for late tokens", self.late_discount_ppm, 0, MICRO),
        ):
            if not low <= value <= high:
                raise ConfigurationError(f"a {name} of {value} is outside {low} to {high}")

    def quote(
        self,
        supply: Supply,
        millijoules: int,
        *,
        capital: int,
        utilisation_ppm: int = 0,
        median: int | None = None,
    ) -> Quote:
        """The floor and the ask for tokens of which each takes so many millijoules.

        Args:
            capital: micro-units per million of these tokens that pay for the hardware at full demand.
            median: of what others ask for such tokens; None where nobody does.

        Raises ConfigurationError: the ask is beyond what an offer may say, or carbon is to be paid for and not known.
        """
        energy = energy_price(millijoules, supply.pue_milli, self.per_kwh(supply))
        floor = floor_price(energy, self.overhead)
        margin = self.margin_ppm
        if self.policy is MarginPolicy.UTILISATION:
            margin = margin * utilisation_ppm // MICRO
        ask = ask_price(floor, margin, capital, utilisation_ppm)
        if self.policy is MarginPolicy.BOOK and median is not None:
            ask = followed_price(median, self.undercut_ppm, floor)
        if ask > MAX_PRICE:
            raise ConfigurationError(
                f"an ask of {format_micro(ask)} per 1M tokens is beyond what an offer may say",
                hint="look at the energy price, the PUE and the joules per token",
            )
        return Quote(floor, sustain_price(floor, capital), ask)

    def per_kwh(self, supply: Supply) -> int:
        """What a kWh costs with its carbon. Raises ConfigurationError: that is to be paid for, and not known."""
        if not self.carbon:
            return supply.micro_per_kwh
        if supply.carbon_g_per_kwh is None:
            raise ConfigurationError(
                "carbon has a price here, and the carbon of this site's power is not known",
                hint="say it with --carbon-g-per-kwh, or under [carbon] in the tariff",
            )
        return min(MAX_TARIFF, supply.micro_per_kwh + carbon_cost(supply.carbon_g_per_kwh, self.carbon))

    def quotes(
        self, supply: Supply, costs: Costs, *, utilisation_ppm: int = 0, others: Comparable | None = None
    ) -> tuple[Quote, Quote]:
        """Of a prompt token and of a generated one, for the whole span. Raises ConfigurationError as `quote`."""
        capital_in, capital_out = self._capital(costs)
        return (
            self.quote(
                supply,
                costs.millijoules_in,
                capital=capital_in,
                utilisation_ppm=utilisation_ppm,
                median=None if others is None else others.price_in,
            ),
            self.quote(
                supply,
                costs.millijoules_out,
                capital=capital_out,
                utilisation_ppm=utilisation_ppm,
                median=None if others is None else others.price_out,
            ),
        )

    def _capital(self, costs: Costs) -> tuple[int, int]:
        if self.hardware is not None:
            of_prompt = capital_price(self.hardware, costs.prompt_us, self.target_ppm)
            of_generated = capital_price(self.hardware, costs.position_us, self.target_ppm)
            return min(of_prompt, of_generated), of_generated
        return min(self.capital, ceil_div(self.capital * costs.prompt_us, costs.position_us)), self.capital

    def rates(
        self, supply: Supply, costs: Costs, *, utilisation_ppm: int = 0, others: Comparable | None = None
    ) -> Rates:
        """What to ask for the whole span. Raises ConfigurationError as `quote`."""
        prompt, generated = self.quotes(supply, costs, utilisation_ppm=utilisation_ppm, others=others)
        return Rates(
            opening=self.opening,
            price_in=prompt.ask,
            price_out=generated.ask,
            price_cached=ceil_div(prompt.ask * self.cached_ppm, MICRO),
            price_rejected=0,
            late_discount_ppm=self.late_discount_ppm,
        )
