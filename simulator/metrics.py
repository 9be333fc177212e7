"""What a run leaves behind: hourly figures by region, demand class and for the market, and totals by provider.

All figures are integers; a metric's name ends in its unit. Prices are micro-units per million tokens, prompt and
generated tokens together.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from simulator.clearing import HOUR_US
from simulator.demand import Classes
from simulator.exact import Ints, ratio
from simulator.population import Population
from simulator.scenario import Settings
from simulator.settlement import Day

__all__ = ["Recorder", "Records"]

_TOKENS = ("tokens_in", "tokens_out")
_MONEY = ("revenue_micro", "work_cost_micro", "idle_cost_micro", "other_cost_micro")
_REGION_SUMS = ("present", *_TOKENS, *_MONEY, "energy_mj", "busy_us")
_PROVIDER_SUMS = ("hours_present", *_REGION_SUMS[1:])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Every figure of one run. Entities are in order of their names, providers by region."""

    region_names: tuple[str, ...]
    class_names: tuple[str, ...]
    hardware_names: tuple[str, ...]
    population: Population
    regions: dict[str, Ints]
    """Metric -> (T, R)."""
    classes: dict[str, Ints]
    """Metric -> (T, C)."""
    market: dict[str, Ints]
    """Metric -> (T,)."""
    providers: dict[str, Ints]
    """Metric -> (N,), over the whole run."""


class Recorder:
    """Collects a run's figures day by day."""

    def __init__(self, settings: Settings, population: Population, classes: Classes, tariff: Ints) -> None:
        self._settings, self._population, self._classes, self._tariff = settings, population, classes, tariff
        hours, providers = settings.run.hours, len(population)
        places = np.arange(len(settings.regions))
        starts = np.searchsorted(population.region, places)
        self._inhabited = np.flatnonzero(np.append(starts[1:], providers) > starts)
        self._starts = starts[self._inhabited]
        self._regions = {name: np.zeros((hours, len(places)), np.int64) for name in _REGION_SUMS}
        self._classes_seen = {
            name: np.zeros((hours, len(classes.names)), np.int64)
            for name in ("requests_wanted", "requests_served", "paid_micro")
        }
        self._providers = {name: np.zeros(providers, np.int64) for name in _PROVIDER_SUMS}

    def enter(self, hours: slice, present: Ints, want: Ints, served: Ints, day: Day) -> None:
        """Add a day: `present` (N,), `want` (C, H), `served` (C, H, N)."""
        figures = (
            np.broadcast_to(present, day.busy_us.shape),
            day.tokens_in,
            day.tokens_out,
            day.revenue,
            day.work_cost,
            day.idle_cost,
            day.overhead + day.hourly_cost,
            day.energy,
            day.busy_us,
        )
        for region_metric, provider_metric, figure in zip(_REGION_SUMS, _PROVIDER_SUMS, figures, strict=True):
            self._regions[region_metric][hours, self._inhabited] = np.add.reduceat(figure, self._starts, axis=1)
            self._providers[provider_metric] += figure.sum(axis=0)
        self._classes_seen["requests_wanted"][hours] = want.T
        self._classes_seen["requests_served"][hours] = served.sum(axis=2).T
        self._classes_seen["paid_micro"][hours] = day.paid.T

    def records(self) -> Records:
        """Everything entered, with the ratios that follow from it."""
        return Records(
            region_names=tuple(self._settings.regions),
            class_names=self._classes.names,
            hardware_names=tuple(self._settings.hardware),
            population=self._population,
            regions=self._by_region(),
            classes=self._by_class(),
            market=self._for_market(),
            providers=self._by_provider(),
        )

    def _by_region(self) -> dict[str, Ints]:
        figures = dict(self._regions)
        busy = figures.pop("busy_us")
        figures["use_ppm"] = ratio(busy, figures["present"] * HOUR_US)
        figures["tariff_micro_per_kwh"] = np.ascontiguousarray(self._tariff.T)
        return figures

    def _by_class(self) -> dict[str, Ints]:
        figures = dict(self._classes_seen)
        tokens = figures["requests_served"] * (self._classes.tokens_in + self._classes.tokens_out)
        figures["tokens"] = tokens
        figures["price_micro_per_mtok"] = ratio(figures["paid_micro"], tokens)
        return figures

    def _for_market(self) -> dict[str, Ints]:
        total = {name: figure.sum(axis=1) for name, figure in self._regions.items()}
        tokens = total["tokens_in"] + total["tokens_out"]
        return {
            "present": total["present"],
            "tokens": tokens,
            "price_micro_per_mtok": ratio(total["revenue_micro"], tokens),
            "energy_micro_per_mtok": ratio(total["work_cost_micro"], tokens),
            "use_ppm": ratio(total["busy_us"], total["present"] * HOUR_US),
        }

    def _by_provider(self) -> dict[str, Ints]:
        figures = dict(self._providers)
        figures["use_ppm"] = ratio(figures["busy_us"], figures["hours_present"] * HOUR_US)
        costs = figures["work_cost_micro"] + figures["idle_cost_micro"] + figures["other_cost_micro"]
        figures["profit_micro"] = figures["revenue_micro"] - costs
        return figures
