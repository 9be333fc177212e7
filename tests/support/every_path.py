"""Every path through a few candidates, one after another: what the router's dynamic programme is held against."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from protocol.routing.candidates import Candidates, Weights, lattice_of
from protocol.routing.lattice import Lattice, Path, PathLeg, path_cost

BLOCKS = 6


def random_candidates(draw: random.Random, *, count: int, regions: int, capped: bool = False) -> Candidates:
    """Up to `count` candidates of one provider each, by region; prices, times and spans at random."""
    region = sorted(draw.randrange(regions) for _ in range(draw.randint(1, count)))
    spans = [sorted(draw.sample(range(BLOCKS + 1), 2)) for _ in region]

    def some(most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([draw.randint(0, most) for _ in region], dtype=np.int64)

    return Candidates(
        provider=np.arange(len(region)),
        start=np.array([start for start, _ in spans]),
        end=np.array([end for _, end in spans]),
        price_in=some(40),
        price_out=some(40),
        position_us=some(5_000) + 1,
        prompt_us=some(90_000),
        access_us=some(3_000),
        region=np.array(region),
        between_us=np.array([[draw.randint(0, 4_000) for _ in range(regions)] for _ in range(regions)]),
        blocks=BLOCKS,
        most=np.array([draw.choice([1, 2, BLOCKS]) for _ in region]) if capped else None,
    )


def every_path(c: Candidates, at: int = 0, used: frozenset[int] = frozenset()) -> Iterator[tuple[PathLeg, ...]]:
    """All paths in which no candidate appears twice."""
    if at == c.blocks:
        yield ()
        return
    for i in range(len(c.start)):
        if i in used or not c.start[i] <= at < c.end[i]:
            continue
        most = c.blocks if c.most is None else int(c.most[i])
        for end in range(at + 1, min(int(c.end[i]), at + most) + 1):
            for rest in every_path(c, end, used | {i}):
                yield ((i, at, end), *rest)


def cheapest_of_all(c: Candidates, weights: Weights) -> tuple[Lattice, int | None]:
    """The lattice, and the cost of the cheapest path."""
    lattice = lattice_of(c, weights)
    return lattice, min((path_cost(lattice, legs) for legs in every_path(c)), default=None)


def as_path(lattice: Lattice, legs: tuple[PathLeg, ...]) -> Path:
    """A path with its cost."""
    return Path(legs, path_cost(lattice, legs))
