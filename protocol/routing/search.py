"""The cheapest path that also keeps limits of a route as a whole: price caps, times, legs, one leg each.

Without limits `lattice.cheapest` is exact. Where its answer breaks one:

- A provider that appears twice (it could not serve one session as two legs) is branched on, best bound first: it serves
  nothing before the end of its first leg, or nothing after the start of its second, or all in between by one offer
  (in each of the stretches that a cap on its blocks allows).
  Every lawful route is in one of the three, so the first answer without a repetition is the cheapest.
- Where only the time per token is broken, `within` finds the cheapest path that keeps it.
- For the other limits prices, times and legs are weighed anew, some dozens of times, and the cheapest answer that keeps
  all limits is taken. How far it can at most be from the best is known and returned.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from protocol.routing.candidates import (
    Candidates,
    Found,
    Limit,
    Limits,
    Weights,
    broken,
    lattice_of,
    measure,
    repetition,
)
from protocol.routing.cells import Cells
from protocol.routing.lattice import Path, Programme, cheapest, path_cost
from protocol.routing.routes import MAX_LEGS
from protocol.routing.within import cheapest_within
from protocol.units import ceil_div

__all__ = ["find", "unreachable"]

_ROOM = 2**56
"""What extra weight on one part of the cost may add to a path."""
_ROUNDS = 32
_MAX_BRANCHES = 48
_FEW_BRANCHES = 8
_MAX_REPAIRS = 8


def find(candidates: Candidates, limits: Limits, weights: Weights, programme: Programme | None = None) -> Found | None:
    """The cheapest path within the limits, or the best that could be found with its gap; None when none was found.

    Args:
        programme: of the lattice of `candidates` under `weights`, where its sweeps are of use to others, too.
    """
    programme = Programme(lattice_of(candidates, weights)) if programme is None else programme
    found = None
    chain = None if candidates.most is not None else programme.closed()
    if chain is not None and Limit.TIME in broken(candidates, limits, chain):
        # The best ring is nearly always too slow as well; what is found here is exact even where it is not.
        found = cheapest_within(candidates, limits, programme.lattice, chain, programme.bound)
        if found is not None and not found.gap:
            return found
    relaxed = programme.cheapest()
    if relaxed is None:
        return None
    problems = broken(candidates, limits, relaxed)
    if not problems:
        return Found(relaxed, 0)
    if found is not None:
        return found
    if unreachable(candidates, limits) is not None:
        return None
    if problems == {Limit.TWICE}:
        once = _once_each(candidates, weights, programme.lattice.cells, _MAX_BRANCHES)
        if once is not None and not broken(candidates, limits, once):
            return Found(once, 0)
    return _Weighing(candidates, limits, weights, relaxed).run()


def unreachable(candidates: Candidates, limits: Limits) -> tuple[Limit, int] | None:
    """A limit that no path at all keeps, and the least that a path needs there; None where each alone can be kept."""
    for limit, most, weights in (
        (Limit.PRICE_IN, limits.price_in, Weights(1000, 0, 0)),
        (Limit.PRICE_OUT, limits.price_out, Weights(0, 1000, 0)),
        (Limit.TIME, limits.time_us, Weights(0, 0, 1000)),
        (Limit.FIRST, limits.first_us, Weights(0, 0, 0, first=1000)),
    ):
        path = None if most is None else cheapest(lattice_of(candidates, weights))
        if path is not None and most is not None:
            # A cost rounds each block up, a limit whole legs: only what is beyond doubt counts.
            least = ceil_div(max(0, path.cost - candidates.blocks), 1000)
            if least > most:
                return limit, least
    return None


# Weighing anew


@dataclass(slots=True)
class _Multiplier:
    """Extra weight on what a limit is about: raised while the limit is broken, then halved in on."""

    step: int
    most: int
    value: int = 0
    low: int = 0
    high: int | None = None

    def move(self, broken: bool) -> bool:
        """Whether there is something new to try."""
        before = self.value
        if broken:
            self.low = self.value
            grown = min(self.most, max(self.step, self.value * 4))
            self.value = grown if self.high is None else (self.low + self.high) // 2
        elif self.value > self.low:
            self.high = self.value
            self.value = (self.low + self.high) // 2
        return self.value != before


class _Weighing:
    """Lagrangian search: each limit's multiplier is halved in on, all at once; every path that keeps all limits counts.

    For any multipliers, the cost with them less what the limits allow of each is a bound that no lawful path is below.
    """

    def __init__(self, candidates: Candidates, limits: Limits, weights: Weights, relaxed: Path) -> None:
        self._candidates, self._limits, self._weights = candidates, limits, weights
        self._lattice = lattice_of(candidates, weights)
        self._best: Path | None = None
        self._bound = relaxed.cost
        self._repairs = _MAX_REPAIRS
        self._allowed = {
            Limit.PRICE_IN: limits.price_in or 0,
            Limit.PRICE_OUT: limits.price_out or 0,
            Limit.TIME: limits.time_us,
            Limit.FIRST: limits.first_us or 0,
            Limit.LEGS: MAX_LEGS,
        }
        c, taken = candidates, measure(candidates, relaxed)
        hop_us = 2 * int(c.access_us.max()) + int(c.between_us.max())
        self._multipliers = {
            limit: _Multiplier(max(2, relaxed.cost // max(1, amount) // 64), _ROOM // max(1, largest * c.blocks))
            for limit, amount, largest in (
                (Limit.PRICE_IN, taken.price_in, int(c.price_in.max())),
                (Limit.PRICE_OUT, taken.price_out, int(c.price_out.max())),
                (Limit.TIME, taken.latency_us, int(c.position_us.max()) + hop_us),
                (Limit.FIRST, taken.first_us, int((c.position_us + c.prompt_us).max()) + hop_us),
                (Limit.LEGS, len(relaxed.legs), 1),
            )
        }

    def run(self) -> Found | None:
        """The best path met, with its gap; None where none kept the limits."""
        for _ in range(_ROUNDS):
            problems = self._try({limit: multiplier.value for limit, multiplier in self._multipliers.items()})
            if Limit.TWICE in problems:
                problems.add(Limit.LEGS)
            moved = [multiplier.move(limit in problems) for limit, multiplier in self._multipliers.items()]
            if not any(moved):
                break
        for limit, multiplier in self._multipliers.items():
            if self._best is None:
                self._try({limit: multiplier.most})
        return None if self._best is None else Found(self._best, max(0, self._best.cost - self._bound))

    def _try(self, extra: dict[Limit, int]) -> set[Limit]:
        """Take the cheapest path with this `extra` weight into account; the limits that it breaks."""
        w = self._weights
        weights = Weights(
            w.price_in + extra.get(Limit.PRICE_IN, 0),
            w.price_out + extra.get(Limit.PRICE_OUT, 0),
            w.latency + extra.get(Limit.TIME, 0),
            extra.get(Limit.LEGS, 0) // 2 * 2,
            extra.get(Limit.FIRST, 0),
        )
        lattice = lattice_of(self._candidates, weights, self._lattice.cells)
        path = cheapest(lattice)
        if path is None:
            return set()
        # `blocks`: each block's cost is rounded up.
        allowed = sum(value * self._allowed[limit] for limit, value in extra.items()) + self._candidates.blocks
        self._bound = max(self._bound, path.cost - allowed)
        problems = broken(self._candidates, self._limits, path)
        if Limit.TWICE in problems and self._repairs and self._best is None:
            self._repairs -= 1
            once = _once_each(self._candidates, weights, lattice.cells, _FEW_BRANCHES)
            if once is not None:
                path, problems = once, broken(self._candidates, self._limits, once)
        if not problems:
            cost = path_cost(self._lattice, path.legs)
            if self._best is None or cost < self._best.cost:
                self._best = Path(path.legs, cost)
        return problems


# One leg for each provider


def _once_each(candidates: Candidates, weights: Weights, cells: Cells, most: int) -> Path | None:
    """The cheapest path without a repetition; None when there is none, or when the search was given up."""
    queue: list[tuple[int, int, Path, Cells]] = []
    serial = 0
    branches: list[Cells] = [cells]
    for _ in range(most):
        for branch in branches:
            path = cheapest(lattice_of(candidates, weights, branch))
            if path is not None:
                serial += 1
                heapq.heappush(queue, (path.cost, serial, path, branch))
        if not queue:
            return None
        _, _, path, cells = heapq.heappop(queue)
        repeated = repetition(candidates, path)
        if repeated is None:
            return path
        branches = list(_branches(candidates, path, repeated, cells))
    return None


def _branches(candidates: Candidates, path: Path, repeated: tuple[int, int], cells: Cells) -> Iterator[Cells]:
    """Who may serve which block, in each of the cases that together hold every path without this repetition."""
    first, second = (path.legs[at] for at in repeated)
    leaves, returns = first[2], second[1]
    provider = candidates.provider[first[0]]
    block, others = cells.block_of_each(), candidates.provider[cells.who] != provider
    yield cells.part(others | (block >= leaves))
    yield cells.part(others | (block < returns))
    inside = (block >= leaves - 1) & (block <= returns)
    for candidate in np.flatnonzero(candidates.provider == provider):
        alone = cells.who == candidate
        if int((alone & inside).sum()) == returns - leaves + 2:
            for window in _windows(candidates, int(candidate), leaves - 1, returns + 1):
                yield cells.part((~inside | alone) & (~alone | ((window[0] <= block) & (block < window[1]))))


def _windows(candidates: Candidates, candidate: int, first: int, end: int) -> Iterator[tuple[int, int]]:
    """Where one leg of a candidate that holds some blocks may lie: in one of these, each as long as a leg may be.

    Within such a window nothing is gained by leaving and coming back, which is how a path gets round a cap.
    """
    start, stop = int(candidates.start[candidate]), int(candidates.end[candidate])
    most = stop - start if candidates.most is None else min(stop - start, int(candidates.most[candidate]))
    for low in range(max(start, end - most), min(first, stop - most) + 1):
        yield low, low + most
