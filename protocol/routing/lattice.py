"""The cheapest chain of spans as a shortest path over block boundaries, on numpy int64 arrays.

A state is (candidate, block just done). From it the path goes on in the same candidate, or leaves it and enters another
at the boundary. Hops are ``access_i + between[region_i, region_j] + access_j``, so it is enough to keep, at each
boundary, the cheapest way to have left each region: no pairs of candidates are ever compared. Any entry and any exit
inside a span is allowed; nothing is pruned that could be better, so the result is exact for its costs.

A route is a ring: its last leg sends each token back to the first. `cheapest` first sweeps over open chains, which is a
bound for all rings, and closes the best one. Only where that leaves a doubt does it sweep again, over the few cells and
first regions in which a cheaper ring could lie. A route of one leg has no hops at all.

Costs are plain integers; `search` says what they mean. Their sum over a path stays below `INFINITE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from protocol.routing.cells import INFINITE, Bools, Cells, Ints, Sweep, costs_of, sweep

__all__ = [
    "INFINITE",
    "MAX_BLOCKS",
    "Bools",
    "Ints",
    "Lattice",
    "Path",
    "PathLeg",
    "Programme",
    "cheapest",
    "path_cost",
    "reduced",
    "walk_back",
    "walk_on",
]

FEW_RINGS = 1
FEW_CELLS = 900
"""First regions and cells among which a good ring is sought, where more than `MOST_RINGED` of both are left."""
MOST_RINGED = 4_000
MOST_TOLD = 200_000
"""Cells and rings that are bounded one by one, to say what may go nowhere."""
MAX_BLOCKS = 256
"""Blocks of a model that can be routed; with it `search` keeps its costs in range."""

PathLeg = tuple[int, int, int]
"""Candidate, first block, end block."""


@dataclass(frozen=True, slots=True)
class Path:
    """A way through all blocks."""

    legs: tuple[PathLeg, ...]
    cost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """N candidates with their costs, R regions, and who may serve which block.

    Candidates stand in an order that does not depend on how they came in, and by region: of equal paths the one whose
    parts come first wins, and staying wins over a hop.
    """

    block_cost: Ints
    """(N,) cost of one block."""
    access: Ints
    """(N,) cost of entering, and again of leaving."""
    region: Ints
    """(N,) rising from 0 to below R."""
    between: Ints
    """(R, R) cost from region to region; `INFINITE` where there is no way."""
    cells: Cells
    most: Ints | None = None
    """(N,) blocks that a candidate may serve in one leg; None where all may serve their whole span."""


class Programme:
    """The sweeps over one lattice, each made when it is first needed."""

    def __init__(self, lattice: Lattice) -> None:
        self.lattice = lattice
        self._forward: Sweep | None = None
        self._backward: Sweep | None = None
        self._costs: tuple[Ints, Ints] | None = None

    @property
    def forward(self) -> Sweep:
        """Open chains from the first block on."""
        if self._forward is None:
            self._forward = self._sweep(np.zeros((1, len(self.lattice.between)), dtype=np.int64), back=False)
        return self._forward

    @property
    def backward(self) -> Sweep:
        """Open chains to the last block, from behind."""
        if self._backward is None:
            self._backward = self._sweep(np.zeros((1, len(self.lattice.between)), dtype=np.int64), back=True)
        return self._backward

    def _sweep(self, entry: Ints, *, back: bool) -> Sweep:
        lat = self.lattice
        if self._costs is None and len(entry) == 1:
            self._costs = costs_of(lat.cells, lat.block_cost, lat.access)
        costs = self._costs if len(entry) == 1 else None
        return sweep(lat.cells, lat.block_cost, lat.access, lat.between, entry, most=lat.most, back=back, costs=costs)

    @property
    def bound(self) -> int:
        """No ring of several legs costs less."""
        lattice = self.lattice
        return int((self.forward.left[-1] + lattice.between.min(axis=1)).min())

    def cheapest(self) -> Path | None:
        """The cheapest path through all blocks, or None where there is none."""
        lattice = self.lattice
        if lattice.cells.has_hole:
            return None
        best = self._alone()
        for nearer in (self.closed, self._closed_nearest):
            if best is not None and best.cost <= self.bound:
                return best
            best = min((each for each in (best, nearer()) if each is not None), key=_cost, default=None)
        upper = INFINITE if best is None else min(best.cost, INFINITE)
        return self._ring_below(upper) or best

    def _alone(self) -> Path | None:
        lattice = self.lattice
        blocks = lattice.cells.blocks
        alone = lattice.cells.everywhere(len(lattice.region))
        if lattice.most is not None:
            alone = alone[lattice.most[alone] >= blocks]
        if not len(alone):
            return None
        best = int(alone[lattice.block_cost[alone].argmin()])
        return Path(((best, 0, blocks),), int(lattice.block_cost[best]) * blocks)

    def closed(self) -> Path | None:
        """The best open chain, closed to a ring; it need not be the best ring."""
        lattice = self.lattice
        ends = self.forward.left[-1] + lattice.between.min(axis=1)
        last = int(ends.argmin())
        return None if ends[last] >= INFINITE else self._as_ring(walk_back(lattice, self.forward, 0, last))

    def _as_ring(self, legs: tuple[PathLeg, ...]) -> Path | None:
        cost = path_cost(self.lattice, legs)
        return None if cost >= INFINITE else Path(legs, cost)

    def _closed_nearest(self) -> Path | None:
        """The better of two chains, closed: from the first and to the last region of the ring with the least bound.
        They mostly meet it, and nothing is left to be looked for.
        """
        bounds = self._pair_bounds()
        first, last = divmod(int(bounds.argmin()), bounds.shape[1])
        if bounds[first, last] >= INFINITE:
            return None
        there, back = walk_on(self.lattice, self.backward, first), walk_back(self.lattice, self.forward, 0, last)
        rings = [ring for ring in (self._as_ring(there), self._as_ring(back)) if ring is not None]
        return min(rings, key=_cost, default=None)

    def _ring_below(self, upper: int) -> Path | None:
        """The cheapest ring that costs less than `upper`, if there is one."""
        rings = self.ring_bounds()
        if not (rings < upper).any():
            return None
        cells = self.cell_bounds()
        best: Path | None = None
        below = cells[cells < upper]
        if int((rings < upper).sum()) * len(below) > MOST_RINGED:
            # What looks best first: it leaves little to be looked at.
            few = min(FEW_CELLS, len(below) - 1)
            near = np.partition(rings, min(FEW_RINGS, len(rings)) - 1)[min(FEW_RINGS, len(rings)) - 1]
            best = self._ring_among(rings <= near, cells <= np.partition(below, few)[few], upper)
            upper = upper if best is None else best.cost
        return self._ring_among(rings < upper, cells < upper, upper) or best

    def _ring_among(self, starts: Bools, kept: Bools, upper: int) -> Path | None:
        """The cheapest ring below `upper` that begins in one of some regions and is of some cells."""
        if not starts.any():
            return None
        part, names, regions = reduced(self.lattice, kept)
        rings = np.flatnonzero(starts[regions])
        if part.cells.has_hole or not len(rings):
            return None
        entry = np.full((len(rings), len(regions)), INFINITE, dtype=np.int64)
        entry[np.arange(len(rings)), rings] = 0
        found = sweep(part.cells, part.block_cost, part.access, part.between, entry, most=part.most)
        closed = found.left[-1].reshape(len(rings), -1) + part.between.T[rings]
        ring, last = divmod(int(closed.argmin()), closed.shape[1])
        cost = int(closed[ring, last])
        if cost >= upper:
            return None
        legs = walk_back(part, found, ring, last)
        return Path(tuple((int(names[i]), start, end) for i, start, end in legs), cost)

    def ring_bounds(self) -> Ints:
        """(R,) no ring that begins in a region costs less."""
        least: Ints = self._pair_bounds().min(axis=1)
        return least

    def _pair_bounds(self) -> Ints:
        """(R, R) likewise of those that begin in the one region and end in the other."""
        ends, starts = self.forward.left[-1], self.backward.left[0]
        bounds: Ints = np.maximum(starts[:, None], ends) + self.lattice.between.T
        return bounds

    def cell_bounds(self) -> Ints:
        """(C,) no ring of several legs that uses a candidate for a block costs less."""
        lattice = self.lattice
        bounds = self.forward.values + self.backward.values
        bounds -= lattice.block_cost.take(lattice.cells.who)
        bounds += int(lattice.between.min())
        return bounds

    def _ringed_bounds(self) -> Ints:
        """As `cell_bounds`, ring by ring: where some hops are barred, an open chain may be one that never closes."""
        lattice = self.lattice
        rings, cells = len(lattice.between), lattice.cells
        entry = np.full((rings, rings), INFINITE, dtype=np.int64)
        np.fill_diagonal(entry, 0)
        there, back = self._sweep(entry, back=False), self._sweep(np.ascontiguousarray(lattice.between.T), back=True)
        through = there.values + back.values
        return np.concatenate(
            [
                through[rings * low : rings * high].reshape(rings, -1).min(axis=0) - lattice.block_cost[cells.at(block)]
                for block, (low, high) in enumerate(pairwise(cells.bounds))
            ]
        )

    def bounds_through(self) -> Ints:
        """(N,) no path that uses a candidate for at least one block costs less; INFINITE or more: there is none.

        With one region, and where nothing is capped, a path costs just so much.
        """
        lattice = self.lattice
        through = np.full(len(lattice.region), 2 * INFINITE, dtype=np.int64)
        if not lattice.cells.has_hole:
            rings = len(lattice.between) if int(lattice.between.max()) >= INFINITE else 1
            few = rings > 1 and rings * len(lattice.cells.who) <= MOST_TOLD
            np.minimum.at(through, lattice.cells.who, self._ringed_bounds() if few else self.cell_bounds())
        alone = lattice.cells.everywhere(len(lattice.region))
        through[alone] = np.minimum(through[alone], lattice.block_cost[alone] * lattice.cells.blocks)
        return through


def _cost(path: Path) -> int:
    return path.cost


def cheapest(lattice: Lattice) -> Path | None:
    """The cheapest path through all blocks, or None where there is none."""
    return Programme(lattice).cheapest()


def reduced(lattice: Lattice, kept: Bools) -> tuple[Lattice, Ints, Ints]:
    """The lattice with some cells alone; what its candidates and its regions are called in the whole."""
    used = np.zeros(len(lattice.region), dtype=bool)
    used[lattice.cells.who[kept]] = True
    names = np.flatnonzero(used)
    regions, region = np.unique(lattice.region[names], return_inverse=True)
    place = np.zeros(len(lattice.region), dtype=np.int64)
    place[names] = np.arange(len(names))
    part = Lattice(
        block_cost=lattice.block_cost[names],
        access=lattice.access[names],
        region=region,
        between=np.ascontiguousarray(lattice.between[np.ix_(regions, regions)]),
        cells=lattice.cells.part(kept, place, region),
        most=None if lattice.most is None else lattice.most[names],
    )
    return part, names, regions


def walk_back(lattice: Lattice, found: Sweep, ring: int, region: int, runs: Ints | None = None) -> tuple[PathLeg, ...]:
    """The legs of the cheapest path of a ring that leaves `region` last.

    Args:
        runs: of the lattice's cells, where they are known (`Cells.runs`).
    """
    regions = len(lattice.between)
    cells, legs = lattice.cells, list[PathLeg]()
    runs = cells.runs() if runs is None else runs
    end = cells.blocks
    while True:
        candidate, value, place = _cheapest_of(lattice, found, end - 1, ring, region)
        first = int(runs[candidate] if cells.starts is not None else runs[cells.bounds[end - 1] + place])
        start = _entry(lattice, found, ring, candidate, (first, end), value)
        legs.append((candidate, start, end))
        if start == 0:
            return tuple(reversed(legs))
        left = found.left[start - 1][ring * regions : (ring + 1) * regions]
        region = int((left + lattice.between[:, lattice.region[candidate]]).argmin())
        end = start


def walk_on(lattice: Lattice, found: Sweep, region: int) -> tuple[PathLeg, ...]:
    """The legs of the cheapest path that enters `region` first, from a sweep that went back."""
    cells, legs = lattice.cells, list[PathLeg]()
    start = 0
    while True:
        candidate, value, _ = _cheapest_of(lattice, found, start, 0, region)
        last = cells.run_end(candidate, start)
        if lattice.most is not None:
            last = min(last, start + int(lattice.most[candidate]))
        leaving = found.arriving[start:last, lattice.region[candidate]] + int(lattice.access[candidate])
        leaving += int(lattice.block_cost[candidate]) * np.arange(1, last - start + 1)
        end = last - int((leaving[::-1] == value).argmax())  # the longest of equals
        legs.append((candidate, start, end))
        if end == cells.blocks:
            return tuple(legs)
        region = int((found.left[end] + lattice.between[lattice.region[candidate]]).argmin())
        start = end


def _cheapest_of(lattice: Lattice, found: Sweep, block: int, ring: int, region: int) -> tuple[int, int, int]:
    """Who of a region has done a block cheapest, access included; what that costs without, and its place there."""
    who, values = lattice.cells.at(block), found.values_of(block, ring)
    low, high = lattice.cells.region[slice(*lattice.cells.bounds[block : block + 2])].searchsorted((region, region + 1))
    place = int(low) + int((values[low:high] + lattice.access[who[low:high]]).argmin())
    return int(who[place]), int(values[place]), place


def _entry(lattice: Lattice, found: Sweep, ring: int, candidate: int, run: tuple[int, int], value: int) -> int:
    """At which block a path entered a candidate, in which it has done a run of blocks at this cost: the first."""
    first, end = run
    if lattice.most is not None:
        first = max(first, end - int(lattice.most[candidate]))
    region = ring * len(lattice.between) + int(lattice.region[candidate])
    entering = found.arriving[first:end, region] + int(lattice.access[candidate])
    done = entering + int(lattice.block_cost[candidate]) * np.arange(end - first, 0, -1)
    return first + int((done == value).argmax())


def path_cost(lattice: Lattice, legs: Sequence[PathLeg]) -> int:
    """What a path costs here, wherever it was found."""
    cost = sum(int(lattice.block_cost[i]) * (end - start) for i, start, end in legs)
    if len(legs) == 1:
        return cost
    for (here, _, _), (there, _, _) in zip(legs, [*legs[1:], legs[0]], strict=True):
        cost += int(lattice.access[here] + lattice.access[there])
        cost += int(lattice.between[lattice.region[here], lattice.region[there]])
    return cost
