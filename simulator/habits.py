"""How providers change from one day to the next: asks follow use, losses drive out, profits attract.

A newcomer has measured nothing yet and asks as if it were in use for `target_use` of its time.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from protocol.units import MICRO
from simulator.draws import draws_for
from simulator.exact import Ints
from simulator.population import Population
from simulator.scenario import Market, Settings

__all__ = ["State", "adapt", "first_state"]

Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What providers carry from day to day; arrays of length N."""

    present: Flags
    """Whether the provider is in the market today."""
    use: Ints
    """Millionths of its time that it has been in use, averaged over the last days; the ask goes by it."""
    loss_days: Ints
    """Days in a row, until yesterday, on which it lost money."""


def first_state(settings: Settings) -> State:
    """The market on the first morning."""
    run, market = settings.run, settings.market
    lot = draws_for(run.seed, "churn", "start").integers(0, MICRO, run.providers)
    return State(
        present=lot < market.present,
        use=np.full(run.providers, market.target_use, dtype=np.int64),
        loss_days=np.zeros(run.providers, dtype=np.int64),
    )


def adapt(state: State, market: Market, population: Population, use: Ints, profit: Ints, lots: Ints) -> State:
    """The next day's state.

    Args:
        use: (N,) millionths of the day's time that the provider was busy.
        profit: (N,) micro-units earned in the day, less all costs.
        lots: (2, N) draws below a million: who leaves and who joins by chance.
    """
    averaged = state.use + (use - state.use) // market.memory_days
    loss_days = np.where(state.present & (profit < 0), state.loss_days + 1, 0)
    leaves = state.present & ((loss_days >= market.patience_days) | (lots[0] < market.leave))
    joins = ~state.present & (lots[1] < market.join) & _peers_do_well(state.present, population, profit)
    return State(
        present=(state.present & ~leaves) | joins,
        use=np.where(joins, market.target_use, averaged),
        loss_days=np.where(joins | leaves, 0, loss_days),
    )


def _peers_do_well(present: Flags, population: Population, profit: Ints) -> Flags:
    """For each provider, whether those present in its region with its hardware made no loss together, or are none."""
    peers = population.region * (int(population.hardware.max()) + 1) + population.hardware
    together = np.zeros(int(peers.max()) + 1, dtype=np.int64)
    np.add.at(together, peers, np.where(present, profit, 0))
    return np.asarray(together[peers] >= 0)
