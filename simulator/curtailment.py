"""How far sites hold back, and from which classes: by the rules that nodes have (X30).

The level of a region is the strictest of what its grid asks and what a tariff above its ceiling means. The time that
sites need for what runs or waits already is theirs.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from protocol.policy.policy import LatencyClass
from protocol.serving.curtailment import Level, admits, by_ceiling
from simulator.exact import Ints
from simulator.happenings import span_of
from simulator.scenario import Settings
from simulator.supply import Supply
from simulator.timeline import Timeline

__all__ = ["AT_EASE", "Curtailment", "Levels"]

Levels = tuple[int, ...]
"""By region."""

AT_EASE = int(Level.NORMAL)


class Curtailment:
    """The levels of a run."""

    def __init__(self, settings: Settings, timeline: Timeline, supply: Supply, region: Ints) -> None:
        """Of sites that stand in `region` (N,)."""
        self._region = region
        self._classes = [LatencyClass(each.latency_class) for each in settings.demand.values()]
        self._level = np.full((len(settings.regions), timeline.epochs), AT_EASE, dtype=np.int64)
        for at, (name, place) in enumerate(settings.regions.items()):
            dear = by_ceiling(supply.tariff[at], place.ceiling or None)
            self._level[at] = np.where(dear, Level.DRAIN, AT_EASE)
            for event in settings.events:
                if event.what in ("shed", "drain") and (not event.where or name in event.where):
                    some = span_of(event, timeline)
                    self._level[at, some] = np.maximum(self._level[at, some], Level[event.what.upper()])
        self.admitted = functools.lru_cache(256)(self._admitted)
        """(C, N) at some levels, whether a site takes a new request of a class."""

    def runs(self, epochs: slice) -> list[tuple[slice, Levels]]:
        """These epochs, cut where a level changes."""
        level = self._level[:, epochs]
        cuts = np.flatnonzero((level[:, 1:] != level[:, :-1]).any(axis=0)) + 1
        edges = [0, *cuts.tolist(), epochs.stop - epochs.start]
        return [
            (slice(epochs.start + start, epochs.start + end), tuple(level[:, start].tolist()))
            for start, end in itertools.pairwise(edges)
        ]

    def _admitted(self, levels: Levels) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
        table = np.array([[admits(Level(level), each) for level in levels] for each in self._classes])
        return np.asarray(table[:, self._region])
