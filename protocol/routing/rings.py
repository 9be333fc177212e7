"""Rings over some cells, known by the region that they begin in, each with its own price of a microsecond.

Rings that begin elsewhere are other problems: where they are bounded one by one, each by the multiplier that is best
for it, far fewer are left in doubt than by one multiplier for all. They are swept over side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress, pairwise

import numpy as np

from protocol.routing.cells import INFINITE, Bools, Ints, Sweep, sweep
from protocol.routing.lattice import Lattice, PathLeg, path_cost, reduced, walk_back

__all__ = ["Line", "Note", "Rings", "mixed", "multiplier_between", "reduced_both"]


def mixed(costs: Lattice, times: Lattice, multiplier: int) -> Lattice:
    """The costs with a microsecond at so much."""
    return replace(
        costs,
        block_cost=costs.block_cost + multiplier * times.block_cost,
        access=costs.access + multiplier * times.access,
        between=costs.between + multiplier * times.between,
    )


def reduced_both(costs: Lattice, times: Lattice, kept: Bools) -> tuple[Lattice, Lattice, Ints, Ints]:
    """Both lattices with some cells alone; what their candidates and their regions are called in the whole."""
    part, names, regions = reduced(costs, kept)
    between = np.ascontiguousarray(times.between[np.ix_(regions, regions)])
    timed = replace(part, block_cost=times.block_cost[names], access=times.access[names], between=between)
    return part, timed, names, regions


Note = Callable[[Sequence[PathLeg], int], int]
"""Takes in a path and its cost, and says what the best one costs."""
Line = tuple[int, int]
"""What a path costs and takes: with a microsecond at x it costs ``cost + x * time``."""


def multiplier_between(slow: Line, fast: Line) -> int:
    """What a microsecond costs where the two cost the same."""
    return max(0, fast[0] - slow[0]) // max(1, slow[1] - fast[1])


@dataclass(slots=True)
class Rings:
    """K rings; `narrow` finds multipliers and paths, `bound` what is left to pay and to wait from each cell on."""

    costs: Lattice
    times: Lattice
    """The same lattice with microseconds for costs."""
    first: Ints
    """(K,) the region that each begins in."""
    multiplier: Ints
    """(K,) what a microsecond costs in each."""
    time_us: int
    """Of a path, at most."""
    origin: Ints
    """(K,) what these regions are called by whoever asks."""
    least: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(K,) no ring costs less, of those that keep to the time."""
    block: Ints = field(init=False)
    """(2, K, N) cost with its time priced, and time, of a block; likewise what follows."""
    access: Ints = field(init=False)
    """(2, K, N) of leaving a candidate."""
    entering: Ints = field(init=False)
    """(2, K, N) of entering it and doing a block."""
    ways: Ints = field(init=False)
    """(2, K, R, R) from region to region."""
    _bounds: list[int] = field(init=False)
    _left: Ints = field(init=False)
    _left_from_hub: Ints = field(init=False)
    _runs: Ints | None = None

    @property
    def count(self) -> int:
        """Rings."""
        return len(self.first)

    def narrow(self, rounds: int, slow: Line, note: Note) -> None:
        """Raise the bounds by better multipliers, and drop the rings that cannot be below the best path.

        Args:
            slow: a path that takes too long.
        """
        most = int(self.multiplier.max(initial=1)) * 2**12
        self._runs = self.costs.cells.runs()
        slows, fasts = [slow] * self.count, list[Line | None]([None] * self.count)
        self.least = np.full(self.count, -INFINITE)
        best = self.multiplier.copy()
        for _ in range(rounds):
            found, closed = self._chains()
            last = closed.argmin(axis=1)
            values = closed[np.arange(self.count), last] - self.multiplier * self.time_us
            better = values > self.least
            self.least[better], best[better] = values[better], self.multiplier[better]
            below, tried = INFINITE, self.multiplier.tolist()
            for ring in np.flatnonzero(values < INFINITE // 2).tolist():
                lattice = mixed(self.costs, self.times, tried[ring])
                legs = walk_back(lattice, found, ring, int(last[ring]), self._runs)
                line = path_cost(self.costs, legs), path_cost(self.times, legs)
                below = note(legs, line[0])
                if line[1] > self.time_us:
                    slows[ring] = line
                else:
                    fasts[ring] = line
                fast = fasts[ring]
                tried[ring] = min(most, 2 * tried[ring] + 1) if fast is None else multiplier_between(slows[ring], fast)
            kept = self.least < below
            moved = self.multiplier != tried
            self.multiplier = np.array(tried, dtype=np.int64)
            self._keep(kept)
            best = best[kept]
            slows, fasts = list(compress(slows, kept)), list(compress(fasts, kept))
            if not self.count or not moved[kept].any():
                break
        self.multiplier = best

    def reduced(self, below: int) -> tuple[Rings, Ints]:
        """These rings over the cells in which one of them may cost less; what candidates are called here."""
        found, closed = self._chains()
        block_cost, access, between = self._priced()
        least = closed.min(axis=1) - self.multiplier * self.time_us
        least = np.maximum(least, self.least) if len(self.least) else least
        closing = np.ascontiguousarray(between[np.arange(self.count), :, self.first])
        back = sweep(self.costs.cells, block_cost, access, between, closing, back=True)
        bounds = self.costs.cells.bounds
        limit = (below + self.multiplier * self.time_us)[:, None] + block_cost
        kept = np.empty(bounds[-1], dtype=bool)
        through = found.values + back.values
        for low, high in pairwise(bounds):
            of_block = through[self.count * low : self.count * high].reshape(self.count, -1)
            kept[low:high] = (of_block < limit[:, self.costs.cells.who[low:high]]).any(axis=0)
        costs, times, names, regions = reduced_both(self.costs, self.times, kept)
        first = np.searchsorted(regions, self.first)
        there = (least < below) & (not costs.cells.has_hole) & (first < len(regions))
        there &= regions[np.minimum(first, len(regions) - 1)] == self.first
        rings = Rings(
            costs, times, first[there], self.multiplier[there], self.time_us, self.origin[there], least[there]
        )
        return rings, names

    def _keep(self, kept: Bools) -> None:
        self.first, self.multiplier, self.least = self.first[kept], self.multiplier[kept], self.least[kept]
        self.origin = self.origin[kept]

    def _priced(self) -> tuple[Ints, Ints, Ints]:
        """Costs of blocks, access and ways in each ring, time included."""
        weight = self.multiplier[:, None]
        return (
            self.costs.block_cost + weight * self.times.block_cost,
            self.costs.access + weight * self.times.access,
            self.costs.between + weight[..., None] * self.times.between,
        )

    def _chains(self) -> tuple[Sweep, Ints]:
        """A sweep over the rings, and (K, R) what each costs that leaves a region last."""
        block_cost, access, between = self._priced()
        entry = np.full((self.count, between.shape[1]), INFINITE, dtype=np.int64)
        entry[np.arange(self.count), self.first] = 0
        found = sweep(self.costs.cells, block_cost, access, between, entry)
        closing = between[np.arange(self.count), :, self.first]
        return found, found.left[-1].reshape(self.count, -1) + closing

    def bound(self) -> None:
        """Find what is left from each cell on, at the multipliers of now."""
        costs, times = self.costs, self.times
        block_cost, access, between = self._priced()
        closing = np.ascontiguousarray(between[np.arange(self.count), :, self.first])
        back = sweep(costs.cells, block_cost, access, between, closing, back=True)
        closing = np.ascontiguousarray(times.between.T[self.first])
        back_times = sweep(times.cells, times.block_cost, times.access, times.between, closing, back=True)

        def both(priced: Ints, timed: Ints) -> Ints:
            return np.stack((priced, np.broadcast_to(timed, priced.shape)))

        self.block, self.access = both(block_cost, times.block_cost), both(access, times.access)
        self.entering, self.ways = self.block + self.access, both(between, times.between)
        self._left = np.stack((back.values, back_times.values))
        self._bounds = back.bounds
        self._left_from_hub = np.stack((back.arriving, back_times.arriving)).reshape(
            2, len(back.arriving), self.count, -1
        )

    def left(self, block: int) -> Ints:
        """(2, K, N) of the least that is still to pay after a block in each candidate, and of that in time; where it
        may not serve it, `INFINITE`.
        """
        who = self.costs.cells.at(block)
        left = np.full((2, self.count, len(self.costs.region)), INFINITE, dtype=np.int64)
        values = self._left[:, self._bounds[block] : self._bounds[block + 1]].reshape(2, self.count, -1)
        left[:, :, who] = values - self.block[:, :, who]
        return left

    def left_from_hub(self, block: int) -> Ints:
        """(2, K, R) of the least that is still to pay after a block when a region was left, and of that in time."""
        left: Ints = self._left_from_hub[:, block]
        return left
