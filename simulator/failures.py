"""When sites are down: each runs for a time by Weibull's law, is repaired, and runs again (X26)."""

from __future__ import annotations

import math

import numpy as np

from protocol.errors import ConfigurationError
from protocol.units import MICRO
from simulator.draws import Floats, Lots
from simulator.exact import Ints
from simulator.population import Population
from simulator.scenario import Settings
from simulator.timeline import HOURS_A_DAY, Timeline

__all__ = ["Failures"]

_MOST = 10_000_000


class Failures:
    """All of a run, drawn at its start, when every machine is new."""

    def __init__(self, settings: Settings, timeline: Timeline, population: Population) -> None:
        kinds = list(settings.hardware.values())
        mean_h = np.array([kind.fails_after_days * HOURS_A_DAY / MICRO for kind in kinds])[population.hardware]
        shape = np.array([kind.failure_shape / MICRO for kind in kinds])[population.hardware]
        repair_h = np.array([kind.repair_hours / MICRO for kind in kinds])[population.hardware]
        self._epoch_h, self._shape = 1 / timeline.per_hour, (timeline.epochs, len(population))
        self._site, self._down, self._up = _drawn(
            settings.run.seed, list(population.groups), mean_h, shape, repair_h, timeline.epochs / timeline.per_hour
        )

    def down_us(self, epochs: slice) -> Ints | None:
        """(E, N) microseconds for which sites are down; None where nothing ever fails."""
        if not len(self._site):
            return None
        found = np.zeros((epochs.stop - epochs.start, self._shape[1]), dtype=np.int64)
        start, stop = epochs.start * self._epoch_h, epochs.stop * self._epoch_h
        now = np.flatnonzero((self._down < stop) & (self._up > start))
        for at in range(len(found)):
            begins = start + at * self._epoch_h
            hours = np.minimum(self._up[now], begins + self._epoch_h) - np.maximum(self._down[now], begins)
            np.add.at(found[at], self._site[now], np.rint(np.maximum(hours, 0) * 3600 * MICRO).astype(np.int64))
        return found


def _drawn(
    seed: int, groups: list[tuple[str, int]], mean_h: Floats, shape: Floats, repair_h: Floats, until_h: float
) -> tuple[Ints, Floats, Floats]:
    """Sites, and the hours from and to which they are down, until an hour."""
    fails = mean_h > 0
    if float((until_h / np.where(fails, mean_h, math.inf)).sum()) > _MOST:
        raise ConfigurationError(f"over {_MOST:,} failures would be drawn", hint="raise fails_after_days")
    scale = mean_h / np.array([math.gamma(1 + 1 / each) for each in shape])
    times, repairs = Lots(seed, "failures", groups), Lots(seed, "repairs", groups)
    clock = np.where(fails, 0.0, math.inf)
    found: list[tuple[Ints, Floats, Floats]] = []
    number = 0
    while (clock < until_h).any():
        down = clock + scale * (-np.log1p(-times.of(number))) ** (1 / shape)
        clock = down - repair_h * np.log1p(-repairs.of(number))
        some = np.flatnonzero(down < until_h)
        found.append((some, down[some], clock[some]))
        number += 1
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
    site, begins, ends = (np.concatenate(column) for column in zip(*found, strict=True))
    return site, begins, ends
