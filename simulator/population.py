"""Who could provide, and what energy costs where they are: one array element for each provider, drawn once.

Providers are ordered by region, so that sums over a region are sums over a slice. Nothing here changes during a run.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from protocol.tariff import MAX_TARIFF
from protocol.units import MICRO
from simulator.draws import draws_for
from simulator.exact import Ints, magnitude
from simulator.scenario import MILLI, Region, Settings

__all__ = ["HOURS_A_DAY", "HOURS_A_YEAR", "SECONDS_AN_HOUR", "Population", "draw_population", "tariffs"]

HOURS_A_DAY = 24
SECONDS_AN_HOUR = 3600
HOURS_A_YEAR = 8760
_MOST_WATTS = 100_000_000
_MOST_COST = 2_500_000_000  # micro-units per million tokens, so that no ask exceeds protocol.tariff.MAX_PRICE
_NOISE_MEMORY = 0.97  # of the noise is still there an hour later: it comes and goes over about a day and a half


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Arrays of length N, one element for each provider."""

    region: Ints
    """Index into the scenario's regions, ascending."""
    hardware: Ints
    """Index into the scenario's hardware."""
    units: Ints
    """Machines at the site."""
    pue: Ints
    """Thousandths."""
    joules_in: Ints
    """Millijoules per prompt token, at the machine."""
    joules_out: Ints
    """Millijoules per generated token, at the machine."""
    tokens_in_per_s: Ints
    """Of the whole site."""
    tokens_out_per_s: Ints
    """Of the whole site."""
    idle_watts: Ints
    """Of the whole site."""
    hourly_cost: Ints
    """Micro-units per hour, of the whole site."""

    def __len__(self) -> int:
        return len(self.region)


def draw_population(settings: Settings) -> Population:
    """The providers of a scenario, from its seed. Raises ConfigurationError for sites out of all bounds."""
    run, kinds, regions = settings.run, list(settings.hardware.values()), list(settings.regions.values())
    region = np.sort(_draw_by_share(settings, "region", [place.share for place in regions]))
    hardware = _draw_by_share(settings, "hardware", [kind.share for kind in kinds])
    lot = draws_for(run.seed, "population", "units").random(run.providers)
    units = 1 + np.floor(lot * _pick(kinds, "most_units", hardware)).astype(np.int64)
    lot = draws_for(run.seed, "population", "pue").random(run.providers)
    pue = _pick(regions, "pue", region) + np.floor(lot * (_pick(regions, "pue_spread", region) + 1)).astype(np.int64)
    joules = _spread(settings, "joules", _pick(kinds, "joules_spread", hardware))
    cost = _spread(settings, "cost", _pick(kinds, "cost_spread", hardware))
    people = Population(
        region=region,
        hardware=hardware,
        units=units,
        pue=pue,
        joules_in=np.rint(_pick(kinds, "joules_in", hardware) * joules).astype(np.int64),
        joules_out=np.rint(_pick(kinds, "joules_out", hardware) * joules).astype(np.int64),
        tokens_in_per_s=_pick(kinds, "tokens_in_per_s", hardware) * units,
        tokens_out_per_s=_pick(kinds, "tokens_out_per_s", hardware) * units,
        idle_watts=_pick(kinds, "idle_watts", hardware) * units,
        hourly_cost=np.rint(_pick(kinds, "hourly_cost", hardware) * cost).astype(np.int64) * units,
    )
    _check_bounds(people)
    return people


def tariffs(settings: Settings) -> Ints:
    """Micro-units per kWh, shape (regions, hours). Only `spot` tariffs go below 0.

    Raises:
        ConfigurationError: beyond what a tariff may be.
    """
    hours, scale = np.arange(settings.run.hours), settings.market.energy_scale
    rows = []
    for name, region in settings.regions.items():
        course = _shape(region, (hours + region.utc_offset) % HOURS_A_DAY, hours % HOURS_A_YEAR)
        course = course + region.noise / MICRO * _slow_noise(settings, name)
        price = np.rint(course * region.energy_price).astype(np.int64) * scale // MILLI
        rows.append(price if region.shape == "spot" else np.maximum(price, 0))
    if magnitude(*rows) > MAX_TARIFF:
        raise ConfigurationError("an hour's tariff is out of range", hint="lower energy_price, noise or energy_scale")
    return np.stack(rows)


