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
from dataclasses import dataclass, field, replace

import numpy as np

from protocol.candidates import Candidates, Found, Limits, broken, measure
from protocol.cells import INFINITE, Bools, Ints, sweep
from protocol.lattice import Lattice, Path, PathLeg, Programme, path_cost, reduced, walk_back

__all__ = ["cheapest_within"]

FEW = 256
"""Candidates among which the multiplier is sought."""
STEPS = 6
"""Multipliers that are tried at once."""
RINGS = 4
"""First regions of the rings among which it is sought."""
TRIES = ((500, 24), (1_500, 120), (5_000, 600))
"""Cells that labels are pushed through, and labels that are kept at one block: at first few, to find a good path soon,
then more where that was not enough. Beyond the last the gap is above 0."""
_APART = 2**36
"""Microseconds beyond any path's."""
MOST_TRIED = 64
"""Whole paths that are held against the limits, the cheapest first."""


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


def _mixed(costs: Lattice, times: Lattice, multiplier: int) -> Lattice:
    return replace(
        costs,
        block_cost=costs.block_cost + multiplier * times.block_cost,
        access=costs.access + multiplier * times.access,
        between=costs.between + multiplier * times.between,
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

    def multiplier(self) -> int:
        """What a microsecond should cost: of some that are tried the one with the best bound, then of some near it."""
        largest = int(self.times.block_cost.max() + self.times.access.max() + self.times.between.max())
        most = max(1, 2**56 // (4 * largest * self.costs.cells.blocks))
        took = measure(self.candidates, self.relaxed).latency_us
        guess = min(most, max(1, self.relaxed.cost // took))
        few, rings = self._few(guess)
        tried = sorted({min(most, max(1, guess * 2**step // 32)) for step in range(0, 2 * STEPS, 2)})
        bounds: dict[int, int] = {}
        for _ in range(2):
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
        programme = Programme(_mixed(self.costs, self.times, multiplier))
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
                self._note(walk_back(_mixed(costs, times, multiplier), found, at, int(closed[at].argmin())), names)
        return bounds

    def _try_all(self, multiplier: int) -> None:
        path = Programme(_mixed(self.costs, self.times, multiplier)).cheapest()
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
        programme = Programme(_mixed(self.costs, self.times, multiplier))
        bounds = programme.cell_bounds()
        least = 0
        for cells, labels in TRIES:
            assert self.best is not None
            below = self.best.cost
            kept = bounds < below + multiplier * self.limits.time_us
            left_out = 4 * INFINITE
            if int(kept.sum()) > cells:
                left_out = int(np.partition(bounds[kept], cells)[cells])
                kept &= bounds < left_out
            costs, times, names = self._reduced(kept)
            if costs.cells.has_hole:
                least = max(least, min(below, left_out - multiplier * self.limits.time_us))
            else:
                least = max(
                    least,
                    self._push(_Labels(costs, times, multiplier, self.limits.time_us, below, labels), names, left_out),
                )
            if least >= self.best.cost:
                break
        assert self.best is not None
        return Found(self.best, max(0, self.best.cost - max(least, self.relaxed.cost)))

    def _push(self, labels: _Labels, names: Ints, left_out: int) -> int:
        """Take the best path that labels find; no path that keeps the limits costs less than what is returned."""
        closed = labels.run()
        for _, legs in closed:
            before = self.best
            self._note(legs, names)
            if self.best is not before:
                break
        least = min(labels.below, labels.dropped, left_out - labels.multiplier * labels.time_us)
        return min(least, closed[0][0]) if closed else least


@dataclass(slots=True)
class _Labels:
    """Label setting over a small lattice. Each label is (place, ring, cost, time, entry): the place is a candidate, or
    the region that was left; a ring is known by the region of its first leg."""

    costs: Lattice
    times: Lattice
    multiplier: int
    time_us: int
    below: int
    """Only cheaper paths are looked for."""
    most: int
    """Labels that are kept at one block."""
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
        inside = hub = np.zeros((5, 0), dtype=np.int64)
        for block in range(costs.cells.blocks):
            who = costs.cells.at(block)
            inside = np.concatenate((self._staying(inside, who, block), self._entering(hub, who, block)), axis=1)
            inside = self._best(inside[:, _undominated(inside, regions)], who, block)
            hub = inside.copy()
            hub[0] = costs.region[inside[0]]
            hub[2] += costs.access[inside[0]]
            hub[3] += times.access[inside[0]]
            hub = hub[:, _undominated(hub, regions)]
        cost = hub[2] + costs.between[hub[0], hub[1]]
        lasts = hub[3] + times.between[hub[0], hub[1]] <= self.time_us
        order = np.flatnonzero(lasts & (cost < self.below))
        order = order[np.argsort(cost[order], kind="stable")]
        return [(int(cost[at]), self._legs(int(hub[4, at]))) for at in order[:MOST_TRIED]]

    def _bound(self) -> None:
        mixed = _mixed(self.costs, self.times, self.multiplier)
        cells = mixed.cells
        found = []
        for lattice in (mixed, self.times):
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
        mixed, time = self._left[block]
        worth = stays[2] + self.multiplier * stays[3] + mixed[stays[1], place] < self._limit
        worth &= stays[3] + time[stays[1], place] <= self.time_us
        return stays[:, worth]

    def _entering(self, hub: Ints, who: Ints, block: int) -> Ints:
        """Every label that has left some region, in every candidate of this block, with it done; likewise."""
        costs, times, region = self.costs, self.times, self.costs.region[who]
        cost, time = costs.access[who] + costs.block_cost[who], times.access[who] + times.block_cost[who]
        if block == 0:
            hub = np.zeros((5, len(who)), dtype=np.int64)
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
        label, place = np.nonzero(worth)
        count = len(label)
        self._parents.append(hub[4][label])
        self._entered.append((self._count, who[place]))
        numbers = np.arange(self._count, self._count + count)
        self._count += count
        return np.stack((who[place], hub[1][label], cost[worth], time[worth], numbers))

    def _best(self, inside: Ints, who: Ints, block: int) -> Ints:
        """As many as may be kept, by their bounds."""
        if inside.shape[1] <= self.most:
            return inside
        left = self._left[block][0][inside[1], np.searchsorted(who, inside[0])]
        mixed = inside[2] + self.multiplier * inside[3] + left
        order = np.argsort(mixed, kind="stable")
        self.dropped = min(self.dropped, int(mixed[order[self.most]]) - self.multiplier * self.time_us)
        return inside[:, np.sort(order[: self.most])]

    @property
    def _limit(self) -> int:
        return self.below + self.multiplier * self.time_us

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


def _undominated(labels: Ints, regions: int) -> Ints:
    """Which labels have no other of their place and ring that costs no more and is no later; one of equals."""
    group = labels[0] * regions + labels[1]
    order = labels[2].argsort(kind="stable")
    group = group[order]
    by_group = group.argsort(kind="stable")
    order, group = order[by_group], group[by_group]
    # Times of each group lie below all of the groups before: a running minimum begins anew with it.
    times = labels[3][order] - _APART * group
    kept = np.ones(len(order), dtype=bool)
    kept[1:] = times[1:] < np.minimum.accumulate(times)[:-1]
    return np.sort(order[kept])
