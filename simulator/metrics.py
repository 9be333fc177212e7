"""What a run leaves behind: figures by region, demand class and for the market by the epoch, by the day, and by site.

All figures are integers; a metric's name ends in its unit. Prices are micro-units per million tokens, prompt and
generated tokens together.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.units import MICRO
from simulator.audits import AuditDay
from simulator.cleared import Cleared
from simulator.clearing import Trades
from simulator.demand import Classes
from simulator.entry import State
from simulator.exact import Ints, ratio
from simulator.population import Population
from simulator.scenario import Settings
from simulator.settlement import Block
from simulator.supply import Supply
from simulator.timeline import HOURS_A_DAY, Timeline
from simulator.tokens import TokenDay, Treasury
from simulator.waiting import chance_to_wait, mean_wait_s, share_waiting_longer
from simulator.zones import Worth

__all__ = ["Recorder", "Records"]

_MONEY = ("revenue_micro", "work_cost_micro", "idle_cost_micro", "other_cost_micro", "capital_micro")
_REGION_SUMS = ("present", "tokens_in", "tokens_out", *_MONEY, "energy_mj", "busy_us", "working_us")
_SITE_SUMS = ("epochs_present", *_REGION_SUMS[1:])
_CLASS_SUMS = (
    "requests_wanted",
    "requests_served",
    "paid_micro",
    "short",
    "clearing_micro_per_mtok",
    "wait_us",
    "latency_us",
    "requests_late",
)
_DAILY = (
    "minted_micro",
    "burned_micro",
    "supply_micro",
    "token_price_pico",
    "cheated_requests",
    "caught",
    "slashed_micro",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Every figure of one run. Entities are in order of their names, sites by region."""

    epoch_minutes: int
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
    days: dict[str, Ints]
    """Metric -> (D,)."""
    sites: dict[str, Ints]
    """Metric -> (N,), over the whole run."""


