"""Who comes and who goes from one day to the next: by habit, by net present value, or nobody.

A newcomer has measured nothing yet and asks as if it were in use for `target_use` of its time. By net present value a
site that stands goes on while it earns its running cost, for what it cost to build is spent; one that would have to be
built, or built anew when its machines are worn out, comes only where margins also pay for that (X12).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from protocol.units import MICRO
from simulator.draws import Floats, Lots
from simulator.exact import Ints
from simulator.population import Population
from simulator.scenario import Settings
from simulator.tables import Entry

__all__ = ["Movers", "State"]

Flags = np.ndarray[Any, np.dtype[np.bool_]]

_RESPONSE = 0.5
"""A margin over cost at which the market grows or shrinks by all of `join` in a day; below it in proportion."""
_CAUTION = 0.5
"""How much more that takes where margins differ from day to day, in parts of their mean deviation."""

_FORESIGHT = 2.0
"""By how many parts of its cost a site expects to earn less where the market has grown by one part lately."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What sites carry from day to day; arrays of length N."""

    present: Flags
    """Whether the site is in the market today."""
    use: Ints
    """Millionths of its time that it has been in use, averaged over the last days; the ask goes by it."""
    loss_days: Ints
    """Days in a row, until yesterday, on which it lost money."""
    margin: Ints
    """Micro-units a day that it earned over its running cost, averaged."""
    spread: Ints
    """Micro-units by which a day's margin differs from that, averaged."""
    debt: Ints
    """Micro-units that it lost since it last was in the black, at most its credit."""
    age_days: Ints
    """Since its machines were bought."""
    size: float
    """Units that were present, averaged as margins are."""


