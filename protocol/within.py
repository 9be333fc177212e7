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

from dataclasses import dataclass, field, replace

import numpy as np

from protocol.candidates import Candidates, Found, Limits, broken, measure
from protocol.cells import INFINITE, Ints, sweep
from protocol.lattice import Lattice, Path, PathLeg, Programme, path_cost, reduced
from protocol.units import ceil_div

__all__ = ["cheapest_within"]

FEW = 320
"""Candidates among which the multiplier is sought."""
TURNS = 6
MOST_LABELS = 6_000
"""That are kept at one block: beyond, the gap is above 0."""
_APART = 2**40
"""Microseconds beyond any path's."""
MOST_TRIED = 64
"""Whole paths that are held against the limits, the cheapest first."""


def cheapest_within(candidates: Candidates, limits: Limits, lattice: Lattice, relaxed: Path) -> Found | None:
    """The cheapest path that keeps all limits, where only the time per token makes that hard; None where none was met.

    Args:
        lattice: of the candidates, without a cap on anybody's blocks.
        relaxed: its cheapest path, which takes too long.
    """
    times = _times(candidates, lattice)
    search = _Search(candidates, limits, lattice, times, relaxed)
    multiplier = search.multiplier()
    if search.best is None:
        return None
    return search.exact(multiplier)


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
        """What a microsecond should cost."""
        took = measure(self.candidates, self.relaxed).latency_us
        largest = int(self.times.block_cost.max() + self.times.access.max() + self.times.between.max())
        most = max(1, 2**56 // (4 * largest * self.costs.cells.blocks))
        guess = min(most, max(1, self.relaxed.cost // max(1, took)))
        few = self._few(guess)
        fast = self._try(few, most) or self._try_all(most)
        if fast is None:
            return guess
        slow = (self.relaxed.cost, took)
        for _ in range(TURNS):
            if fast[0] <= slow[0] or slow[1] <= fast[1]:
                break
            guess = min(most, max(1, ceil_div(fast[0] - slow[0], slow[1] - fast[1])))
            met = self._try(few, guess, lawful=False)
            if met is None or met in (fast, slow):
                break
            fast, slow = (met, slow) if met[1] <= self.limits.time_us else (fast, met)
        return guess

    def _few(self, multiplier: int) -> _Few:
        """Costs and times of the candidates that look best with this multiplier, and what they are called in all."""
        bounds = Programme(_mixed(self.costs, self.times, multiplier)).bounds_through()
        kept = np.ones(len(bounds), dtype=bool)
        if len(bounds) > FEW:
            kept = bounds <= np.partition(bounds, FEW)[FEW]
        kept[[leg[0] for leg in self.relaxed.legs]] = True
        cells = kept[self.costs.cells.who]
        costs, names, _ = reduced(self.costs, cells)
        times, _, _ = reduced(self.times, cells)
        return costs, times, names

    def _try(
        self, few: tuple[Lattice, Lattice, Ints], multiplier: int, *, lawful: bool = True
    ) -> tuple[int, int] | None:
        """Cost and time of a good path with this multiplier; None where there is none, or it had to keep the limits."""
        costs, times, names = few
        path = Programme(_mixed(costs, times, multiplier)).closed()
        if path is None:
            return None
        return self._note(Path(tuple((int(names[i]), start, end) for i, start, end in path.legs), 0), lawful=lawful)

    def _try_all(self, multiplier: int) -> tuple[int, int] | None:
        path = Programme(_mixed(self.costs, self.times, multiplier)).cheapest()
        return None if path is None else self._note(path, lawful=True)

    def _note(self, path: Path, *, lawful: bool) -> tuple[int, int] | None:
        keeps = not broken(self.candidates, self.limits, path)
        if lawful and not keeps:
            return None
        cost = path_cost(self.costs, path.legs)
        if keeps and (self.best is None or cost < self.best.cost):
            self.best = Path(path.legs, cost)
        return cost, measure(self.candidates, path).latency_us

    def exact(self, multiplier: int) -> Found:
        """The best path there is, or the best one met with its gap."""
        best = self.best
        assert best is not None
        programme = Programme(_mixed(self.costs, self.times, multiplier))
        most = best.cost + multiplier * self.limits.time_us
        kept = programme.cell_bounds() < most
        costs, names, _ = reduced(self.costs, kept)
        if costs.cells.has_hole:
            return Found(best, self._gap(best, best.cost))
        times, _, _ = reduced(self.times, kept)
        labels = _Labels(costs, times, multiplier, self.limits.time_us, best.cost)
        closed = labels.run()
        least = min(best.cost, labels.dropped)
        for cost, legs in closed[:MOST_TRIED]:
            path = Path(tuple((int(names[i]), start, end) for i, start, end in legs), cost)
            if not broken(self.candidates, self.limits, path):
                self.best = best = path if cost < best.cost else best
                break
        if closed:
            least = min(least, closed[0][0])
        return Found(best, self._gap(best, least))

    def _gap(self, best: Path, least: int) -> int:
        return max(0, best.cost - max(least, self.relaxed.cost))


@dataclass(slots=True)
class _Labels:
    """Label setting over a small lattice: each label is (place, first region, cost, time, entry)."""

    costs: Lattice
    times: Lattice
    multiplier: int
    time_us: int
    below: int
    """Only cheaper paths are looked for."""
    dropped: int = 4 * INFINITE
    """Paths that cost less than this were not dropped for want of room."""
    _left: list[list[Ints]] = field(default_factory=list)
    """The least that is still to pay after each block in each cell: mixed, in time, in cost."""
    _parents: list[Ints] = field(default_factory=list)
    _entered: list[tuple[int, Ints]] = field(default_factory=list)
    """For each block the number of entries before it, and their candidates."""
    _count: int = 0

    def run(self) -> list[tuple[int, tuple[PathLeg, ...]]]:
        """Paths with their costs, the cheapest first, by their counted times within the limit."""
        costs, regions = self.costs, len(self.costs.between)
        self._bound()
        inside = np.zeros((5, 0), dtype=np.int64)  # candidate, first region, cost, time, entry
        hub = inside
        for block in range(costs.cells.blocks):
            who = costs.cells.at(block)
            inside = np.concatenate((inside[:, np.isin(inside[0], who)], self._entering(hub, who, block)), axis=1)
            inside[2] += costs.block_cost[inside[0]]
            inside[3] += self.times.block_cost[inside[0]]
            inside = self._pruned(inside, block, who)
            hub = inside.copy()
            hub[0] = costs.region[inside[0]]
            hub[2] += costs.access[inside[0]]
            hub[3] += self.times.access[inside[0]]
            hub = hub[:, _undominated(hub, regions)]
        cost = hub[2] + costs.between[hub[0], hub[1]]
        lasts = hub[3] + self.times.between[hub[0], hub[1]] <= self.time_us
        order = np.flatnonzero(lasts & (cost < self.below))
        order = order[np.argsort(cost[order], kind="stable")]
        return [(int(cost[at]), self._legs(int(hub[4, at]))) for at in order[:MOST_TRIED]]

    def _bound(self) -> None:
        for lattice in (_mixed(self.costs, self.times, self.multiplier), self.times, self.costs):
            entry = np.zeros((1, len(lattice.between)), dtype=np.int64)
            back = sweep(lattice.cells, lattice.block_cost, lattice.access, lattice.between, entry, back=True)
            closing = int(lattice.between.min())
            values = [
                value - lattice.block_cost[lattice.cells.at(block)] + closing
                for block, value in enumerate(reversed(back.values))
            ]
            self._left.append(values)

    def _entering(self, hub: Ints, who: Ints, block: int) -> Ints:
        """Every label that has left some region, into every candidate of this block."""
        costs, times = self.costs, self.times
        region = costs.region[who]
        if block == 0:
            first = np.arange(len(who))
            cost, time, entry = costs.access[who], times.access[who], np.full(len(who), -1)
            ring = region
        else:
            labels, first = (each.ravel() for each in np.indices((hub.shape[1], len(who))))
            ways = hub[0][labels], region[first]
            cost = hub[2][labels] + costs.between[ways] + costs.access[who[first]]
            time = hub[3][labels] + times.between[ways] + times.access[who[first]]
            ring, entry = hub[1][labels], hub[4][labels]
        entering = np.stack((who[first], ring, cost, time, entry))
        # What cannot be worth it goes at once: there are many.
        left = self._left
        own = costs.block_cost[entering[0]], times.block_cost[entering[0]]
        mixed = cost + own[0] + self.multiplier * (time + own[1]) + left[0][block][first]
        worth = (mixed < self.below + self.multiplier * self.time_us) & (
            time + own[1] + left[1][block][first] <= self.time_us
        )
        entering = entering[:, worth]
        entering = entering[:, _undominated(entering, len(costs.between))]
        self._parents.append(entering[4].copy())
        self._entered.append((self._count, entering[0].copy()))
        entering[4] = np.arange(self._count, self._count + entering.shape[1])
        self._count += entering.shape[1]
        return entering

    def _pruned(self, inside: Ints, block: int, who: Ints) -> Ints:
        """Less those that break a limit, are bound to, or are no better than another in the same place."""
        place = np.searchsorted(who, inside[0])
        mixed = inside[2] + self.multiplier * inside[3] + self._left[0][block][place]
        worth = mixed < self.below + self.multiplier * self.time_us
        worth &= inside[3] + self._left[1][block][place] <= self.time_us
        worth &= inside[2] + self._left[2][block][place] < self.below
        kept = np.flatnonzero(worth)
        kept = kept[_undominated(inside[:, kept], len(self.costs.between))]
        if len(kept) > MOST_LABELS:
            order = np.argsort(mixed[kept], kind="stable")
            self.dropped = min(self.dropped, int(mixed[kept[order[MOST_LABELS]]]) - self.multiplier * self.time_us)
            kept = np.sort(kept[order[:MOST_LABELS]])
        return inside[:, kept]

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
    order = np.lexsort((labels[3], labels[2], group))
    if not len(order):
        return order
    group = group[order]
    # Times of each group lie below all of the groups before: a running minimum begins anew with it.
    times = labels[3][order] - _APART * np.cumsum(np.diff(group, prepend=group[0]) != 0)
    kept = np.ones(len(order), dtype=bool)
    kept[1:] = times[1:] < np.minimum.accumulate(times)[:-1]
    return np.sort(order[kept])
