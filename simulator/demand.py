"""How many requests of each class arrive in each hour, whom they may be sent to, and how they answer to prices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.draws import draws_for
from simulator.exact import Ints
from simulator.law import may_serve
from simulator.population import HOURS_A_DAY, HOURS_A_YEAR, Population
from simulator.scenario import Demand, Settings

__all__ = ["Classes", "draw_classes", "wanted"]

_HOURS_A_WEEK = 7 * HOURS_A_DAY
_MOST_REQUESTS = 10**12
_LARGEST_EXCESS = 1000 * MICRO  # millionths: keeps the product with an elasticity below 2**62


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Demand classes as arrays, C of them, N providers, T hours."""

    names: tuple[str, ...]
    tokens_in: Ints
    """(C,) prompt tokens of a request."""
    tokens_out: Ints
    """(C,) generated tokens of a request."""
    most_paid: Ints
    """(C,) the price cap of one request, in millionths of a micro-unit."""
    elasticity: Ints
    """(C,) millionths."""
    reference_price: Ints
    """(C,) micro-units per million tokens."""
    potential: Ints
    """(C, T) requests that arrive at the reference price."""
    lawful: np.ndarray[Any, np.dtype[np.bool_]]
    """(C, N) whether the provider's jurisdiction may serve the class."""
    busy_us: Ints
    """(C, N) microseconds that a site is busy with one request."""
    price_cap: Ints
    """(C,) micro-units per million tokens."""

    def turns(self, day: int) -> list[int]:
        """The order in which classes take capacity: the highest price cap first, equals by name and taking turns."""
        rotated = (np.arange(len(self.names)) + day) % len(self.names)
        return [int(c) for c in np.lexsort((rotated, -self.price_cap))]


def draw_classes(settings: Settings, population: Population) -> Classes:
    """The demand of a scenario, from its seed."""
    demands = list(settings.demand.values())
    tokens_in, tokens_out = _column(demands, "tokens_in"), _column(demands, "tokens_out")
    price_cap = _column(demands, "price_cap")
    places = [region.jurisdiction for region in settings.regions.values()]
    lawful = np.array([[may_serve(demand.allow, demand.deny, place) for place in places] for demand in demands])
    busy_us = -(-tokens_in[:, None] * MICRO // population.tokens_in_per_s) - (
        -tokens_out[:, None] * MICRO // population.tokens_out_per_s
    )
    return Classes(
        names=tuple(settings.demand),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        most_paid=price_cap * (tokens_in + tokens_out),
        elasticity=_column(demands, "elasticity"),
        reference_price=np.maximum(_column(demands, "reference_price"), 1),
        potential=np.stack([_arrivals(settings, name, demand) for name, demand in settings.demand.items()]),
        lawful=lawful[:, population.region],
        busy_us=busy_us,
        price_cap=price_cap,
    )


def wanted(classes: Classes, hours: slice, price: Ints) -> Ints:
    """(C, H) requests asked for in `hours`, when yesterday's mean price was `price` (C,), 0 where nothing was sold.

    Linear in the price: ``potential * (1 - elasticity * (price / reference - 1))``, from none to double.
    """
    known = np.where(price > 0, price, classes.reference_price)
    excess = (known - classes.reference_price) * MICRO // classes.reference_price
    excess = np.minimum(excess, _LARGEST_EXCESS)
    response = np.clip(MICRO - classes.elasticity * excess // MICRO, 0, 2 * MICRO)
    return np.asarray(classes.potential[:, hours] * response[:, None] // MICRO)


def _arrivals(settings: Settings, name: str, demand: Demand) -> Ints:
    hours = np.arange(settings.run.hours)
    local = (hours + demand.utc_offset) % _HOURS_A_WEEK
    day = 1 + demand.swing / MICRO * np.cos((local % HOURS_A_DAY - demand.peak_hour) * np.pi / 12)
    week = np.where(local >= 5 * HOURS_A_DAY, demand.weekend / MICRO, 1.0)
    growth = (1 + demand.growth / MICRO) ** (hours / HOURS_A_YEAR)
    noise = 1 + demand.noise / MICRO * draws_for(settings.run.seed, "demand", name).standard_normal(len(hours))
    mean = demand.requests_per_hour * day * week * growth * np.maximum(noise, 0)
    if float(mean.max()) > _MOST_REQUESTS:
        raise ConfigurationError(f"demand.{name} outgrows {_MOST_REQUESTS:,} requests an hour", hint="lower its growth")
    return np.rint(mean).astype(np.int64)


def _column(demands: list[Demand], field: str) -> Ints:
    return np.array([getattr(demand, field) for demand in demands], dtype=np.int64)
