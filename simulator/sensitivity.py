"""Which values to try, and what they tell of each key: grids, Latin hypercubes, and Sobol's and Morris's by SALib.

Knows nothing of markets: points are rows of a matrix, and a model is whatever gives a number for each row.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from simulator.draws import Floats, draws_for
from simulator.extras import check_extra

__all__ = ["Axis", "Index", "design", "indices"]


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """One key, from its least to its greatest value."""

    key: str
    low: float
    high: float
    steps: int = 5
    """Of a grid."""


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """What one key does to a figure."""

    key: str
    first: float
    """Sobol: share of the variance that it makes alone. Morris: mean effect of moving it from end to end. Else: rank
    correlation."""
    total: float
    """Sobol: with others. Morris: mean of the effects' sizes. Else: the same as `first`."""
    error: float
    """Half the width of the 95 % interval of `total` (Sobol, Morris), 0 elsewhere."""


def design(axes: Sequence[Axis], method: str, samples: int, seed: int) -> Floats:
    """(P, K) values to try. Raises ConfigurationError: SALib is asked for and not installed."""
    if method == "grid":
        lines = [np.linspace(axis.low, axis.high, axis.steps) for axis in axes]
        return np.array(list(itertools.product(*lines)))
    low, width = (np.array(each) for each in zip(*((axis.low, axis.high - axis.low) for axis in axes), strict=True))
    if method == "latin-hypercube":
        columns = []
        for axis in axes:
            lots = draws_for(seed, "latin hypercube", axis.key)
            columns.append((lots.permutation(samples) + lots.random(samples)) / samples)
        return np.asarray(low + width * np.stack(columns, axis=1))
    problem = _problem(axes)
    if method == "sobol":
        from SALib.sample import sobol

        return np.asarray(sobol.sample(problem, samples, calc_second_order=False, seed=seed % 2**32))
    from SALib.sample import morris

    return np.asarray(morris.sample(problem, samples, num_levels=8, seed=seed % 2**32))


def indices(axes: Sequence[Axis], method: str, points: Floats, values: Floats, seed: int) -> list[Index]:
    """What each key does to the values (P,) at these points."""
    if method in ("grid", "latin-hypercube"):
        ranked = _ranks(values)
        return [
            Index(axis.key, rank := _correlation(_ranks(points[:, at]), ranked), rank, 0.0)
            for at, axis in enumerate(axes)
        ]
    problem = _problem(axes)
    if method == "sobol":
        from SALib.analyze import sobol

        found = sobol.analyze(problem, values, calc_second_order=False, seed=seed % 2**32)
        names = ("S1", "ST", "ST_conf")
    else:
        from SALib.analyze import morris

        found = morris.analyze(problem, points, values, num_levels=8, seed=seed % 2**32)
        names = ("mu", "mu_star", "mu_star_conf")
    columns = [np.asarray(found[name], dtype=float) for name in names]
    return [Index(axis.key, *(float(column[at]) for column in columns)) for at, axis in enumerate(axes)]


def _problem(axes: Sequence[Axis]) -> dict[str, Any]:
    check_extra("SALib")
    if any(axis.low >= axis.high for axis in axes):
        raise ConfigurationError("a swept key's low is not below its high", hint="give a range")
    return {
        "num_vars": len(axes),
        "names": [axis.key for axis in axes],
        "bounds": [[axis.low, axis.high] for axis in axes],
    }


def _ranks(values: Floats) -> Floats:
    """From the least to the greatest; equal values have the mean of their ranks."""
    _, at, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count + 1) / 2)[at])


def _correlation(one: Floats, other: Floats) -> float:
    if len(one) < 2 or not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