def _shape(region: Region, local_hour: Ints, hour_of_year: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The tariff relative to its mean, before noise."""
    swing = region.swing / MICRO
    noon = np.maximum(0.0, np.cos((local_hour - 13) * np.pi / 12))
    if region.shape == "time-of-use":  # five dear hours and eight cheap ones; the rest is set so that the mean is 1
        dear, cheap = (local_hour >= 16) & (local_hour < 21), (local_hour >= 23) | (local_hour < 7)
        return np.asarray(np.where(dear, 1 + swing, np.where(cheap, 1 - 5 * swing / 8, 1.0)))
    if region.shape == "solar":  # deepest in July, half as deep in January; cos+ has the mean 1/pi over a day
        season = 0.75 - 0.25 * np.cos(hour_of_year * 2 * np.pi / HOURS_A_YEAR)
        return np.asarray(1 - swing * season * (noon - 1 / np.pi))
    if region.shape == "spot":
        humps = np.cos((local_hour - 8) * np.pi / 6) * 0.5 - 0.5 * np.cos((local_hour - 3) * np.pi / 12)
        return np.asarray(1 + swing * humps)
    return np.ones(len(local_hour))


def _slow_noise(settings: Settings, region: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A first-order autoregression with mean 0 and standard deviation 1, drawn for this region alone."""
    shocks = draws_for(settings.run.seed, "tariff", region).standard_normal(settings.run.hours)
    fresh = (1 - _NOISE_MEMORY**2) ** 0.5
    level, course = float(shocks[0]), []
    for shock in shocks.tolist():
        level = _NOISE_MEMORY * level + fresh * shock
        course.append(level)
    return np.array(course)


def _check_bounds(people: Population) -> None:
    """Raise `ConfigurationError` where an hour of energy or a million tokens' cost might not stay under 2**62."""
    slowest = np.minimum(people.tokens_in_per_s, people.tokens_out_per_s)
    if int((people.hourly_cost * MICRO // (slowest * SECONDS_AN_HOUR)).max()) > _MOST_COST:
        raise ConfigurationError("a machine costs over 2,500 per million tokens", hint="lower hourly_cost")
    watts_in = people.tokens_in_per_s * people.joules_in // MILLI
    watts_out = people.tokens_out_per_s * people.joules_out // MILLI
    if max(int(watts.max()) for watts in (watts_in, watts_out, people.idle_watts)) > _MOST_WATTS:
        raise ConfigurationError("a site draws over 100 MW", hint="lower most_units, joules or tokens per second")


def _draw_by_share(settings: Settings, purpose: str, shares: list[int]) -> Ints:
    """For each provider an index, in proportion to the shares."""
    ends = np.cumsum(np.array(shares, dtype=np.int64))
    lot = draws_for(settings.run.seed, "population", purpose).integers(0, ends[-1], settings.run.providers)
    return np.searchsorted(ends, lot, side="right").astype(np.int64)


def _spread(settings: Settings, purpose: str, spread: Ints) -> np.ndarray[Any, np.dtype[np.float64]]:
    """For each provider a factor, evenly drawn from ``1 - spread..1 + spread`` (in millionths)."""
    lot = draws_for(settings.run.seed, "population", purpose).random(settings.run.providers)
    return 1 + (2 * lot - 1) * spread / MICRO


def _pick(rows: list[Any], field: str, index: Ints) -> Ints:
    return np.array([getattr(row, field) for row in rows], dtype=np.int64)[index]
