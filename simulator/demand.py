"""How many requests of each class arrive in each epoch, where they may be sent, and how they answer to prices."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from protocol.geography.distances import LIGHT_M_PER_S, distance_m
from protocol.units import MICRO, ceil_div
from simulator.draws import draws_for
from simulator.exact import LARGEST, Ints, magnitude
from simulator.happenings import factors
from simulator.law import lawful
from simulator.population import Population
from simulator.replay.trace import arrivals_an_hour
from simulator.scenario import Settings
from simulator.series import spread_over
from simulator.tables import MILLI, Demand
from simulator.timeline import HOURS_A_DAY, HOURS_A_YEAR, Timeline

__all__ = ["Classes", "draw_classes", "response"]

_MOST_REQUESTS = 10**12
_LARGEST_EXCESS = 1000 * MICRO  # millionths: keeps the product with an elasticity below 2**62


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Demand classes as arrays, C of them, N sites, T epochs, R regions."""

    names: tuple[str, ...]
    tokens_in: Ints
    """(C,) prompt tokens of a request."""
    tokens_out: Ints
    """(C,) generated tokens of a request."""
    price_cap: Ints
    """(C,) micro-units per million tokens."""
    elasticity: Ints
    """(C,) millionths."""
    reference_price: Ints
    """(C,) micro-units per million tokens."""
    potential: Ints
    """(C, T) requests that arrive at the reference price."""
    lawful: np.ndarray[Any, np.dtype[np.bool_]]
    """(C, N) whether the law, its latency class and its reach let a site serve the class."""
    busy_us: Ints
    """(C, N) microseconds that a site is busy with one request."""
    round_trip_us: Ints
    """(C, R)"""
    rank_extra: Ints
    """(C, N) millionths of a micro-unit by which a request's quote counts for more, for its way there."""
    defer_epochs: Ints
    """(C,) epochs for which a request may wait."""

    @property
    def tokens(self) -> Ints:
        """(C,) of a request."""
        return self.tokens_in + self.tokens_out

    @property
    def most_paid(self) -> Ints:
        """(C,) the price cap of one request, in millionths of a micro-unit."""
        return self.price_cap * self.tokens


def draw_classes(settings: Settings, timeline: Timeline, population: Population) -> Classes:
    """The demand of a scenario, from its seed. Raises ConfigurationError for requests out of all bounds."""
    demands = list(settings.demand.values())
    tokens_in, tokens_out = _column(demands, "tokens_in"), _column(demands, "tokens_out")
    price_cap = _column(demands, "price_cap")
    busy_us = ceil_div(tokens_in[:, None] * MICRO, population.tokens_in_per_s) + ceil_div(
        tokens_out[:, None] * MICRO, population.tokens_out_per_s
    )
    if magnitude(price_cap) * magnitude(tokens_in + tokens_out) >= LARGEST:
        raise ConfigurationError("a request's price cap outgrows 62-bit integers", hint="lower price_cap or its tokens")
    round_trip_us = _round_trips(settings)
    delay = settings.market.delay_cost * ceil_div(round_trip_us, MILLI) * (tokens_in + tokens_out)[:, None]
    may = lawful(settings, population.region, population.hardware)
    reach = np.array([each.max_round_trip_ms * MILLI for each in demands])[:, None]
    may &= ((reach == 0) | (round_trip_us <= reach))[:, population.region]
    up = factors(settings, timeline, "demand", list(settings.demand))
    arrivals = [_arrivals(settings, timeline, name, up[at]) for at, name in enumerate(settings.demand)]
    return Classes(
        names=tuple(settings.demand),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        price_cap=price_cap,
        elasticity=_column(demands, "elasticity"),
        reference_price=np.maximum(_column(demands, "reference_price"), 1),
        potential=np.stack(arrivals),
        lawful=may,
        busy_us=busy_us,
        round_trip_us=round_trip_us,
        rank_extra=delay[:, population.region],
        defer_epochs=_column(demands, "defer_hours") * timeline.per_hour,
    )


def response(classes: Classes, price: Ints) -> Ints:
    """(C, ...) millionths of its potential that each class asks for at a price; 0: as at its reference.

    Linear in the price: ``1 - elasticity * (price / reference - 1)``, from none to double.
    """
    shape = (-1,) + (1,) * (price.ndim - 1)
    reference, elasticity = classes.reference_price.reshape(shape), classes.elasticity.reshape(shape)
    known = np.where(price > 0, price, reference)
    excess = np.minimum((known - reference) * MICRO // reference, _LARGEST_EXCESS)
    return np.asarray(np.clip(MICRO - elasticity * excess // MICRO, 0, 2 * MICRO))


def _round_trips(settings: Settings) -> Ints:
    """(C, R) microseconds of light in fibre that is longer than the great circle by `stretch`."""
    rows = []
    for demand in settings.demand.values():
        here = demand.latitude / MICRO, demand.longitude / MICRO
        metres = [
            distance_m(here, (region.latitude / MICRO, region.longitude / MICRO))
            for region in settings.regions.values()
        ]
        rows.append([each * settings.market.stretch * 3000 // LIGHT_M_PER_S for each in metres])
    return np.array(rows, dtype=np.int64)


def _arrivals(settings: Settings, timeline: Timeline, name: str, up: Ints) -> Ints:
    demand = settings.demand[name]
    if settings.trace is not None and name in settings.trace.classes:
        hourly = arrivals_an_hour(settings.trace, name, timeline).astype(float)
    elif demand.series:
        numbers = settings.series[demand.series]
        hourly = spread_over(numbers, timeline.epochs, timeline.epoch_minutes, timeline.first) / MICRO
    else:
        day = 1 + demand.swing / MICRO * np.cos(
            (timeline.local_hour(demand.utc_offset) - demand.peak_hour) * np.pi / 12
        )
        weekend = timeline.hour_of_week(demand.utc_offset) >= 5 * HOURS_A_DAY
        hourly = demand.requests_per_hour * day * np.where(weekend, demand.weekend / MICRO, 1.0)
    mean = hourly * (1 + demand.growth / MICRO) ** (np.maximum(timeline.hours, 0) / HOURS_A_YEAR)
    mean = mean * np.maximum(1 + demand.noise / MICRO * _noise(settings, timeline, name), 0) * (up / MICRO)
    if not 0 <= float(mean.min()) <= float(mean.max()) <= _MOST_REQUESTS:
        raise ConfigurationError(
            f"demand.{name} is below 0 or outgrows {_MOST_REQUESTS:,} requests an hour", hint="lower its growth"
        )
    # What is rounded off in one epoch comes in the next: so short epochs lose nothing.
    whole = np.rint(np.cumsum(mean / timeline.per_hour)).astype(np.int64)
    return np.asarray(np.diff(whole, prepend=0), dtype=np.int64)


def _noise(settings: Settings, timeline: Timeline, name: str) -> Any:
    seed = settings.run.seed
    before = draws_for(seed, "demand before", name).standard_normal(timeline.before)
    return np.concatenate([before, draws_for(seed, "demand", name).standard_normal(timeline.epochs - timeline.before)])


def _column(demands: list[Demand], field: str) -> Ints:
    return np.array([getattr(demand, field) for demand in demands], dtype=np.int64)
