"""Sums and ratios of int64 arrays that are exact or refused: no figure wraps or passes through a float."""

from __future__ import annotations

from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from protocol.units import MICRO

__all__ = ["LARGEST", "Ints", "exact_sum", "magnitude", "ratio"]

Ints = np.ndarray[Any, np.dtype[np.int64]]

LARGEST = 2**62
"""What reaches this is refused: half of what an int64 holds, so that the sum or difference of two figures fits too."""

_LOW_BITS = 32


def magnitude(*figures: Ints) -> int:
    """The largest distance from 0 in any of the arrays; 0 where they are empty."""
    return max((abs(int(end)) for figure in figures if figure.size for end in (figure.min(), figure.max())), default=0)


def exact_sum(figure: Ints) -> int:
    """The sum of all elements as a Python int, for fewer than 2**31 elements of any size."""
    if magnitude(figure) * figure.size < LARGEST:
        return int(figure.sum())
    high, low = figure >> _LOW_BITS, figure & ((1 << _LOW_BITS) - 1)
    return (int(high.sum()) << _LOW_BITS) + int(low.sum())


def ratio(above: Ints, below: Ints, scale: int = MICRO) -> Ints:
    """``above * scale / below`` to the nearest integer, halves up; 0 where `below`, which is never negative, is 0.

    Raises:
        ConfigurationError: a ratio that 62 bits do not hold.
    """
    above, below = np.broadcast_arrays(np.asarray(above), np.asarray(below))
    divisor = np.where(below == 0, 1, below)
    if 2 * magnitude(above) * scale + magnitude(below) >= LARGEST:
        above, divisor = above.astype(object), divisor.astype(object)  # Python ints: some ten times slower, never wrong
    quotient = np.where(below == 0, 0, (2 * scale * above + divisor) // (2 * divisor))
    if quotient.dtype == object and magnitude(quotient) >= LARGEST:
        raise ConfigurationError("a price or share outgrows 62-bit integers", hint="lower prices, or raise demand")
    return np.asarray(quotient, dtype=np.int64)