class Movers:
    """Draws who looks, and lets them decide."""

    def __init__(self, settings: Settings, population: Population) -> None:
        self._settings, self._population = settings, population
        groups, seed = list(population.groups), settings.run.seed
        self._join, self._leave = Lots(seed, "join", groups), Lots(seed, "leave", groups)
        self._start, self._age = Lots(seed, "start", groups), Lots(seed, "age", groups)
        kinds = list(settings.hardware.values())
        self._life = np.array([kind.life_days for kind in kinds], dtype=np.int64)[population.hardware]
        self._worth = np.array([kind.capital for kind in kinds], dtype=np.int64)[population.hardware] * population.units
        self._resale = np.array([kind.resale for kind in kinds], dtype=np.int64)[population.hardware]
        self._peers = population.region * (int(population.hardware.max()) + 1) + population.hardware

    def first(self) -> State:
        """The market on the first morning."""
        count, everybody = len(self._population), self._settings.entry.rule == "none"
        present = self._start.of(0) * MICRO < (MICRO if everybody else self._settings.entry.present)
        nothing = np.zeros(count, dtype=np.int64)
        return State(
            present=present,
            use=np.full(count, self._settings.market.target_use, dtype=np.int64),
            loss_days=nothing,
            margin=self._population.capital_daily.copy(),
            spread=nothing,
            debt=nothing,
            age_days=np.floor(self._age.of(0) * self._life).astype(np.int64),
            size=float((self._population.units * present).sum()),
        )

    def next(self, state: State, day: int, use: Ints, running: Ints, gross: Ints, caught: Flags) -> State:
        """The next day's state.

        Args:
            use: (N,) millionths of the day's time that the site was busy.
            running: (N,) micro-units that it spent in the day, capital apart.
            gross: (N,) what it earned over that.
            caught: (N,) whether it has to leave today.
        """
        entry, market = self._settings.entry, self._settings.market
        averaged = state.use + (use - state.use) // market.memory_days
        if entry.rule == "none":
            return dataclasses.replace(state, use=averaged, present=state.present & ~caught)
        net = gross - self._population.capital_daily
        loss_days, size = np.where(state.present & (net < 0), state.loss_days + 1, 0), state.size
        if entry.rule == "habit":
            leaves, joins = self._by_habit(state, entry, day, loss_days, net)
            margin, spread, debt, age = state.margin, state.spread, state.debt, state.age_days
        else:
            margin = state.margin + np.where(state.present, (gross - state.margin) // entry.memory_days, 0)
            off = np.abs(gross - state.margin)
            spread = state.spread + np.where(state.present, (off - state.spread) // entry.memory_days, 0)
            loss_days = np.where(state.present & (margin < self._scrap_daily(state, day)), state.loss_days + 1, 0)
            debt = np.where(state.present, np.maximum(state.debt - gross, 0), 0)
            size += (self._present_units(state) - size) / entry.memory_days
            seen = dataclasses.replace(state, loss_days=loss_days, spread=spread, size=size)
            leaves, joins, renewed = self._by_value(seen, entry, day, running, gross, margin, debt)
            age = np.where(joins | renewed, 0, state.age_days + 1)
            margin = np.where(joins, self._expected(state, margin), margin)
        leaves |= caught
        joins &= ~caught
        return State(
            present=(state.present & ~leaves) | joins,
            use=np.where(joins, self._newcomers_use(averaged, state), averaged),
            loss_days=np.where(joins | leaves, 0, loss_days),
            margin=margin,
            spread=spread,
            debt=np.where(joins | leaves, 0, debt),
            age_days=age,
            size=size,
        )

    def _newcomers_use(self, use: Ints, state: State) -> Ints:
        return np.full_like(use, self._settings.market.target_use)

    def _by_habit(self, state: State, entry: Entry, day: int, loss_days: Ints, net: Ints) -> tuple[Flags, Flags]:
        leaves = state.present & ((loss_days >= entry.patience_days) | (self._leave.of(day) * MICRO < entry.leave))
        together = np.zeros(int(self._peers.max()) + 1, dtype=np.int64)
        np.add.at(together, self._peers, np.where(state.present, net, 0))
        joins = ~state.present & (self._join.of(day) * MICRO < entry.join) & (together[self._peers] >= 0)
        return leaves, joins

    def _by_value(
        self, state: State, entry: Entry, day: int, running: Ints, gross: Ints, margin: Ints, debt: Ints
    ) -> tuple[Flags, Flags, Flags]:
        capital = self._population.capital_daily
        fixed = self._population.hourly_cost * 24 + capital
        cost = np.maximum(running, fixed) + capital
        caution = _CAUTION * np.where(state.present, state.spread, self._of_peers(state, state.spread))
        scale = np.maximum(cost * _RESPONSE + caution, 1.0)
        looks = self._join.of(day) * MICRO / max(entry.join, 1)  # below 1: has its look today
        crowd = max(1, int(state.present.sum())) / max(1, int((~state.present).sum()))
        # Margins were earned by as many as there were: more of them earn less.
        grown = self._present_units(state) / max(state.size, 1.0) - 1
        lost = _FORESIGHT * grown * cost
        # Whoever is to be built: is what it will earn worth more than what it costs?
        expected = np.minimum(self._expected(state, margin) - lost, self._expected(state, gross))
        gain = (expected - capital) / scale
        joins = ~state.present & (looks < np.clip(gain, 0, 1) * crowd)
        # Whoever stands and is worn out: as if it were not there.
        worn = state.present & (state.age_days >= self._life) & (self._worth > 0)
        renewed = worn & (np.minimum(margin - lost, gross) >= capital)
        # Whoever stands: what it cost is spent, and counts only as far as scrapping it brings some back.
        regret = (self._scrap_daily(state, day) - np.maximum(margin - lost, gross)) / scale
        gives_up = state.present & (state.loss_days >= entry.patience_days) & (looks < np.clip(regret, 0, 1))
        broke = state.present & (debt > entry.credit_days * np.maximum(running, 1))
        return (worn & ~renewed) | gives_up | broke, joins, renewed

    def _scrap_daily(self, state: State, day: int) -> Floats:
        """(N,) micro-units a day that a site gives up by going on; in the burn-in nothing is sunk yet."""
        if day < 0:
            return np.asarray(self._population.capital_daily * 1.0)
        left = np.maximum(self._life - state.age_days, 0) / np.maximum(self._life, 1)
        return np.asarray(self._population.capital_daily * (self._resale / MICRO) * np.minimum(left, 1.0))

    def _expected(self, state: State, margin: Ints) -> Ints:
        """(N,) micro-units a day that a site would earn over its running cost: as those like it do, by their units.

        Where there is nobody like it, a site expects what pays for it, and tries.
        """
        known = self._units(state)[self._peers] > 0
        trial = self._population.capital_daily + np.maximum(self._population.hourly_cost, 1)
        return np.where(known, self._of_peers(state, margin), trial)

    def _of_peers(self, state: State, figure: Ints) -> Ints:
        """(N,) what a site would have of a figure as those like it do, by their units; 0 where there are none."""
        total, units = np.zeros(int(self._peers.max()) + 1, dtype=np.int64), self._units(state)
        np.add.at(total, self._peers, np.where(state.present, figure, 0))
        return np.asarray(total[self._peers] // np.maximum(units[self._peers], 1) * self._population.units)

    def _present_units(self, state: State) -> float:
        """Of all sites."""
        return float((self._population.units * state.present).sum())

    def _units(self, state: State) -> Ints:
        """Units that are present, by kind of site."""
        units = np.zeros(int(self._peers.max()) + 1, dtype=np.int64)
        np.add.at(units, self._peers, np.where(state.present, self._population.units, 0))
        return units
