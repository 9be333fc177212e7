"""Label setting: the cheapest paths within a time through a few cells, each a chain of labels of cost and time.

A label is (place, ring, cost, time, entry, legs, been). The place is a candidate, or the region that was left; a ring
is known by the region of its first leg; an entry is how it came into its candidate; `been` has a bit for each provider
that is watched and was a leg already.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from protocol.cells import INFINITE, Ints, sweep
from protocol.lattice import Lattice, PathLeg
from protocol.messages import MAX_LEGS

__all__ = ["MOST_ONCE", "Labels", "mixed"]

APART = 2**36
"""Microseconds beyond any path's."""
MOST_ONCE = 7
"""Providers that may be watched for coming twice."""
MOST_TRIED = 64
"""Whole paths that are handed out, the cheapest first."""


def mixed(costs: Lattice, times: Lattice, multiplier: int) -> Lattice:
    """The costs with a microsecond at so much."""
    return replace(
        costs,
        block_cost=costs.block_cost + multiplier * times.block_cost,
        access=costs.access + multiplier * times.access,
        between=costs.between + multiplier * times.between,
    )


@dataclass(slots=True)
class Labels:
    """Pushes labels through a small lattice, once."""

    costs: Lattice
    times: Lattice
    multiplier: int
    time_us: int
    below: int
    """Only cheaper paths are looked for."""
    most: int
    """Labels that are kept at one block."""
    bits: Ints
    """(N,) a bit for each provider that must not come twice; 0 for those that are not watched."""
    counts_legs: bool
    dropped: int = 4 * INFINITE
    """No path that costs less than this was dropped for want of room."""
    _left: list[tuple[Ints, Ints]] = field(default_factory=list)
    """(K, A) the least that is still to pay after each block in each cell, back to the first region: mixed, in time."""
    _parents: list[Ints] = field(default_factory=list)
    _entered: list[tuple[int, Ints]] = field(default_factory=list)
    """For each block the number of entries before it, and their candidates."""
    _count: int = 0

    def run(self) -> list[tuple[int, tuple[PathLeg, ...]]]:
        """Paths with their costs, the cheapest first, by their counted times within the limit."""
        costs, times, regions = self.costs, self.times, len(self.costs.between)
        self._bound()
        inside = hub = np.zeros((7, 0), dtype=np.int64)
        for block in range(costs.cells.blocks):
            who = costs.cells.at(block)
            inside = np.concatenate((self._staying(inside, who, block), self._entering(hub, who, block)), axis=1)
            inside = self._best(inside[:, self._undominated(inside, regions)], who, block)
            hub = inside.copy()
            hub[0] = costs.region[inside[0]]
            hub[2] += costs.access[inside[0]]
            hub[3] += times.access[inside[0]]
            hub[6] |= self.bits[inside[0]]
            hub = hub[:, self._undominated(hub, regions)]
        cost = hub[2] + costs.between[hub[0], hub[1]]
        lasts = hub[3] + times.between[hub[0], hub[1]] <= self.time_us
        order = np.flatnonzero(lasts & (cost < self.below))
        order = order[np.argsort(cost[order], kind="stable")]
        return [(int(cost[at]), self._legs(int(hub[4, at]))) for at in order[:MOST_TRIED]]

    def _bound(self) -> None:
        both = mixed(self.costs, self.times, self.multiplier)
        cells = both.cells
        found = []
        for lattice in (both, self.times):
            # Every ring at once, from its end: back to the region that it began in.
            entry = np.ascontiguousarray(lattice.between.T)
            back = sweep(cells, lattice.block_cost, lattice.access, lattice.between, entry, back=True)
            found.append(
                [
                    back.values[len(entry) * low : len(entry) * high].reshape(len(entry), -1)
                    - lattice.block_cost[cells.who[low:high]]
                    for low, high in zip(cells.bounds, cells.bounds[1:], strict=False)
                ]
            )
        self._left = list(zip(*found, strict=True))

    def _staying(self, inside: Ints, who: Ints, block: int) -> Ints:
        """Labels that go on in their candidate, with this block done; less those that are bound to break a limit."""
        place = np.searchsorted(who, inside[0])
        place[place == len(who)] = 0
        kept = np.flatnonzero(who[place] == inside[0])
        stays, place = inside[:, kept], place[kept]
        stays[2] += self.costs.block_cost[stays[0]]
        stays[3] += self.times.block_cost[stays[0]]
        mixed_left, time_left = self._left[block]
        worth = stays[2] + self.multiplier * stays[3] + mixed_left[stays[1], place] < self._limit
        worth &= stays[3] + time_left[stays[1], place] <= self.time_us
        return stays[:, worth]

    def _entering(self, hub: Ints, who: Ints, block: int) -> Ints:
        """Every label that has left some region, in every candidate of this block, with it done; likewise."""
        costs, times, region = self.costs, self.times, self.costs.region[who]
        cost, time = costs.access[who] + costs.block_cost[who], times.access[who] + times.block_cost[who]
        if block == 0:
            hub = np.zeros((7, len(who)), dtype=np.int64)
            hub[1], hub[4] = region, -1
            cost = np.where(np.eye(len(who), dtype=bool), cost, INFINITE)
            time = np.broadcast_to(time, cost.shape)
        else:
            ways = np.ix_(hub[0], region)
            cost = hub[2][:, None] + costs.between[ways] + cost
            time = hub[3][:, None] + times.between[ways] + time
        mixed_left, time_left = self._left[block]
        worth = cost + self.multiplier * time + mixed_left[hub[1]] < self._limit
        worth &= time + time_left[hub[1]] <= self.time_us
        if self.counts_legs:
            worth &= (hub[5] < MAX_LEGS)[:, None]
        if self.bits.any():
            worth &= (hub[6][:, None] & self.bits[who]) == 0
        label, place = np.nonzero(worth)
        count = len(label)
        self._parents.append(hub[4][label])
        self._entered.append((self._count, who[place]))
        numbers = np.arange(self._count, self._count + count)
        self._count += count
        return np.stack(
            (who[place], hub[1][label], cost[worth], time[worth], numbers, hub[5][label] + 1, hub[6][label])
        )

    def _best(self, inside: Ints, who: Ints, block: int) -> Ints:
        """As many as may be kept, by their bounds."""
        if inside.shape[1] <= self.most:
            return inside
        left = self._left[block][0][inside[1], np.searchsorted(who, inside[0])]
        bound = inside[2] + self.multiplier * inside[3] + left
        order = np.argsort(bound, kind="stable")
        self.dropped = min(self.dropped, int(bound[order[self.most]]) - self.multiplier * self.time_us)
        return inside[:, np.sort(order[: self.most])]

    @property
    def _limit(self) -> int:
        return self.below + self.multiplier * self.time_us

    def _undominated(self, labels: Ints, regions: int) -> Ints:
        """Which labels have no other of their place and ring that costs no more and is no later; one of equals."""
        group = (labels[0] * regions + labels[1]) * 2**MOST_ONCE + labels[6]
        if self.counts_legs:
            group = group * (MAX_LEGS + 1) + labels[5]
        order = labels[2].argsort(kind="stable")
        group = group[order]
        by_group = group.argsort(kind="stable")
        order, group = order[by_group], group[by_group]
        new = np.ones(len(order), dtype=bool)
        new[1:] = group[1:] != group[:-1]
        # Times of each group lie below all of the groups before: a running minimum begins anew with it.
        times = labels[3][order] - APART * np.cumsum(new)
        kept = np.ones(len(order), dtype=bool)
        kept[1:] = times[1:] < np.minimum.accumulate(times)[:-1]
        return np.sort(order[kept])

    def _legs(self, entry: int) -> tuple[PathLeg, ...]:
        legs: list[PathLeg] = []
        end = block = self.costs.cells.blocks
        while entry >= 0:
            block -= 1
            while self._entered[block][0] > entry:
                block -= 1
            at = entry - self._entered[block][0]
            legs.append((int(self._entered[block][1][at]), block, end))
            entry, end = int(self._parents[block][at]), block
        return tuple(reversed(legs))
