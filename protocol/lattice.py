"""The cheapest chain of spans as a shortest path over block boundaries, on numpy int64 arrays.

A state is (candidate, block just done). From it the path goes on in the same candidate, or leaves it and enters another
at the boundary. Hops are ``access_i + between[region_i, region_j] + access_j``, so it is enough to keep, at each
boundary, the cheapest way to have left each region: no pairs of candidates are ever compared. Any entry and any exit
inside a span is allowed; nothing is pruned, so the result is exact for its costs.

A route is a ring: its last leg sends each token back to the first. Closing it needs the first leg's region, so every
array has a leading axis for that region; with one region it has length 1. A route of one leg has no hops at all.

Costs are plain integers; `search` says what they mean. Their sum over a path stays below `INFINITE`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["INFINITE", "MAX_BLOCKS", "Bools", "Ints", "Lattice", "Path", "cheapest", "costs_through", "path_cost"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

INFINITE = 2**60
"""No path. Sums of two such values and of any path's cost stay below 2**62."""
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
    """(R, R) cost from region to region."""
    active: tuple[Ints, ...]
    """For each block the candidates that may serve it, rising."""


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What one pass over the blocks found; for each block with A active candidates:"""

    values: list[Ints]
    """(R, A) cheapest cost of having done the block in this candidate."""
    entered: list[Bools]
    """(R, A) whether that path entered the candidate at this block."""
    left: list[Ints]
    """(R, R) cheapest cost of having left a region after the block."""
    leaver: list[Ints]
    """(R, R) the candidate that does so."""
    came_from: list[Ints]
    """(R, R) from which region a path comes that arrives before the block; the first entry is unused."""


def _sweep(lattice: Lattice, entry: Ints) -> _Sweep:
    """Cheapest costs block by block; `entry` (R, R) is the cost of starting in each region, by the ring's region."""
    regions, candidates = len(lattice.between), len(lattice.region)
    found = _Sweep([], [], [], [], [np.zeros_like(entry)])
    arriving = entry
    value = np.full((regions, candidates), INFINITE, dtype=np.int64)
    for active in lattice.active:
        stay = value[:, active]
        enter = arriving[:, lattice.region[active]] + lattice.access[active]
        entered = enter < stay
        best = np.minimum(enter, stay) + lattice.block_cost[active]
        value = np.full_like(value, INFINITE)
        value[:, active] = best
        left, leaver = _leave(lattice, active, best)
        over = left[:, :, None] + lattice.between
        arriving = over.min(axis=1)
        found.values.append(best)
        found.entered.append(entered)
        found.left.append(left)
        found.leaver.append(leaver)
        found.came_from.append(over.argmin(axis=1))
    return found


def _leave(lattice: Lattice, active: Ints, best: Ints) -> tuple[Ints, Ints]:
    """Cheapest cost of having left each region, and who does so: (R, R) each, first axis the ring's region."""
    regions = len(lattice.between)
    left = np.full((regions, regions), INFINITE, dtype=np.int64)
    leaver = np.zeros((regions, regions), dtype=np.int64)
    leaving = best + lattice.access[active]
    bounds = np.searchsorted(lattice.region[active], np.arange(regions + 1))
    rings = np.arange(regions)
    for region in range(regions):
        low, high = bounds[region], bounds[region + 1]
        if low < high:
            first = leaving[:, low:high].argmin(axis=1)
            left[:, region] = leaving[rings, low + first]
            leaver[:, region] = active[low + first]
    return left, leaver


def _forward(lattice: Lattice) -> _Sweep:
    regions = len(lattice.between)
    return _sweep(lattice, np.where(np.eye(regions, dtype=bool), 0, INFINITE))


def cheapest(lattice: Lattice) -> Path | None:
    """The cheapest path through all blocks, or None where there is none."""
    alone = _cheapest_alone(lattice)
    if any(len(active) == 0 for active in lattice.active):
        return None
    sweep = _forward(lattice)
    closed = sweep.left[-1] + lattice.between.T
    ring, region = np.unravel_index(int(closed.argmin()), closed.shape)
    cost = int(closed[ring, region])
    if alone is not None and alone.cost <= cost:
        return alone
    if cost >= INFINITE:
        return None
    return Path(_walk_back(lattice, sweep, int(ring), int(region)), cost)


def _alone(lattice: Lattice) -> Ints:
    """The candidates that may serve every block."""
    count = np.bincount(np.concatenate(lattice.active), minlength=len(lattice.region))
    return np.nonzero(count == len(lattice.active))[0]


def _cheapest_alone(lattice: Lattice) -> Path | None:
    alone = _alone(lattice)
    if not len(alone):
        return None
    best = int(alone[lattice.block_cost[alone].argmin()])
    blocks = len(lattice.active)
    return Path(((best, 0, blocks),), int(lattice.block_cost[best]) * blocks)


def _walk_back(lattice: Lattice, sweep: _Sweep, ring: int, region: int) -> tuple[PathLeg, ...]:
    legs: list[PathLeg] = []
    end = block = len(lattice.active)
    candidate = int(sweep.leaver[-1][ring, region])
    while block > 0:
        block -= 1
        place = int(np.searchsorted(lattice.active[block], candidate))
        if sweep.entered[block][ring, place]:
            legs.append((candidate, block, end))
            end = block
            came_from = sweep.came_from[block][ring, int(lattice.region[candidate])]
            candidate = int(sweep.leaver[block - 1][ring, came_from])
    return tuple(reversed(legs))


def costs_through(lattice: Lattice) -> Ints:
    """(N,) the cost of the cheapest path that uses each candidate for at least one block; INFINITE or more: none."""
    blocks = len(lattice.active)
    forward = _forward(lattice)
    mirrored = dataclasses.replace(lattice, between=lattice.between.T, active=lattice.active[::-1])
    backward = _sweep(mirrored, np.ascontiguousarray(lattice.between.T))
    through = np.full(len(lattice.region), 2 * INFINITE, dtype=np.int64)
    for block, active in enumerate(lattice.active):
        both = forward.values[block] + backward.values[blocks - 1 - block] - lattice.block_cost[active]
        through[active] = np.minimum(through[active], both.min(axis=0))
    alone = _alone(lattice)
    through[alone] = np.minimum(through[alone], lattice.block_cost[alone] * blocks)
    return through


def path_cost(lattice: Lattice, legs: Sequence[PathLeg]) -> int:
    """What a path costs here, wherever it was found."""
    cost = sum(int(lattice.block_cost[i]) * (end - start) for i, start, end in legs)
    if len(legs) == 1:
        return cost
    for (here, _, _), (there, _, _) in zip(legs, [*legs[1:], legs[0]], strict=True):
        cost += int(lattice.access[here] + lattice.access[there])
        cost += int(lattice.between[lattice.region[here], lattice.region[there]])
    return cost
