"""Money, energy, tokens and time as integers, and the two lines of arithmetic that all of them share.

The kernels here and in `metering` and `tariff` run unchanged on Python ints (in a node) and on numpy int64 arrays
(in the simulator): only ``+ - * // %``, comparisons and the functions below, never a branch on data.
"""

from __future__ import annotations

from typing import Any, NewType, TypeVar

import numpy as np

__all__ = [
    "MICRO",
    "MicroUnits",
    "MilliJoules",
    "PricePerMillion",
    "Seconds",
    "Tokens",
    "ceil_div",
    "choose",
    "format_micro",
    "larger",
    "smaller",
]

MICRO = 1_000_000
"""Micro-units in one unit of money, and tokens in the million that prices refer to."""

MicroUnits = NewType("MicroUnits", int)
"""Money: 1e-6 of the token that the ledger counts (one unit is meant to be one US dollar)."""

PricePerMillion = NewType("PricePerMillion", int)
"""Micro-units per one million tokens."""

MilliJoules = NewType("MilliJoules", int)
"""Energy."""

Tokens = NewType("Tokens", int)
"""A count of prompt or generated tokens."""

Seconds = NewType("Seconds", int)
"""Unix time, or a duration."""

IntOrArray = TypeVar("IntOrArray", int, np.ndarray[Any, np.dtype[np.int64]])


def ceil_div(numerator: IntOrArray, denominator: IntOrArray | int) -> IntOrArray:
    """The smallest integer that is not below ``numerator / denominator``."""
    return -((-numerator) // denominator)


def larger(left: IntOrArray, right: IntOrArray | int) -> IntOrArray:
    """The larger of the two, element by element."""
    if isinstance(left, np.ndarray):
        larger_of_both: IntOrArray = np.maximum(left, right)
        return larger_of_both
    return left if left > right else right


def smaller(left: IntOrArray, right: IntOrArray | int) -> IntOrArray:
    """The smaller of the two, element by element."""
    if isinstance(left, np.ndarray):
        smaller_of_both: IntOrArray = np.minimum(left, right)
        return smaller_of_both
    return left if left < right else right


def choose(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`; element by element on arrays."""
    if isinstance(condition, (bool, np.bool_)):
        return yes if condition else no
    return np.where(condition, yes, no)


def format_micro(micro: int) -> str:
    """A decimal number of units with all six places: 80000 is ``"0.080000"``."""
    sign = "-" if micro < 0 else ""
    return f"{sign}{abs(micro) // MICRO}.{abs(micro) % MICRO:06d}"