class Recorder:
    """Collects a run's figures day by day."""

    def __init__(
        self, settings: Settings, timeline: Timeline, population: Population, classes: Classes, supply: Supply
    ) -> None:
        self._settings, self._timeline, self._population = settings, timeline, population
        self._classes, self._supply = classes, supply
        epochs, places = timeline.epochs - timeline.before, np.arange(len(settings.regions))
        starts = np.searchsorted(population.region, places)
        self._inhabited = np.flatnonzero(np.append(starts[1:], len(population)) > starts)
        self._starts = starts[self._inhabited]
        self._regions = {name: np.zeros((epochs, len(places)), np.int64) for name in _REGION_SUMS}
        self._by_class = {name: np.zeros((epochs, len(classes.names)), np.int64) for name in _CLASS_SUMS}
        self._sites = {name: np.zeros(len(population), np.int64) for name in (*_SITE_SUMS, "other_micro")}
        days = -(-settings.run.hours // HOURS_A_DAY)
        self._daily = {name: np.zeros(days, np.int64) for name in _DAILY}
        self._late_after_s = np.array([each.max_wait_ms / 1000 for each in settings.demand.values()])
        self._variation = [each.service_variation for each in settings.demand.values()]
        self._masks: dict[bytes, list[int]] = {}
        for c, row in enumerate(classes.lawful):
            self._masks.setdefault(row.tobytes(), []).append(c)

    def enter(
        self,
        epochs: slice,
        state: State,
        cleared: Cleared,
        worth: Worth,
        block: Block,
        working_us: Ints,
    ) -> None:
        """Add a day; waits are those that were measured, or by formula."""
        want, trades, fixed, measured = cleared.want, cleared.trades, cleared.fixed, cleared.measured
        if cleared.arrived is not None:
            want = cleared.arrived
        figures = (
            np.broadcast_to(state.present.astype(np.int64), working_us.shape),
            block.tokens_in,
            block.tokens_out,
            block.revenue,
            block.work_cost,
            block.idle_cost,
            block.overhead + block.hourly_cost,
            block.capital,
            block.energy,
            block.busy_us,
            working_us,
        )
        for region_metric, site_metric, figure in zip(_REGION_SUMS, _SITE_SUMS, figures, strict=True):
            rows = figure[:1] if not figure.strides[0] else figure  # the same in all epochs
            self._regions[region_metric][epochs, self._inhabited] = np.add.reduceat(rows, self._starts, axis=1)
            self._sites[site_metric] += rows.sum(axis=0) * (len(figure) // len(rows))
        mine = self._by_class
        served = trades.served(*want.shape)
        mine["requests_wanted"][epochs], mine["requests_served"][epochs] = want.T, served.T
        mine["paid_micro"][epochs], mine["short"][epochs] = block.paid.T, worth.short.T
        price = worth.price.max(axis=2) if fixed is None else np.broadcast_to(fixed, want.shape)
        mine["clearing_micro_per_mtok"][epochs] = np.minimum(
            np.maximum(price, np.where(worth.short, worth.scarcity.max(axis=1), 0)), self._classes.price_cap[:, None]
        ).T
        if measured is None:
            self._enter_waits(epochs, served, block.busy_us, working_us)
            mine["latency_us"][epochs] = mine["wait_us"][epochs] + self._serving(trades, served).T
        else:
            mine["wait_us"][epochs], mine["requests_late"][epochs] = measured.wait_us.T, measured.late.T
            mine["latency_us"][epochs] = measured.latency_us.T

    def _serving(self, trades: Trades, served: Ints) -> Ints:
        """(C, E) mean microseconds of service, and of the way to the first site and back."""
        c, site, people = trades.of_class, trades.site, self._population
        service = trades.part(self._classes.busy_us[c, site] * people.slots[site])
        way = self._classes.round_trip_us[c, people.region[site]] * (trades.complete > 0)
        total = np.zeros(served.size)
        np.add.at(total, c * served.shape[1] + trades.epoch, trades.requests * (service + way).astype(float))
        return np.rint(total.reshape(served.shape) / np.maximum(served, 1)).astype(np.int64)

    def _enter_waits(self, epochs: slice, served: Ints, busy_us: Ints, working_us: Ints) -> None:
        epoch_us = self._timeline.epoch_us
        for alike in self._masks.values():
            may = self._classes.lawful[alike[0]]
            mine = slice(None) if may.all() else may
            working, busy = working_us[:, mine].sum(axis=1), busy_us[:, mine].sum(axis=1)
            servers = (working_us[:, mine] @ self._population.slots[mine]) / epoch_us
            load = busy / np.maximum(working, 1)
            chance = chance_to_wait(servers, load)
            for c in alike if may.any() else []:
                each_us = (self._classes.busy_us[c] * self._population.slots)[may].mean()
                service, variation = np.full(len(load), each_us / MICRO), self._variation[c]
                wait_s = mean_wait_s(servers, load, service, variation=variation, chance=chance)
                late_after = float(self._late_after_s[c])
                self._by_class["wait_us"][epochs, c] = np.rint(wait_s * MICRO)
                if late_after:
                    late = share_waiting_longer(chance, wait_s, late_after)
                    self._by_class["requests_late"][epochs, c] = np.rint(late * served[c])

    def enter_day(self, day: int, token: TokenDay, treasury: Treasury, audit: AuditDay, other: Ints) -> None:
        """Add what is reckoned once a day; `other` (N,) is what sites got besides being paid."""
        figures = (
            token.minted,
            token.burned,
            treasury.supply,
            token.price,
            int(audit.cheated.sum()),
            int(audit.caught.sum()),
            int(audit.slashed.sum()),
        )
        for name, figure in zip(_DAILY, figures, strict=True):
            self._daily[name][day] = figure
        self._sites["other_micro"] += other

    def records(self) -> Records:
        """Everything entered, with the ratios that follow from it."""
        return Records(
            epoch_minutes=self._timeline.epoch_minutes,
            region_names=tuple(self._settings.regions),
            class_names=self._classes.names,
            hardware_names=tuple(self._settings.hardware),
            population=self._population,
            regions=self._of_regions(),
            classes=self._of_classes(),
            market=self._of_market(),
            days=self._daily,
            sites=self._of_sites(),
        )

    def _of_regions(self) -> dict[str, Ints]:
        figures = dict(self._regions)
        figures["use_ppm"] = ratio(figures["busy_us"], figures["working_us"])
        for name, figure in (("tariff_micro_per_kwh", self._supply.tariff), ("carbon_g_per_kwh", self._supply.carbon)):
            figures[name] = np.ascontiguousarray(figure[:, self._timeline.before :].T)
        return figures

    def _of_classes(self) -> dict[str, Ints]:
        figures = dict(self._by_class)
        figures["tokens"] = figures["requests_served"] * self._classes.tokens
        figures["price_micro_per_mtok"] = ratio(figures["paid_micro"], figures["tokens"])
        return figures

    def _of_market(self) -> dict[str, Ints]:
        total = {name: figure.sum(axis=1) for name, figure in self._regions.items()}
        tokens = (self._by_class["requests_served"] * self._classes.tokens).sum(axis=1)
        grams = self._regions["energy_mj"] // 3_600_000 * self._supply.carbon[:, self._timeline.before :].T
        return {
            "present": total["present"],
            "tokens": tokens,
            "price_micro_per_mtok": ratio(total["revenue_micro"], tokens),
            "clearing_micro_per_mtok": self._by_class["clearing_micro_per_mtok"].max(axis=1),
            "energy_micro_per_mtok": ratio(total["work_cost_micro"], tokens),
            "use_ppm": ratio(total["busy_us"], total["working_us"]),
            "carbon_mg": grams.sum(axis=1),
        }

    def _of_sites(self) -> dict[str, Ints]:
        figures = dict(self._sites)
        figures["use_ppm"] = ratio(figures["busy_us"], figures["working_us"])
        costs = sum(figures[f"{kind}_micro"] for kind in ("work_cost", "idle_cost", "other_cost", "capital"))
        figures["profit_micro"] = figures["revenue_micro"] + figures["other_micro"] - costs
        return figures
