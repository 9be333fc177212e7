"""The cheapest path whose time per token stays within a limit, exact or with a certified gap.

1. A Lagrange multiplier prices time until the cheapest paths on either side of the limit cost the same. Any multiplier
   gives a bound, and a good one a narrow one. It is sought by open chains, a sweep for each that is tried.
2. A sweep from behind bounds every cell. Cells whose bound reaches the best path known are in no better one, and are
   dropped: a few hundred of tens of thousands are left. Over these each ring has a multiplier of its own.
3. Labels, pairs of cost and time, are pushed through what is left, block by block. A label is dropped where another in
   the same place is no worse in both, or where what it has still to pay is bound to break the limit or the best path.

Times are counted a little short here (a block's is rounded down), so that nothing is dropped that keeps the limit; the
path that comes out is held against the limit as it will be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from protocol.routing.candidates import Candidates, Found, Limits, broken, measure, repetition
from protocol.routing.cells import INFINITE, Bools, Ints
from protocol.routing.labels import MOST_ONCE, Labels
from protocol.routing.lattice import Lattice, Path, PathLeg, Programme, path_cost
from protocol.routing.rings import Line, Rings, mixed, multiplier_between, reduced_both
from protocol.routing.routes import MAX_LEGS

__all__ = ["cheapest_within"]

STEPS = 4
MOST_STEPS = 6
"""Multipliers that are tried on all candidates; more where none of the paths was fast enough."""
ROUNDS = 3
"""Multipliers that are tried on each ring over few cells."""
TRIES = ((2_000, 3, 60), (12_000, 16, 100), (12_000, 64, 1_500))
"""Cells and rings that are looked at at most, and labels that are kept at one block: at first few, to find a good path
soon, then more where that was not enough. Beyond the last the gap is above 0."""
MANY = 1_000
"""Cells beyond which each is bounded anew, ring by ring."""
MOST_AT_ONCE = 2_500
"""Cells beyond which some are dropped before better multipliers are sought."""
TURNS = 8
"""Times that labels are pushed anew because a path broke a limit that they did not know of."""


def cheapest_within(candidates: Candidates, limits: Limits, lattice: Lattice, slow: Path, least: int) -> Found | None:
    """The cheapest path that keeps all limits, where only the time per token makes that hard; None where none was met.

    Args:
        lattice: of the candidates, without a cap on anybody's blocks.
        slow: a cheap path that takes too long.
        least: no path of several legs costs less.
    """
    took_us = measure(candidates, slow).latency_us
    search = _Search(candidates, limits, lattice, _times(candidates, lattice), (slow.cost, took_us), least)
    search.find_multiplier()
    return None if search.best is None else search.exact()


def _times(candidates: Candidates, lattice: Lattice) -> Lattice:
    """The same lattice with microseconds for costs."""
    c = candidates
    return replace(
        lattice,
        block_cost=c.position_us // (c.end - c.start),
        access=c.access_us,
        between=np.ascontiguousarray(c.between_us),
    )


@dataclass(slots=True)
class _Search:
    candidates: Candidates
    limits: Limits
    costs: Lattice
    times: Lattice
    slow: Line
    """Of a cheap path that takes too long."""
    least: int
    """No path of several legs costs less."""
    best: Path | None = None
    """The cheapest met that keeps all limits."""
    counts_legs: bool = False
    """Whether labels tell numbers of legs apart: a path had more than a route may."""
    once: tuple[int, ...] = ()
    """Providers of which labels know whether they were a leg already: a path came back to them."""
    multiplier: int = 0
    programme: Programme = field(init=False)
    """With a microsecond at the multiplier."""
    by_region: dict[int, int] = field(default_factory=dict)
    """The best multiplier met of rings that begin in a region."""

    def find_multiplier(self) -> None:
        """What a microsecond should cost: where the best paths that are too slow and fast enough cost the same."""
        self._try_alone()
        largest = int(self.times.block_cost.max() + self.times.access.max() + self.times.between.max())
        most = max(1, 2**56 // (4 * largest * self.costs.cells.blocks))
        slow = self.slow
        fast: tuple[int, int] | None = None
        tried: set[int] = set()
        following, best = min(most, max(1, slow[0] // slow[1])), -4 * INFINITE
        while len(tried) < (STEPS if fast else MOST_STEPS) and following not in tried:
            tried.add(following)
            programme = Programme(mixed(self.costs, self.times, following))
            path = programme.closed()
            bound = programme.bound - following * self.limits.time_us
            if bound > best:
                best, self.multiplier, self.programme = bound, following, programme
            if path is None:
                break
            line = path_cost(self.costs, path.legs), path_cost(self.times, path.legs)
            self._note(path.legs, line[0])
            if line[1] > self.limits.time_us:
                slow = line
            else:
                fast = line
            following = min(most, 4 * following if fast is None else multiplier_between(slow, fast))
        if self.best is None:
            path = Programme(mixed(self.costs, self.times, most)).cheapest()
            if path is not None:
                self._note(path.legs, path_cost(self.costs, path.legs))

    def _try_alone(self) -> None:
        """Routes of one leg have no hops: they are told apart here, once and for all."""
        alone = self.costs.cells.everywhere(len(self.costs.region))
        blocks = self.costs.cells.blocks
        for candidate in alone[self.costs.block_cost[alone].argsort(kind="stable")].tolist():
            self._note(((candidate, 0, blocks),), int(self.costs.block_cost[candidate]) * blocks)
            if self.best is not None:
                break

    def _note(self, legs: Sequence[PathLeg], cost: int) -> None:
        """Remember a path where it is the best so far that keeps all limits."""
        if self.best is None or cost < self.best.cost:
            path = Path(tuple(legs), cost)
            if not broken(self.candidates, self.limits, path):
                self.best = path

    def exact(self) -> Found:
        """The best path there is, or the best one met with its gap."""
        rings, cells = self._bounds()
        least = max(self.least, int(rings.min()))
        for most_cells, most_rings, most_labels in TRIES:
            assert self.best is not None
            starts, beyond = _least(rings, self.best.cost, most_rings)
            least = max(least, self._among(np.flatnonzero(starts), cells, most_cells, most_labels, beyond))
            if least >= self.best.cost:
                break
            nearest = int(rings.argmin())
            multiplier = self.by_region.get(nearest, self.multiplier)
            if multiplier != self.multiplier:
                self.multiplier, self.programme = multiplier, Programme(mixed(self.costs, self.times, multiplier))
                again = self._bounds()
                np.maximum(rings, again[0], out=rings)
                np.maximum(cells, again[1], out=cells)
        assert self.best is not None
        return Found(self.best, max(0, self.best.cost - least))

    def _bounds(self) -> tuple[Ints, Ints]:
        """By the region that it begins in, and by cell, what no ring that keeps to the time costs less than."""
        worth = self.multiplier * self.limits.time_us
        return self.programme.ring_bounds() - worth, self.programme.cell_bounds() - worth

    def _among(self, starts: Ints, cells: Ints, most_cells: int, most: int, beyond: int) -> int:
        """Take the best path of rings that begin in some regions; no path that keeps the limits costs less than what is
        returned, if none that begins elsewhere costs less than `beyond`.

        Args:
            cells: (C,) what no ring that uses them costs less than.
            most_cells: that are looked at.
            most: labels that are kept at one block.
        """
        assert self.best is not None
        kept, left_out = _least(cells, self.best.cost, most_cells)
        beyond = min(beyond, left_out)
        rings, named = self._rings(starts, kept)
        if len(rings.costs.cells.who) > MOST_AT_ONCE:
            rings, named = self._fewer(rings, named)
        if not rings.count:
            return min(beyond, self.best.cost)
        before = self.best.cost
        rings.narrow(ROUNDS, self.slow, partial(self._note_named, named))
        self.by_region |= dict(zip(rings.origin.tolist(), rings.multiplier.tolist(), strict=True))
        if rings.count and beyond < self.best.cost and most < TRIES[-1][2]:
            return min(beyond, int(rings.least.min()))
        if rings.count and self.best.cost < before and len(rings.costs.cells.who) > MANY:
            rings, named = self._rings(rings.origin, kept & (cells < self.best.cost))
        rings, named = self._fewer(rings, named)
        if not rings.count:
            return min(beyond, self.best.cost)
        rings.bound()
        for _ in range(TURNS):
            told = self.counts_legs, self.once
            found = self._push(rings, named, most)
            if told == (self.counts_legs, self.once):
                break
        return min(beyond, found)

    def _rings(self, starts: Ints, kept: Bools) -> tuple[Rings, list[int]]:
        """Rings that begin in some regions, over some cells, and what candidates are called in all; no ring where these
        cells leave a block out.
        """
        costs, times, names, regions = reduced_both(self.costs, self.times, kept)
        first = np.flatnonzero(np.isin(regions, starts))
        if costs.cells.has_hole:
            first = first[:0]
        multipliers = [self.by_region.get(region, self.multiplier) for region in regions[first].tolist()]
        made = np.array(multipliers, dtype=np.int64)
        return Rings(costs, times, first, made, self.limits.time_us, regions[first]), names.tolist()

    def _fewer(self, rings: Rings, named: list[int]) -> tuple[Rings, list[int]]:
        """The rings over the cells that may be in a better path, where there are many."""
        assert self.best is not None
        if not rings.count or len(rings.costs.cells.who) <= MANY:
            return rings, named
        fewer, names = rings.reduced(self.best.cost)
        return fewer, [named[i] for i in names.tolist()]

    def _note_named(self, named: list[int], legs: Sequence[PathLeg], cost: int) -> int:
        self._note([(named[i], start, end) for i, start, end in legs], cost)
        assert self.best is not None
        return self.best.cost

    def _push(self, rings: Rings, named: list[int], most: int) -> int:
        """Take the best path that labels find; no path of these rings that keeps the limits costs less than this."""
        assert self.best is not None
        providers = self.candidates.provider[named]
        bits = np.zeros(len(named), dtype=np.int64)
        for number, provider in enumerate(self.once):
            bits[providers == provider] = 1 << number
        below = self.best.cost
        labels = Labels(rings, below, most, bits, self.counts_legs)
        closed = labels.run()
        if closed:
            self._tell_apart(closed[0][1], named)
        for cost, legs in closed:
            if self._note_named(named, legs, cost) < below:
                break
        least = min(below, labels.dropped)
        return min(least, closed[0][0]) if closed else least

    def _tell_apart(self, legs: Sequence[PathLeg], named: list[int]) -> None:
        """What labels are to know from now on, so that such a path is not taken for one that keeps the limits."""
        self.counts_legs |= len(legs) > MAX_LEGS
        path = Path(tuple((named[i], start, end) for i, start, end in legs), 0)
        twice = repetition(self.candidates, path)
        if twice is not None and len(self.once) < MOST_ONCE:
            self.once = (*self.once, int(self.candidates.provider[path.legs[twice[0]][0]]))


def _least(bounds: Ints, below: int, most: int) -> tuple[Bools, int]:
    """Which are below, at most so many of the least; and the least bound of those that are left out for that."""
    kept = bounds < below
    if int(kept.sum()) <= most:
        return kept, 4 * INFINITE
    left_out = int(np.partition(bounds[kept], most)[most])
    return bounds < left_out, left_out
