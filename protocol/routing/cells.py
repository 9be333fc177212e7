"""Who may serve which block, cell by cell, and one sweep of costs over these cells: what `lattice` is made of.

A cell is a candidate and a block of its span. Cells lie block by block, and by region within a block, so that one step
of a sweep works on slices: a dozen numpy calls, whatever the number of candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["INFINITE", "Bools", "Cells", "Ints", "Sweep", "costs_of", "sweep"]

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_FEW = 12_000
"""Candidates up to which all blocks are looked at in one go."""
_MANY = 250_000
"""Cells whose costs are fetched block by block: what is made for all at once does not stay near the processor."""
_MOST_AT_HAND = 2**24
"""Bytes of an array up to which memory stays with the process when the array is gone."""
INFINITE = 2**60
"""No path. Sums of two such values and of any path's cost stay below 2**62."""


# The C library hands large arrays back to the system as they go, and has each page of the next one mapped and zeroed
# again: a third of the time of a route. It raises its bounds for that with the largest array that it ever gave back.
np.empty(_MOST_AT_HAND, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Cells:
    """C cells over B blocks."""

    who: Ints
    """(C,) candidates, rising within a block."""
    region: Ints
    """(C,) of the candidate."""
    bounds: list[int]
    """(B + 1) where the cells of each block begin."""
    heads: Ints
    """Where, counted from the first cell of the block, another region begins."""
    head_region: Ints
    """The region that begins there."""
    head_bounds: list[int]
    """(B + 1) where the heads of each block begin."""
    starts: Ints | None
    """(N,) the first block of each candidate, where nobody has a hole in its span; None where somebody may."""
    ends: Ints | None
    """(N,) the end of each one's span; None where `starts` are."""

    @classmethod
    def of(cls, start: Ints, end: Ints, region: Ints, blocks: int) -> Cells:
        """All blocks of all spans of candidates that stand by region."""
        kind = np.uint8 if blocks < 256 else np.uint16
        low: Any = start.astype(kind)
        length: Any = (end - start).astype(kind)
        block = np.arange(blocks, dtype=kind)[:, None]
        if len(start) <= _FEW:
            who = np.flatnonzero(_within(block, low, length))
            bounds = np.searchsorted(who, np.arange(blocks + 1) * len(start))
            who -= np.repeat(np.arange(blocks) * len(start), np.diff(bounds))
        else:
            holders = [np.flatnonzero(_within(each, low, length)) for each in block]
            bounds = np.cumsum([0, *map(len, holders)])
            who = np.concatenate(holders)
        return cls._made(who, region.take(who), bounds, starts=start, ends=end)

    @classmethod
    def _made(cls, who: Ints, region: Ints, bounds: Ints, *, starts: Ints | None, ends: Ints | None) -> Cells:
        new = np.ones(len(who), dtype=bool)
        np.not_equal(region[1:], region[:-1], out=new[1:])
        new[bounds[:-1][bounds[:-1] < len(who)]] = True
        heads = np.flatnonzero(new)
        head_bounds = np.searchsorted(heads, bounds)
        head_region = region.take(heads)
        heads -= np.repeat(bounds[:-1], np.diff(head_bounds))
        return cls(who, region, bounds.tolist(), heads, head_region, head_bounds.tolist(), starts, ends)

    @property
    def blocks(self) -> int:
        """Of the whole model."""
        return len(self.bounds) - 1

    @property
    def has_hole(self) -> bool:
        """Whether nobody may serve some block."""
        return any(low == high for low, high in zip(self.bounds, self.bounds[1:], strict=False))

    def at(self, block: int) -> Ints:
        """Who may serve a block."""
        return self.who[self.bounds[block] : self.bounds[block + 1]]

    def runs(self) -> Ints:
        """(N,) the first block of each candidate, where nobody has a hole in its span; else (C,) for each cell the
        first block from which its candidate may serve all blocks up to it.
        """
        if self.starts is not None:
            return self.starts
        block = self.block_of_each()
        order = np.argsort(self.who * self.blocks + block, kind="stable")
        who, block = self.who[order], block[order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (who[1:] != who[:-1]) | (block[1:] != block[:-1] + 1)
        runs = np.empty(len(order), dtype=np.int64)
        runs[order] = block[new][new.cumsum() - 1]
        return runs

    def run_end(self, candidate: int, block: int) -> int:
        """The end of the blocks that a candidate may serve from one on that it may serve."""
        if self.ends is not None:
            return int(self.ends[candidate])
        end = block + 1
        while end < self.blocks and self.holds(candidate, end):
            end += 1
        return end

    def holds(self, candidate: int, block: int) -> bool:
        """Whether a candidate may serve a block."""
        who = self.at(block)
        place = int(who.searchsorted(candidate))
        return place < len(who) and int(who[place]) == candidate

    def block_of_each(self) -> Ints:
        """(C,) the block of each cell."""
        return np.repeat(np.arange(self.blocks), np.diff(self.bounds))

    def everywhere(self, candidates: int) -> Ints:
        """The candidates that may serve every block."""
        first, last = np.zeros(candidates, dtype=bool), self.at(self.blocks - 1)
        first[self.at(0)] = True
        both: Ints = last[first[last]]
        if not len(both) or self.starts is not None:
            return both
        whole: Ints = both[np.bincount(self.who, minlength=candidates)[both] == self.blocks]
        return whole

    def part(self, kept: Bools, names: Ints | None = None, region: Ints | None = None) -> Cells:
        """Some of the cells.

        Args:
            names: what candidates are called from now on, where that changes; their order stays.
            region: (N,) of these, by their new names.
        """
        at = np.flatnonzero(kept)
        who = self.who[at]
        if names is not None:
            who = names[who]
        bounds = at.searchsorted(self.bounds)
        return Cells._made(who, self.region[at] if region is None else region[who], bounds, starts=None, ends=None)

    def copies(self, rings: int, candidates: int, regions: int) -> Cells:
        """The same cells several times over, as if for so many times the candidates and regions."""
        if rings == 1:
            return self
        sizes = np.repeat(np.diff(self.bounds), rings)
        ring = np.repeat(np.tile(np.arange(rings), self.blocks), sizes)
        # Where each run of cells, of one block and one ring, begins: in the cells, and in the copies.
        source = np.repeat(np.repeat(self.bounds[:-1], rings) - (sizes.cumsum() - sizes), sizes)
        source += np.arange(len(source))
        bounds = np.array(self.bounds) * rings
        who, region = self.who[source] + ring * candidates, self.region[source] + ring * regions
        starts, ends = (None if each is None else np.tile(each, rings) for each in (self.starts, self.ends))
        return Cells._made(who, region, bounds, starts=starts, ends=ends)


def _within(block: Any, low: Any, length: Any) -> Any:
    """Whether a block is at or above `low` by less than a length; in unsigned numbers what is below lies far above."""
    return (block - low) < length


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one pass over the blocks found, in the order in which it went over them; K rings one after another."""

    rings: int
    bounds: list[int]
    """(B + 1) where the values of each block begin."""
    values: Ints
    """(K * C,) for each cell the cheapest cost of having done its block in its candidate, by block and then by ring."""
    arriving: Ints
    """(B, K * R) cheapest cost of coming into each region before a block, on the side that the sweep comes from."""
    left: Ints
    """(B, K * R) cheapest cost of having left each region after it."""

    def values_of(self, block: int, ring: int) -> Ints:
        """Those of one ring in one block."""
        values = self.values[self.bounds[block] : self.bounds[block + 1]]
        size = len(values) // self.rings
        return values[ring * size : (ring + 1) * size]


def costs_of(cells: Cells, block_cost: Ints, access: Ints) -> tuple[Ints, Ints] | None:
    """(C,) the cost of each cell's block, and the access of its candidate; None where there are too many."""
    return None if len(cells.who) > _MANY else (block_cost.take(cells.who), access.take(cells.who))


def sweep(
    cells: Cells,
    block_cost: Ints,
    access: Ints,
    between: Ints,
    entry: Ints,
    *,
    most: Ints | None = None,
    back: bool = False,
    costs: tuple[Ints, Ints] | None = None,
) -> Sweep:
    """Cheapest costs block by block.

    Args:
        block_cost: (N,), or (K, N) where it differs by ring; so do `access` and, as (K, R, R), `between`.
        entry: (K, R) cost of starting in each region, for each of K rings.
        most: (N,) blocks of one leg, where somebody may not serve its whole span.
        back: from the last block to the first.
        costs: of each cell the cost of its block and the access, where they are at hand (`costs_of`).
    """
    rings, regions = entry.shape
    candidates = block_cost.shape[-1]
    cells = cells.copies(rings, candidates, regions)
    block_cost = np.broadcast_to(block_cost, (rings, candidates)).reshape(-1)
    access = np.broadcast_to(access, (rings, candidates)).reshape(-1)
    most = None if most is None else np.tile(most, rings)
    capped = most is not None and int(most.min(initial=cells.blocks)) < cells.blocks
    runs = _Runs(most, cells.blocks, block_cost) if most is not None and capped else None
    ways = np.ascontiguousarray(between.swapaxes(-1, -2) if back else between)
    barred = int(between.max(initial=0)) >= INFINITE
    hops = np.empty((rings, regions, regions), dtype=np.int64)
    cost_of, access_of = (costs or costs_of(cells, block_cost, access)) or (None, None)
    value = np.full(len(block_cost), INFINITE, dtype=np.int64)
    values = np.empty(len(cells.who), dtype=np.int64)
    arrivals = np.empty((cells.blocks, rings * regions), dtype=np.int64)
    lefts = np.full((cells.blocks, rings * regions), INFINITE, dtype=np.int64)
    all_who, all_region, bounds, whole = cells.who, cells.region, cells.bounds, cells.starts is not None
    arriving, every = entry.reshape(-1), rings * regions
    for step, block in enumerate(range(cells.blocks - 1, -1, -1) if back else range(cells.blocks)):
        low, high = bounds[block], bounds[block + 1]
        arrivals[block] = arriving
        left = lefts[block]
        if low < high:
            who, best = all_who[low:high], values[low:high]
            here = access.take(who) if access_of is None else access_of[low:high]
            np.add(arriving.take(all_region[low:high]), here, out=best)
            young = None if runs is None else runs.step(step, who, best)
            np.minimum(best, value.take(who), out=best)
            best += block_cost.take(who) if cost_of is None else cost_of[low:high]
            if young is not None:
                best[young[0]] = young[1]
            if not whole:
                value.fill(INFINITE)
            value[who] = best
            first, last = cells.head_bounds[block], cells.head_bounds[block + 1]
            least = np.minimum.reduceat(best + here, cells.heads[first:last])
            if last - first == every:  # a head for each, in their order
                left[:] = least
            else:
                left[cells.head_region[first:last]] = least
        elif not whole:
            value.fill(INFINITE)
        np.add(left.reshape(rings, regions, 1), ways, out=hops)
        arriving = np.minimum.reduce(hops, axis=1).reshape(-1)
        if barred:  # so that what is no way stays in range
            np.minimum(arriving, INFINITE, out=arriving)
    return Sweep(rings, bounds, values, arrivals, lefts)


class _Runs:
    """Costs of candidates that may serve only so many blocks in one leg: for each the entries that are still young
    enough, as the cost of entering less that of the blocks before. Its least is a sliding-window minimum.
    """

    def __init__(self, most: Ints, blocks: int, block_cost: Ints) -> None:
        self._most, self._cost = most, block_cost
        self._capped = most < blocks
        self._width = int(most[self._capped].max(initial=1))
        self._row = np.cumsum(self._capped) - 1
        rows = int(self._capped.sum())
        self._entries = np.full((rows, self._width), 2 * INFINITE, dtype=np.int64)
        self._last = np.full(rows, -2, dtype=np.int64)
        """The step in which each was active last."""

    def step(self, step: int, who: Ints, enter: Ints) -> tuple[Ints, Ints]:
        """Which of `who` are capped, and what it costs to have done this step's block in them.

        Args:
            enter: the cost of coming into each of them now.
        """
        places = np.flatnonzero(self._capped[who])
        capped, entries = who[places], self._entries
        row, most, cost = self._row[capped], self._most[capped], self._cost[capped]
        entries[row[self._last[row] != step - 1]] = 2 * INFINITE
        self._last[row] = step
        entries[row, (step - most) % self._width] = 2 * INFINITE
        entries[row, step % self._width] = enter[places] - cost * step
        return places, entries[row].min(axis=1) + cost * (step + 1)
