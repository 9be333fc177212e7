"""Offers that could be used, as columns; what a path through them costs and takes; and the limits that it may break.

The cost of a path is ``price_in * w_in + price_out * w_out + microseconds * w_time``: in thousandths of a micro-unit
per million tokens when ``w_in + w_out`` is 1000 and ``w_time`` in micro-units per millisecond. A candidate's cost for
one block is its cost for its whole span over the span's length, rounded up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from protocol.routing.cells import INFINITE, Bools, Cells, Ints
from protocol.routing.lattice import Lattice, Path
from protocol.routing.routes import MAX_LEGS
from protocol.units import ceil_div

__all__ = [
    "MAX_LATENCY_WEIGHT",
    "Candidates",
    "Found",
    "Limit",
    "Limits",
    "Measures",
    "Weights",
    "broken",
    "lattice_of",
    "measure",
    "repetition",
]

MAX_LATENCY_WEIGHT = 10_000_000
"""Micro-units per million tokens for one millisecond. With it, `MAX_BLOCKS` blocks, prices to `tariff.MAX_PRICE` and
10 s at most for a block or a hop, the cost of a path stays below 2**60."""


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
    prompt_us: Ints
    """Of the whole span, for the whole prompt."""
    most: Ints | None = None
    """(N,) blocks that one leg may have at most, `blocks` where its whole span; None where nothing is capped."""
    barred: Bools | None = None
    """(R, R) where no hop may lead; None where all may."""
    kept: Ints | None = None
    """(K, 3) a provider, and the blocks that nobody else may serve, nor itself any others; None where all is open."""
    opened: tuple[Ints, Ints] | None = None
    """(N,) each: the first block, and the end, of what one may serve of its span; None where that is all of it."""

    @property
    def serves(self) -> tuple[Ints, Ints]:
        """(N,) each: first block and end of what each may serve."""
        return (self.start, self.end) if self.opened is None else self.opened

    def cells(self) -> Cells:
        """Who may serve which block: all of its span, unless something is kept, or closed to it."""
        cells = Cells.of(*self.serves, self.region, self.blocks)
        if self.kept is None:
            return cells
        keeper = np.full(self.blocks, -1)
        for provider, start, end in self.kept.tolist():
            keeper[start:end] = provider
        provider = self.provider[cells.who]
        keeps = np.isin(provider, self.kept[:, 0])
        mine = keeper[cells.block_of_each()]
        return cells.part(np.where(keeps, mine == provider, mine < 0))


@dataclass(frozen=True, slots=True)
class Weights:
    """What a path's cost is made of."""

    price_in: int
    price_out: int
    latency: int
    leg: int = 0
    """Cost of each leg of a route of several; even."""
    first: int = 0
    """Of a microsecond until the first token."""


class Limit(StrEnum):
    """What a path can break."""

    PRICE_IN = "price-in"
    PRICE_OUT = "price-out"
    TIME = "time"
    FIRST = "first"
    LEGS = "legs"
    TWICE = "twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of a route as a whole."""

    price_in: int | None
    price_out: int | None
    time_us: int
    """For one token round the ring."""
    first_us: int | None = None
    """From the prompt to the first token; None for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a path costs and takes, as its legs will be paid and run."""

    price_in: int
    price_out: int
    latency_us: int
    first_us: int


@dataclass(frozen=True, slots=True)
class Found:
    """A path that keeps all limits."""

    path: Path
    gap: int
    """The cheapest possible is at most this much below; 0 when it is this one."""


def lattice_of(candidates: Candidates, weights: Weights, cells: Cells | None = None) -> Lattice:
    """The costs of `candidates` under `weights`; each may serve its span unless `cells` say less."""
    c, time = candidates, weights.latency + weights.first
    whole = c.price_in * weights.price_in + c.price_out * weights.price_out + c.position_us * time
    if weights.first:
        whole += c.prompt_us * weights.first
    between = c.between_us * time
    if c.barred is not None:
        between[c.barred] = INFINITE
    return Lattice(
        block_cost=-(-whole // (c.end - c.start)),
        access=c.access_us * time + weights.leg // 2,
        region=c.region,
        between=between,
        cells=c.cells() if cells is None else cells,
        most=c.most,
    )


def measure(candidates: Candidates, path: Path) -> Measures:
    """Prices by leg and time round the ring, each part rounded up."""
    c = candidates
    price_in = price_out = latency = prompt = 0
    for i, start, end in path.legs:
        length, used = int(c.end[i] - c.start[i]), end - start
        price_in += ceil_div(int(c.price_in[i]) * used, length)
        price_out += ceil_div(int(c.price_out[i]) * used, length)
        latency += ceil_div(int(c.position_us[i]) * used, length)
        prompt += ceil_div(int(c.prompt_us[i]) * used, length)
    if len(path.legs) > 1:
        for (here, _, _), (there, _, _) in zip(path.legs, [*path.legs[1:], path.legs[0]], strict=True):
            latency += int(c.access_us[here] + c.access_us[there] + c.between_us[c.region[here], c.region[there]])
    return Measures(price_in=price_in, price_out=price_out, latency_us=latency, first_us=prompt + latency)


def broken(candidates: Candidates, limits: Limits, path: Path) -> set[Limit]:
    """The limits that `path` does not keep."""
    measured = measure(candidates, path)
    checks = {
        Limit.PRICE_IN: limits.price_in is not None and measured.price_in > limits.price_in,
        Limit.PRICE_OUT: limits.price_out is not None and measured.price_out > limits.price_out,
        Limit.TIME: measured.latency_us > limits.time_us,
        Limit.FIRST: limits.first_us is not None and measured.first_us > limits.first_us,
        Limit.LEGS: len(path.legs) > MAX_LEGS,
        Limit.TWICE: repetition(candidates, path) is not None,
    }
    return {limit for limit, holds in checks.items() if holds}


def repetition(candidates: Candidates, path: Path) -> tuple[int, int] | None:
    """Positions of the first two legs of one provider."""
    seen: dict[int, int] = {}
    for at, (candidate, _, _) in enumerate(path.legs):
        provider = int(candidates.provider[candidate])
        if provider in seen:
            return seen[provider], at
        seen[provider] = at
    return None
