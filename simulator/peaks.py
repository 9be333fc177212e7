"""What a supplier charges for the highest draw of a month, besides each kWh (X27)."""

from __future__ import annotations

import dataclasses

import numpy as np

from simulator.population import Population
from simulator.scenario import Settings
from simulator.settlement import Block

__all__ = ["Peaks"]

DAYS_A_MONTH = 30


class Peaks:
    """Each site's highest draw so far, in watts over an epoch; months of 30 days are counted from hour 0."""

    def __init__(self, settings: Settings, population: Population, epoch_us: int) -> None:
        rates = [region.demand_charge for region in settings.regions.values()]
        self._rate = np.array(rates, dtype=np.int64)[population.region]
        self._epoch_ms = epoch_us // 1000
        self._watts = np.zeros(len(population), dtype=np.int64)

    def charged(self, day: int, block: Block) -> Block:
        """The same block, with what each rise of a month's highest draw costs."""
        if not self._rate.any():
            return block
        before = np.where(day % DAYS_A_MONTH == 0, 0, self._watts)
        highest = np.maximum.accumulate(np.vstack([before, block.energy // self._epoch_ms]), axis=0)
        self._watts = highest[-1]
        charge = np.diff(highest * self._rate // 1000, axis=0)
        return dataclasses.replace(block, idle_cost=block.idle_cost + charge, running_cost=block.running_cost + charge)
