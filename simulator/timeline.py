"""Epochs and days of a run. The burn-in comes before hour 0, so that hour 0 is what it is without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from simulator.draws import Floats
from simulator.tables import QUARTERS, Run

__all__ = ["HOURS_A_DAY", "HOURS_A_YEAR", "Timeline"]

HOURS_A_DAY = 24
HOURS_A_YEAR = 8760
_HOURS_A_WEEK = 7 * HOURS_A_DAY


@dataclasses.dataclass(frozen=True, slots=True)
class Timeline:
    """Which epochs there are; indices count from the start of the burn-in."""

    run: Run

    @property
    def epoch_minutes(self) -> int:
        """Length of an epoch."""
        return self.run.epoch_minutes

    @property
    def epoch_us(self) -> int:
        """Length of an epoch in microseconds."""
        return self.run.epoch_minutes * 60_000_000

    @property
    def per_hour(self) -> int:
        """Epochs in an hour."""
        return 60 // self.run.epoch_minutes

    @property
    def before(self) -> int:
        """Epochs of the burn-in."""
        return self.run.burn_in_days * HOURS_A_DAY * self.per_hour

    @property
    def epochs(self) -> int:
        """All of them."""
        return self.before + self.run.hours * self.per_hour

    @property
    def first(self) -> int:
        """Number of the first epoch, counted from hour 0: at most 0."""
        return -self.before

    @property
    def hours(self) -> Floats:
        """(T,) when each epoch begins, in hours since hour 0."""
        return (np.arange(self.epochs) - self.before) / self.per_hour

    @property
    def hour_of_year(self) -> Floats:
        """(T,)"""
        return np.asarray(self.hours % HOURS_A_YEAR)

    def local_hour(self, utc_offset: int) -> Floats:
        """(T,) hour of the local day at which each epoch begins, so many quarters of an hour ahead of UTC."""
        return np.asarray((self.hours + utc_offset / QUARTERS) % HOURS_A_DAY)

    def hour_of_week(self, utc_offset: int) -> Floats:
        """(T,) likewise, from Monday 00:00."""
        return np.asarray((self.hours + utc_offset / QUARTERS) % _HOURS_A_WEEK)

    def days(self) -> Iterator[tuple[int, slice]]:
        """Number of each day, below 0 in the burn-in, and its epochs; the last may be shorter."""
        a_day = HOURS_A_DAY * self.per_hour
        for start in range(0, self.epochs, a_day):
            yield start // a_day - self.run.burn_in_days, slice(start, min(start + a_day, self.epochs))
