"""Requests that may wait: for a cheaper hour while there is one ahead, or for room, until their time is over (X19)."""

from __future__ import annotations

import numpy as np

from simulator.demand import Classes
from simulator.exact import Ints

__all__ = ["Backlog", "next_cheaper"]


def next_cheaper(price: Ints) -> Ints:
    """(T,) of each epoch the first later one that is cheaper; T and more where there is none."""
    count = len(price)
    found = np.full(count, 2 * count, dtype=np.int64)
    waiting: list[int] = []
    for at, each in enumerate(price.tolist()):
        while waiting and price[waiting[-1]] > each:
            found[waiting.pop()] = at
        waiting.append(at)
    return found


class Backlog:
    """Requests of the classes that may wait, by how many epochs they have left."""

    def __init__(self, classes: Classes, region: Ints, per_kwh: Ints) -> None:
        """Keep track of classes whose sites stand in `region` (N,), where a kWh costs `per_kwh` (R, T)."""
        self.waits = [int(c) for c in np.flatnonzero(classes.defer_epochs)]
        self._left = {c: np.zeros(int(classes.defer_epochs[c]) + 1, dtype=np.int64) for c in self.waits}
        self._cheaper = {}
        for c in self.waits:
            open_to = np.unique(region[classes.lawful[c]])
            if open_to.size:
                self._cheaper[c] = next_cheaper(per_kwh[open_to].min(axis=0))

    def due(self, c: int, epoch: int, arrivals: int) -> int:
        """Take in new requests of a class; how many want to be served now."""
        self._left[c][-1] += arrivals
        return int(self._left[c][: self._now(c, epoch)].sum())

    def served(self, c: int, epoch: int, requests: int) -> None:
        """So many were served, who had waited longest; all others have an epoch less."""
        left = self._left[c]
        due = left[: self._now(c, epoch)]
        before = np.cumsum(due) - due
        due -= np.clip(requests - before, 0, due)
        left[:-1] = left[1:].copy()
        left[-1] = 0

    def waiting(self, c: int) -> int:
        """Requests that wait."""
        return int(self._left[c].sum())

    def _now(self, c: int, epoch: int) -> int:
        """How many epochs a request may have left so that waiting on brings it no cheaper one."""
        if c not in self._cheaper:
            return len(self._left[c])
        return int(min(len(self._left[c]), max(1, self._cheaper[c][epoch] - epoch)))
