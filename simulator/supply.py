"""What energy costs in each region and epoch, how much carbon it carries, and how much of supply there is at all."""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.energy.tariff import MAX_CARBON_G_PER_KWH, MAX_TARIFF, carbon_cost
from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.draws import Floats, draws_for
from simulator.exact import Ints, magnitude
from simulator.happenings import factors, multiplied
from simulator.scenario import Settings
from simulator.series import spread_over
from simulator.tables import MILLI, Region
from simulator.timeline import HOURS_A_DAY, HOURS_A_YEAR, Timeline

__all__ = ["Supply", "draw_supply"]

_NOISE_MEMORY = 0.97  # of the noise is still there an hour later: it comes and goes over about a day and a half


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """(R, T) arrays: regions by epochs, those of the burn-in first."""

    tariff: Ints
    """Micro-units per kWh, without carbon."""
    per_kwh: Ints
    """With carbon: what a site pays."""
    carbon: Ints
    """Grams per kWh."""
    share: Ints
    """Millionths of the time of sites that there is."""


def draw_supply(settings: Settings, timeline: Timeline) -> Supply:
    """Tariffs, carbon and outages of a scenario, from its seed. Raises ConfigurationError beyond all bounds."""
    names = list(settings.regions)
    tariff = np.stack([_tariff(settings, timeline, name) for name in names])
    tariff = multiplied(tariff, factors(settings, timeline, "tariff", names), "tariff")
    carbon = np.stack([_carbon(settings, timeline, region) for region in settings.regions.values()])
    carbon = multiplied(carbon, factors(settings, timeline, "carbon", names), "supply's carbon")
    if magnitude(carbon) > MAX_CARBON_G_PER_KWH or int(carbon.min()) < 0:
        raise ConfigurationError("a supply's carbon is out of range", hint=f"0 to {MAX_CARBON_G_PER_KWH} g per kWh")
    per_kwh = tariff + carbon_cost(carbon, settings.market.carbon_price)
    if magnitude(tariff, per_kwh) > MAX_TARIFF:
        raise ConfigurationError("an hour's tariff is out of range", hint="lower energy_price, noise or energy_scale")
    share = np.minimum(factors(settings, timeline, "supply", names), MICRO)
    return Supply(tariff=tariff, per_kwh=per_kwh, carbon=carbon, share=share)


def _tariff(settings: Settings, timeline: Timeline, name: str) -> Ints:
    region, scale = settings.regions[name], settings.market.energy_scale
    if region.tariff:
        numbers = settings.series[region.tariff]
        price = spread_over(numbers, timeline.epochs, timeline.epoch_minutes, timeline.first)
        if magnitude(price) > 100 * MAX_TARIFF:
            raise ConfigurationError(f"a tariff of region.{name} is out of range", hint="look at the series' factor")
        return price * scale // MILLI
    course = _shape(region, timeline.local_hour(region.utc_offset), timeline.hour_of_year)
    course = course + region.noise / MICRO * _slow_noise(settings, timeline, name)
    price = np.rint(course * region.energy_price).astype(np.int64) * scale // MILLI
    return price if region.shape == "spot" else np.maximum(price, 0)


def _carbon(settings: Settings, timeline: Timeline, region: Region) -> Ints:
    if region.carbon_series:
        numbers = settings.series[region.carbon_series]
        return spread_over(numbers, timeline.epochs, timeline.epoch_minutes, timeline.first) // MICRO
    return np.full(timeline.epochs, region.carbon, dtype=np.int64)


def _shape(region: Region, local_hour: Floats, hour_of_year: Floats) -> Floats:
    """The tariff relative to its mean, before noise."""
    swing = region.swing / MICRO
    if region.shape == "time-of-use":  # five dear hours and eight cheap ones; the rest is set so that the mean is 1
        dear, cheap = (local_hour >= 16) & (local_hour < 21), (local_hour >= 23) | (local_hour < 7)
        return np.asarray(np.where(dear, 1 + swing, np.where(cheap, 1 - 5 * swing / 8, 1.0)))
    if region.shape == "solar":  # deepest in July, half as deep in January; cos+ has the mean 1/pi over a day
        noon = np.maximum(0.0, np.cos((local_hour - 13) * np.pi / 12))
        season = 0.75 - 0.25 * np.cos(hour_of_year * 2 * np.pi / HOURS_A_YEAR)
        return np.asarray(1 - swing * season * (noon - 1 / np.pi))
    if region.shape == "spot":
        humps = np.cos((local_hour - 8) * np.pi / 6) * 0.5 - 0.5 * np.cos((local_hour - 3) * np.pi / 12)
        return np.asarray(1 + swing * humps)
    return np.ones(len(local_hour))


def _slow_noise(settings: Settings, timeline: Timeline, region: str) -> Floats:
    """A first-order autoregression with mean 0 and standard deviation 1, drawn for this region alone, by the hour."""
    if not settings.regions[region].noise:
        return np.zeros(timeline.epochs)
    parts = []
    for purpose, hours in (("tariff before", settings.run.burn_in_days * HOURS_A_DAY), ("tariff", settings.run.hours)):
        shocks = draws_for(settings.run.seed, purpose, region).standard_normal(hours)
        fresh = (1 - _NOISE_MEMORY**2) ** 0.5
        level, course = float(shocks[0]) if hours else 0.0, []
        for shock in shocks.tolist():
            level = _NOISE_MEMORY * level + fresh * shock
            course.append(level)
        parts.append(np.array(course))
    return np.repeat(np.concatenate(parts), timeline.per_hour)
