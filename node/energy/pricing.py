"""What a node asks, and the floor below which it takes no job."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.errors import ConfigurationError, RefusedError
from protocol.messages import Leg
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
from protocol.units import format_micro

__all__ = ["Pricing", "Quote", "check_floor"]


@dataclass(frozen=True, slots=True)
class Quote:
    """Micro-units per million tokens, prompt and generated alike, for the whole span."""

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
    """Micro-units per million tokens that pay for the hardware when it is fully used."""
    least_floor: int | None = None
    """Micro-units per million tokens below which the floor never is; what stands in where energy is not known."""

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("PUE", self.pue_milli, ONE_PUE, MAX_PUE_MILLI),
            ("overhead", self.overhead, 0, MAX_PRICE),
            ("margin", self.margin_ppm, 0, MAX_MARGIN_PPM),
            ("capital price", self.capital, 0, MAX_PRICE),
            ("price floor", self.least_floor or 0, 0, MAX_PRICE),
        ):
            if not low <= value <= high:
                raise ConfigurationError(f"a {name} of {value} is outside {low} to {high}")

    def quote(self, millijoules_per_token: int | None, *, utilisation_ppm: int = 0) -> Quote:
        """The floor and the ask by the latest energy figure.

        Raises ConfigurationError: energy is not known and no floor is set, or the ask is beyond what an offer may say.
        """
        if millijoules_per_token is None and self.least_floor is None:
            raise ConfigurationError(
                "what a token costs in energy is not known here, so no price would be safe",
                hint="declare it with --joules-per-token, or set a price floor",
            )
        floor = self.least_floor or 0
        if millijoules_per_token is not None:
            energy = energy_price(millijoules_per_token, self.pue_milli, self.tariff.micro_per_kwh)
            floor = max(floor, floor_price(energy, self.overhead))
        ask = ask_price(floor, self.margin_ppm, self.capital, utilisation_ppm)
        if ask > MAX_PRICE:
            raise ConfigurationError(
                f"an ask of {format_micro(ask)} per 1M tokens is beyond what an offer may say",
                hint="look at the energy price, the PUE and the joules per token",
            )
        return Quote(floor, ask)


def check_floor(leg: Leg, floor: int) -> None:
    """Hold what a session pays against the floor of now. Raises RefusedError with the code ``below-floor``."""
    paid = min(leg.price_in, leg.price_out)
    if paid < floor:
        raise RefusedError(
            f"the session pays {format_micro(paid)} per 1M tokens, below the {format_micro(floor)} that they cost here",
            code="below-floor",
            hint="route again: this node's offer has changed",
        )
