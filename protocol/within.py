"""The cheapest path whose time per token stays within a limit, exact or with a certified gap.

1. A Lagrange multiplier prices time until the cheapest paths on either side of the limit cost the same. It is sought on
   a few hundred candidates, the best by a first guess: any multiplier gives a bound, and a good one a narrow one.
2. One sweep each way over all candidates with this multiplier bounds every cell from below. Cells whose bound reaches
   the best path known are in no better one, and are dropped: a few hundred of hundreds of thousands are left.
3. Labels, pairs of cost and time, are pushed through what is left, block by block. A label is dropped where another in
   the same place is no worse in both, or where what it has still to pay is bound to break the limit or the best path.

Times are counted a little short here (a block's is rounded down), so that nothing is dropped that keeps the limit; the
path that comes out is held against the limit as it will be measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from protocol.candidates import Candidates, Found, Limits, broken, measure, repetition
from protocol.cells import INFINITE, Bools, Ints, sweep
from protocol.labels import MOST_ONCE, Labels, mixed
from protocol.lattice import Lattice, Path, PathLeg, Programme, path_cost, reduced, walk_back
from protocol.messages import MAX_LEGS

__all__ = ["cheapest_within"]

FEW = 256
"""Candidates among which the multiplier is sought."""
STEPS = 5
"""Multipliers that are tried at once."""
RINGS = 4
"""First regions of the rings among which it is sought."""
TRIES = ((500, 24), (12_000, 100), (12_000, 1_500))
"""Cells that labels are pushed through at most, and labels that are kept at one block: at first few, to find a good
path soon, then more where that was not enough. Beyond the last the gap is above 0."""
TURNS = 8
"""Times that labels are pushed anew because a path broke a limit that they did not know of."""
MOST_RINGED = 500
"""Cells beyond which each is bounded anew, ring by ring."""


def cheapest_within(candidates: Candidates, limits: Limits, lattice: Lattice, relaxed: Path) -> Found | None:
    """The cheapest path that keeps all limits, where only the time per token makes that hard; None where none was met.

    Args:
        lattice: of the candidates, without a cap on anybody's blocks.
        relaxed: its cheapest path, which takes too long.
    """
    search = _Search(candidates, limits, lattice, _times(candidates, lattice), relaxed)
    multiplier = search.multiplier()
    return None if search.best is None else search.exact(multiplier)


def _times(candidates: Candidates, lattice: Lattice) -> Lattice:
    """The same lattice with microseconds for costs."""
    c = candidates
    return replace(
        lattice,
        block_cost=c.position_us // (c.end - c.start),
        access=c.access_us,
        between=np.ascontiguousarray(c.between_us),
    )


_Few = tuple[Lattice, Lattice, Ints]
"""Costs and times of some candidates, and what they are called in all."""


@dataclass(slots=True)
class _Search:
    candidates: Candidates
    limits: Limits
    costs: Lattice
    times: Lattice
    relaxed: Path
    best: Path | None = None
    """The cheapest met that keeps all limits."""
    counts_legs: bool = False
    """Whether labels tell numbers of legs apart: a path had more than a route may."""
    once: tuple[int, ...] = ()
    """Providers of which labels know whether they were a leg already: a path came back to them."""

    def multiplier(self) -> int:
        """What a microsecond should cost: of some that are tried the one with the best bound, then of some near it."""
        self._try_alone()
        largest = int(self.times.block_cost.max() + self.times.access.max() + self.times.between.max())
        most = max(1, 2**56 // (4 * largest * self.costs.cells.blocks))
        took = measure(self.candidates, self.relaxed).latency_us
        guess = min(most, max(1, self.relaxed.cost // took))
        few, rings = self._few(guess)
        tried = sorted({min(most, max(1, guess * 2**step // 32)) for step in range(0, 2 * STEPS, 2)})
        bounds: dict[int, int] = {}
        for _ in range(3):
            bounds |= self._try(few, rings, tried)
            ordered = sorted(bounds)
            at = ordered.index(max(ordered, key=lambda each: bounds[each]))
            low, high = ordered[max(0, at - 1)], ordered[min(len(ordered) - 1, at + 1)]
            tried = sorted({low + (high - low) * step // (STEPS + 1) for step in range(1, STEPS + 1)} - set(ordered))
            if not tried:
                break
        if self.best is None:
            self._try_all(most)
        return max(bounds, key=lambda each: bounds[each])

    def _few(self, multiplier: int) -> tuple[_Few, Ints]:
        """What looks best with this multiplier: candidates, and first regions of rings."""
        programme = Programme(mixed(self.costs, self.times, multiplier))
        bounds, rings = programme.bounds_through(), programme.ring_bounds().argsort()[:RINGS]
        kept = np.ones(len(bounds), dtype=bool)
        if len(bounds) > FEW:
            kept = bounds <= np.partition(bounds, FEW)[FEW]
        kept[[leg[0] for leg in self.relaxed.legs]] = True
        cells = kept[self.costs.cells.who]
        costs, names, regions = reduced(self.costs, cells)
        return (costs, reduced(self.times, cells)[0], names), np.flatnonzero(np.isin(regions, rings))

    def _reduced(self, cells: Bools) -> _Few:
        costs, names, _ = reduced(self.costs, cells)
        return costs, reduced(self.times, cells)[0], names

    def _try(self, few: _Few, rings: Ints, multipliers: list[int]) -> dict[int, int]:
        """A bound, as far as these candidates and rings go, by each of some multipliers; good paths are remembered."""
        costs, times, names = few
        both: Ints = np.repeat(np.array(multipliers, dtype=np.int64), len(rings))
        first, weight = np.tile(rings, len(multipliers)), both[:, None]
        entry = np.full((len(both), len(costs.between)), INFINITE, dtype=np.int64)
        entry[np.arange(len(both)), first] = 0
        between = costs.between + weight[..., None] * times.between
        found = sweep(
            costs.cells,
            costs.block_cost + weight * times.block_cost,
            costs.access + weight * times.access,
            between,
            entry,
        )
        closed = found.left[-1].reshape(len(both), -1) + between[np.arange(len(both)), :, first]
        bounds: dict[int, int] = {}
        for number, multiplier in enumerate(multipliers):
            at = number * len(rings) + int(closed[number * len(rings) :][: len(rings)].min(axis=1).argmin())
            least = int(closed[at].min())
            bounds[multiplier] = least - multiplier * self.limits.time_us
            if least < INFINITE:
                self._note(walk_back(mixed(costs, times, multiplier), found, at, int(closed[at].argmin())), names)
        return bounds

    def _try_alone(self) -> None:
        """Routes of one leg have no hops: they are told apart here, once and for all."""
        alone = self.costs.cells.everywhere(len(self.costs.region))
        blocks = self.costs.cells.blocks
        for candidate in alone[self.costs.block_cost[alone].argsort(kind="stable")].tolist():
            self._note(((candidate, 0, blocks),), np.arange(len(self.costs.region)))
            if self.best is not None:
                break

    def _try_all(self, multiplier: int) -> None:
        path = Programme(mixed(self.costs, self.times, multiplier)).cheapest()
        if path is not None:
            self._note(path.legs, np.arange(len(self.costs.region)))

    def _note(self, legs: Sequence[PathLeg], names: Ints) -> int:
        """How long a token takes on a path; it is remembered where it is the best so far."""
        path = Path(tuple((int(names[i]), start, end) for i, start, end in legs), 0)
        cost = path_cost(self.costs, path.legs)
        if (self.best is None or cost < self.best.cost) and not broken(self.candidates, self.limits, path):
            self.best = Path(path.legs, cost)
        return measure(self.candidates, path).latency_us

    def exact(self, multiplier: int) -> Found:
        """The best path there is, or the best one met with its gap."""
        programme = Programme(mixed(self.costs, self.times, multiplier))
        bounds = programme.cell_bounds()
        least = self.relaxed.cost
        for cells, most in TRIES:
            assert self.best is not None
            below, limit = self.best.cost, self.best.cost + multiplier * self.limits.time_us
            kept = bounds < limit
            left_out = 4 * INFINITE
            if int(kept.sum()) > cells:
                left_out = int(np.partition(bounds[kept], cells)[cells])
                kept &= bounds < left_out
            if int(kept.sum()) > MOST_RINGED:
                kept = self._ringed(kept, multiplier, limit)
            few = self._reduced(kept)
            beyond = min(below, left_out - multiplier * self.limits.time_us)
            for _ in range(TURNS):
                told = self.counts_legs, self.once
                found = beyond if few[0].cells.has_hole else self._push(few, multiplier, below, most, beyond)
                if told == (self.counts_legs, self.once):
                    break
            least = max(least, found)
            if least >= self.best.cost:
                break
        assert self.best is not None
        return Found(self.best, max(0, self.best.cost - least))

    def _ringed(self, kept: Bools, multiplier: int, limit: int) -> Bools:
        """Which of some cells may be in a ring that costs less than `limit`, all rings bounded one by one."""
        costs, times, _ = self._reduced(kept)
        lattice = mixed(costs, times, multiplier)
        still = np.zeros(int(kept.sum()), dtype=bool)
        rings = np.flatnonzero(Programme(lattice).ring_bounds() < limit)
        if len(rings) and not lattice.cells.has_hole:
            entry = np.full((len(rings), len(lattice.between)), INFINITE, dtype=np.int64)
            entry[np.arange(len(rings)), rings] = 0
            there = sweep(lattice.cells, lattice.block_cost, lattice.access, lattice.between, entry)
            closing = np.ascontiguousarray(lattice.between.T[rings])
            back = sweep(lattice.cells, lattice.block_cost, lattice.access, lattice.between, closing, back=True)
            through = there.values + back.values
            for low, high in zip(lattice.cells.bounds, lattice.cells.bounds[1:], strict=False):
                of_block = through[len(rings) * low : len(rings) * high].reshape(len(rings), -1).min(axis=0)
                still[low:high] = of_block - lattice.block_cost[lattice.cells.who[low:high]] < limit
        found = kept.copy()
        found[kept] = still
        return found

    def _push(self, few: _Few, multiplier: int, below: int, most: int, beyond: int) -> int:
        """Take the best path that labels find; no path that keeps the limits costs less than what is returned."""
        costs, times, names = few
        bits = np.zeros(len(names), dtype=np.int64)
        for number, provider in enumerate(self.once):
            bits[self.candidates.provider[names] == provider] = 1 << number
        labels = Labels(costs, times, multiplier, self.limits.time_us, below, most, bits, self.counts_legs)
        closed = labels.run()
        if closed:
            self._tell_apart(closed[0][1], names)
        for _, legs in closed:
            before = self.best
            self._note(legs, names)
            if self.best is not before:
                break
        least = min(beyond, labels.dropped)
        return min(least, closed[0][0]) if closed else least

    def _tell_apart(self, legs: Sequence[PathLeg], names: Ints) -> None:
        """What labels are to know from now on, so that such a path is not taken for one that keeps the limits."""
        self.counts_legs |= len(legs) > MAX_LEGS
        path = Path(tuple((int(names[i]), start, end) for i, start, end in legs), 0)
        twice = repetition(self.candidates, path)
        if twice is not None and len(self.once) < MOST_ONCE:
            self.once = (*self.once, int(self.candidates.provider[path.legs[twice[0]][0]]))
