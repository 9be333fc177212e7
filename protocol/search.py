"""The cheapest path that also keeps limits of a route as a whole: price caps, time per token, legs, one leg each.

Without limits `lattice.cheapest` is exact. Where its answer breaks one:

- A provider that appears twice (it could not serve one session as two legs) is branched on, best bound first: it serves
  nothing before the end of its first leg, or nothing after the start of its second, or all in between by one offer.
  Every lawful route is in one of the three, so the first answer without a repetition is the cheapest.
- For the other limits prices, time and legs are weighed anew, some dozens of times, and the cheapest answer that keeps
  all limits is taken. How far it can at most be from the best is known and returned.

The cost of a path is ``price_in * w_in + price_out * w_out + microseconds * w_time``: in thousandths of a micro-unit
per million tokens when ``w_in + w_out`` is 1000 and ``w_time`` in micro-units per millisecond. A candidate's cost for
one block is its cost for its whole span over the span's length, rounded up.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from protocol.lattice import Ints, Lattice, Path, cheapest, path_cost
from protocol.messages import MAX_LEGS
from protocol.units import ceil_div

__all__ = [
    "MAX_LATENCY_WEIGHT",
    "Candidates",
    "Found",
    "Limit",
    "Limits",
    "Weights",
    "find",
    "lattice_of",
    "measure",
    "unreachable",
]

MAX_LATENCY_WEIGHT = 10_000_000
"""Micro-units per million tokens for one millisecond. With it, `MAX_BLOCKS` blocks, prices to `tariff.MAX_PRICE` and
10 s at most for a block or a hop, the cost of a path stays below 2**60."""
_ROOM = 2**56
"""What extra weight on one part of the cost may add to a path."""
_ROUNDS = 32
_MAX_BRANCHES = 48
_FEW_BRANCHES = 8
_MAX_REPAIRS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """N offers that the policy admits, as columns, in the order that `Lattice` asks for."""

    provider: Ints
    """(N,) equal for offers of one provider."""
    start: Ints
    end: Ints
    price_in: Ints
    price_out: Ints
    position_us: Ints
    """Of the whole span, like the prices."""
    access_us: Ints
    """Half the round trip to the machine."""
    region: Ints
    between_us: Ints
    """(R, R) one way."""
    blocks: int
    """Of the whole model."""


@dataclass(frozen=True, slots=True)
class Weights:
    """What a path's cost is made of."""

    price_in: int
    price_out: int
    latency: int
    leg: int = 0
    """Cost of each leg of a route of several; even."""


