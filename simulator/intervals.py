"""Means over seeds, how sure they are, and where most single runs lie. Seeds are independent, so Student's t holds."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["Spread", "spread_of", "student_quantile"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over some seeds."""

    count: int
    """Seeds with this figure."""
    mean: float
    low: float
    """Where the mean over endlessly many seeds lies, with the confidence asked for: from here ..."""
    high: float
    """... to here. Without end on both sides where there is one seed."""
    p5: float
    """One run in twenty is below this."""
    p95: float
    """One run in twenty is above this."""


def spread_of(values: Sequence[float], confidence: float = 0.95) -> Spread:
    """The spread of a figure over seeds. Raises ValueError of nothing."""
    if not len(values):
        raise ValueError("no seed has this figure")
    found = np.asarray(values, dtype=float)
    mean = float(found.mean())
    half = math.inf
    if len(found) > 1:
        half = student_quantile(0.5 + confidence / 2, len(found) - 1) * float(found.std(ddof=1)) / math.sqrt(len(found))
    low, high = (float(each) for each in np.percentile(found, [5, 95]))
    return Spread(count=len(found), mean=mean, low=mean - half, high=mean + half, p5=low, p95=high)


@functools.lru_cache(maxsize=256)
def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t with so many degrees of freedom stays below with this probability, 0.5 to 1."""
    low, high = 0.0, 1.0
    while _student_below(high, freedom) < probability:
        low, high = high, high * 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_below(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def _student_below(t: float, freedom: int) -> float:
    """Probability that Student's t is below t >= 0: one less half of the incomplete beta function."""
    return 1 - 0.5 * _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function, by its continued fraction (Lentz)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    found = d
    for m in range(1, 400):
        for top in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), _odd(m, a, b, x)):
            d = 1 / (1 + top * d)
            c = 1 + top / c
            found *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * found


def _odd(m: int, a: float, b: float, x: float) -> float:
    return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
