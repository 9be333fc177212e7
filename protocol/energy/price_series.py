"""What a kilowatt-hour costs from quarter of an hour to quarter of an hour, and where each of these prices comes from.

A series is a value: it knows no zone and no feed. Quarters are those of Unix time, so a day of 23 hours has 92 of them
and one of 25 has 100; which local hour a quarter stands in is for whoever fills the series. The same shape holds a
site's PUE in thousandths, and its carbon intensity in grams per kWh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate

from protocol.errors import InvalidError
from protocol.units import IntOrArray, ceil_div

__all__ = ["HOUR_S", "MAX_STEPS", "STEP_S", "PriceSeries", "PriceSource", "filled", "hourly_means", "mean_between"]

STEP_S = 900
"""Seconds that a price holds: markets for a day ahead settle by the quarter of an hour."""
HOUR_S = 3600
MAX_STEPS = 40_000
"""More than a year of quarters."""
_DAY_S = 86_400


class PriceSource(StrEnum):
    """Where the price of a quarter comes from, best first."""

    TABLE = "table"
    """A price that is set, or a table by the hour."""
    FEED = "feed"
    """A feed or a file says it of this very quarter."""
    STALE = "stale"
    """What the feed said of the same time some days before."""
    FALLBACK = "fallback"
    """The operator's word for when the feed says nothing."""


@dataclass(frozen=True)
class PriceSeries:
    """Prices from `start` on, one for each quarter. Raises InvalidError for a start within a quarter, or no price."""

    start: int
    """Unix seconds, a multiple of `STEP_S`."""
    prices: tuple[int, ...]
    """Micro-units per kWh, of either sign."""
    sources: tuple[PriceSource, ...]
    """Of each price."""

    def __post_init__(self) -> None:
        if self.start % STEP_S or not 1 <= len(self.prices) <= MAX_STEPS or len(self.sources) != len(self.prices):
            raise InvalidError("a series of prices begins with a quarter of an hour, and has one price for each")

    @property
    def end(self) -> int:
        """Unix seconds; the first that no price is for."""
        return self.start + STEP_S * len(self.prices)

    @cached_property
    def sums(self) -> tuple[int, ...]:
        """Of the prices before each quarter."""
        return (0, *accumulate(self.prices))

    def at(self, now: int) -> int:
        """The price at a time. Raises InvalidError outside the series."""
        return self.prices[self._index(now)]

    def source_at(self, now: int) -> PriceSource:
        """Where the price at a time comes from. Raises InvalidError outside the series."""
        return self.sources[self._index(now)]

    def mean(self, begin: int, end: int) -> int:
        """The mean price of ``[begin, end)``, by time, rounded up. Raises InvalidError where that is not within."""
        if not self.start <= begin < end <= self.end:
            raise InvalidError("a mean price over a time that the series does not cover")
        return mean_between(self.sums, (*self.prices, 0), begin - self.start, end - self.start)

    def _index(self, now: int) -> int:
        if not self.start <= now < self.end:
            raise InvalidError("the series has no price for this time")
        return (now - self.start) // STEP_S


def mean_between(
    sums: Sequence[int] | IntOrArray, prices: Sequence[int] | IntOrArray, begin_s: IntOrArray, end_s: IntOrArray
) -> IntOrArray:
    """The mean price between two offsets from the start of a series, rounded up. On ints and on arrays of offsets.

    Largest sum within the bounds: a year of quarters at `tariff.MAX_TARIFF`, 4e4 * 900 * 2.5e7 = 9e14.

    Args:
        sums: of the prices before each quarter, and of all at the end.
        prices: with a 0 at the end, for an offset that is the end itself.
    """

    def until(offset: IntOrArray) -> IntOrArray:
        return sums[offset // STEP_S] * STEP_S + prices[offset // STEP_S] * (offset % STEP_S)  # type: ignore[index,call-overload,no-any-return]

    return ceil_div(until(end_s) - until(begin_s), end_s - begin_s)


def hourly_means(series: PriceSeries, now: int, most: int) -> tuple[int, ...]:
    """The mean prices of the hours after the one of `now`, as far as the series goes, `most` of them at most."""
    first = (now // HOUR_S + 1) * HOUR_S
    hours = min(most, max(0, (series.end - first) // HOUR_S))
    return tuple(series.mean(begin, begin + HOUR_S) for begin in range(first, first + hours * HOUR_S, HOUR_S))


def filled(
    points: Mapping[int, int], start: int, steps: int, *, stale_s: int, fallback: int
) -> tuple[tuple[int, ...], tuple[PriceSource, ...]]:
    """Prices and their sources for some quarters, from what a feed said.

    A quarter of which it says nothing has the price of the same time on the latest day before of which it does, if that
    is at most `stale_s` seconds back; else the fallback.

    Args:
        points: by the start of each quarter.
    """
    prices, sources = [], []
    for at in range(start, start + steps * STEP_S, STEP_S):
        if at in points:
            price, source = points[at], PriceSource.FEED
        else:
            before = next((at - back for back in range(_DAY_S, stale_s + 1, _DAY_S) if at - back in points), None)
            known = before is not None
            price, source = (points[before], PriceSource.STALE) if known else (fallback, PriceSource.FALLBACK)  # type: ignore[index]
        prices.append(price)
        sources.append(source)
    return tuple(prices), tuple(sources)