class Limit(StrEnum):
    """What a path can break."""

    PRICE_IN = "price-in"
    PRICE_OUT = "price-out"
    TIME = "time"
    LEGS = "legs"
    TWICE = "twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of a route as a whole."""

    price_in: int | None
    price_out: int | None
    time_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a path costs and takes, as its legs will be paid and run."""

    price_in: int
    price_out: int
    latency_us: int


@dataclass(frozen=True, slots=True)
class Found:
    """A path that keeps all limits."""

    path: Path
    gap: int
    """The cheapest possible is at most this much below; 0 when it is this one."""


def lattice_of(candidates: Candidates, weights: Weights, active: tuple[Ints, ...] | None = None) -> Lattice:
    """The costs of `candidates` under `weights`; each may serve its span unless `active` says less."""
    c = candidates
    whole = c.price_in * weights.price_in + c.price_out * weights.price_out + c.position_us * weights.latency
    return Lattice(
        block_cost=-(-whole // (c.end - c.start)),
        access=c.access_us * weights.latency + weights.leg // 2,
        region=c.region,
        between=c.between_us * weights.latency,
        active=spans_of(c) if active is None else active,
    )


def spans_of(candidates: Candidates) -> tuple[Ints, ...]:
    """For each block the candidates whose span holds it."""
    start, end = candidates.start, candidates.end
    return tuple(np.nonzero((start <= block) & (block < end))[0] for block in range(candidates.blocks))


def measure(candidates: Candidates, path: Path) -> Measures:
    """Prices by leg and time round the ring, each part rounded up."""
    c = candidates
    price_in = price_out = latency = 0
    for i, start, end in path.legs:
        length, used = int(c.end[i] - c.start[i]), end - start
        price_in += ceil_div(int(c.price_in[i]) * used, length)
        price_out += ceil_div(int(c.price_out[i]) * used, length)
        latency += ceil_div(int(c.position_us[i]) * used, length)
    if len(path.legs) > 1:
        for (here, _, _), (there, _, _) in zip(path.legs, [*path.legs[1:], path.legs[0]], strict=True):
            latency += int(c.access_us[here] + c.access_us[there] + c.between_us[c.region[here], c.region[there]])
    return Measures(price_in=price_in, price_out=price_out, latency_us=latency)


def broken(candidates: Candidates, limits: Limits, path: Path) -> set[Limit]:
    """The limits that `path` does not keep."""
    measured = measure(candidates, path)
    checks = {
        Limit.PRICE_IN: limits.price_in is not None and measured.price_in > limits.price_in,
        Limit.PRICE_OUT: limits.price_out is not None and measured.price_out > limits.price_out,
        Limit.TIME: measured.latency_us > limits.time_us,
        Limit.LEGS: len(path.legs) > MAX_LEGS,
        Limit.TWICE: _repetition(candidates, path) is not None,
    }
    return {limit for limit, holds in checks.items() if holds}


def find(candidates: Candidates, limits: Limits, weights: Weights) -> Found | None:
    """The cheapest path within the limits, or the best that could be found with its gap; None when none was found."""
    lattice = lattice_of(candidates, weights)
    relaxed = cheapest(lattice)
    if relaxed is None:
        return None
    problems = broken(candidates, limits, relaxed)
    if not problems:
        return Found(relaxed, 0)
    if unreachable(candidates, limits) is not None:
        return None
    if problems == {Limit.TWICE}:
        once = _once_each(candidates, weights, lattice.active, _MAX_BRANCHES)
        if once is not None and not broken(candidates, limits, once):
            return Found(once, 0)
    return _Weighing(candidates, limits, weights, relaxed).run()


def unreachable(candidates: Candidates, limits: Limits) -> tuple[Limit, int] | None:
    """A limit that no path at all keeps, and the least that a path needs there; None where each alone can be kept."""
    for limit, most, weights in (
        (Limit.PRICE_IN, limits.price_in, Weights(1000, 0, 0)),
        (Limit.PRICE_OUT, limits.price_out, Weights(0, 1000, 0)),
        (Limit.TIME, limits.time_us, Weights(0, 0, 1000)),
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
        )
        lattice = lattice_of(self._candidates, weights, self._lattice.active)
        path = cheapest(lattice)
        if path is None:
            return set()
        # `blocks`: each block's cost is rounded up.
        allowed = sum(value * self._allowed[limit] for limit, value in extra.items()) + self._candidates.blocks
        self._bound = max(self._bound, path.cost - allowed)
        problems = broken(self._candidates, self._limits, path)
        if Limit.TWICE in problems and self._repairs and self._best is None:
            self._repairs -= 1
            once = _once_each(self._candidates, weights, lattice.active, _FEW_BRANCHES)
            if once is not None:
                path, problems = once, broken(self._candidates, self._limits, once)
        if not problems:
            cost = path_cost(self._lattice, path.legs)
            if self._best is None or cost < self._best.cost:
                self._best = Path(path.legs, cost)
        return problems


# One leg for each provider


def _repetition(candidates: Candidates, path: Path) -> tuple[int, int] | None:
    """Positions of the first two legs of one provider."""
    seen: dict[int, int] = {}
    for at, (candidate, _, _) in enumerate(path.legs):
        provider = int(candidates.provider[candidate])
        if provider in seen:
            return seen[provider], at
        seen[provider] = at
    return None


def _once_each(candidates: Candidates, weights: Weights, active: tuple[Ints, ...], most: int) -> Path | None:
    """The cheapest path without a repetition; None when there is none, or when the search was given up."""
    queue: list[tuple[int, int, Path, tuple[Ints, ...]]] = []
    serial = 0
    branches: list[tuple[Ints, ...]] = [active]
    for _ in range(most):
        for branch in branches:
            path = cheapest(lattice_of(candidates, weights, branch))
            if path is not None:
                serial += 1
                heapq.heappush(queue, (path.cost, serial, path, branch))
        if not queue:
            return None
        _, _, path, active = heapq.heappop(queue)
        repeated = _repetition(candidates, path)
        if repeated is None:
            return path
        branches = list(_branches(candidates, path, repeated, active))
    return None


def _branches(
    candidates: Candidates, path: Path, repeated: tuple[int, int], active: tuple[Ints, ...]
) -> Iterator[tuple[Ints, ...]]:
    """Who may serve which block, in each of the cases that together hold every path without this repetition."""
    first, second = (path.legs[at] for at in repeated)
    leaves, returns = first[2], second[1]
    provider = candidates.provider[first[0]]
    others = [block[candidates.provider[block] != provider] for block in active]
    yield (*others[:leaves], *active[leaves:])
    yield (*active[:returns], *others[returns:])
    inside = range(leaves - 1, returns + 1)
    for candidate in np.nonzero(candidates.provider == provider)[0]:
        alone = np.array([candidate])
        if all(candidate in active[block] for block in inside):
            yield (*active[: leaves - 1], *(alone for _ in inside), *active[returns + 1 :])
