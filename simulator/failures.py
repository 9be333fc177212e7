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

_MOST, _MOST_OF_ONE = 2_000_000, 20_000
_AT_ONCE = 16


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
        count = epochs.stop - epochs.start
        ends = [np.clip(each / self._epoch_h - epochs.start, 0, count) for each in (self._down, self._up)]
        now = np.flatnonzero(ends[0] < ends[1])
        (begin, end), site = (each[now] for each in ends), self._site[now]
        first, last = begin.astype(np.int64), np.minimum(end, count - 1).astype(np.int64)
        part = np.minimum(end, first + 1) - begin
        found = self._added(count, first, site, part)
        found += self._added(count, last, site, np.where(last > first, end - last, 0.0))
        between = self._added(count, np.minimum(first + 1, last), site, (last > first) * 1.0)
        found += np.cumsum(between - self._added(count, last, site, (last > first) * 1.0), axis=0)
        return np.rint(found * self._epoch_h * 3600 * MICRO).astype(np.int64)

    def _added(self, count: int, epoch: Ints, site: Ints, part: Floats) -> Floats:
        """(E, N) sums of parts of an epoch."""
        sites = self._shape[1]
        return np.asarray(np.bincount(epoch * sites + site, part, count * sites).reshape(count, sites), dtype=float)


def _drawn(
    seed: int, groups: list[tuple[str, int]], mean_h: Floats, shape: Floats, repair_h: Floats, until_h: float
) -> tuple[Ints, Floats, Floats]:
    """Sites, and the hours from and to which they are down, until an hour."""
    fails = mean_h > 0
    scale = (mean_h / np.array([math.gamma(1 + 1 / each) for each in shape]))[:, None]
    times, repairs = Lots(seed, "failures", groups), Lots(seed, "repairs", groups)
    clock = np.where(fails, 0.0, math.inf)
    found: list[tuple[Ints, Floats, Floats]] = []
    each, drawn, number = until_h / (np.where(fails, mean_h, math.inf) + repair_h), 0, 0
    while (clock < until_h).any():
        if max(float(each.sum()), drawn) > _MOST or max(float(each.max()), number * _AT_ONCE) > _MOST_OF_ONE:
            raise ConfigurationError(
                f"over {_MOST:,} failures would be drawn, or {_MOST_OF_ONE:,} of one site",
                hint="raise fails_after_days",
            )
        runs = scale * (-np.log1p(-times.many(number, _AT_ONCE))) ** (1 / shape[:, None])
        broken = -repair_h[:, None] * np.log1p(-repairs.many(number, _AT_ONCE))
        up = clock[:, None] + np.cumsum(runs + broken, axis=1)
        down = up - broken
        some, at = np.nonzero(down < until_h)
        found.append((some, down[some, at], up[some, at]))
        clock, drawn, number = up[:, -1], drawn + len(some), number + 1
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
    site, begins, ends = (np.concatenate(column) for column in zip(*found, strict=True))
    return site, begins, ends
