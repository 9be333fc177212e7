"""Time-of-use rates in the shape of the Utility Rate Database: periods with tiers, and 12 by 24 tables that name them.

A table has a row for each month and a column for each hour of the local day, one for working days and one for weekends
and holidays; its entries are numbers of periods. A period has tiers by what was used in the month so far. Which month,
hour and kind of day it is, the caller says: nothing here knows a calendar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocol.energy.charges import MAX_LOCAL_PRICE
from protocol.errors import InvalidError

__all__ = ["MAX_PERIODS", "MAX_TIERS", "DemandTable", "RateTable", "Schedule", "Tier", "schedule_of", "tier_rate"]

MONTHS, HOURS = 12, 24
MAX_PERIODS = 48
MAX_TIERS = 16

Schedule = tuple[tuple[int, ...], ...]
"""Twelve rows of 24 numbers of periods."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A rate up to so much use."""

    most_wh: int | None
    """Watt-hours of the month (or watts, of a demand charge) up to which it holds; None for the last one."""
    rate: int
    """Micro-units per kWh (or per kW), with adjustments."""


def schedule_of(rows: Sequence[Sequence[int]], periods: int, name: str) -> Schedule:
    """Check a table. Raises InvalidError, whose text names the table and what is wrong with it."""
    if len(rows) != MONTHS:
        raise InvalidError(f"{name} has {len(rows)} rows; it takes 12, one for each month")
    for month, row in enumerate(rows, 1):
        if len(row) != HOURS:
            raise InvalidError(f"{name}: the row of month {month} has {len(row)} hours; it takes 24")
        for hour, period in enumerate(row):
            if not 0 <= period < periods:
                raise InvalidError(f"{name}: month {month}, hour {hour} names period {period} of {periods} (from 0)")
    return tuple(tuple(row) for row in rows)


def _check_tiers(periods: Sequence[Sequence[Tier]], name: str) -> None:
    if not 1 <= len(periods) <= MAX_PERIODS:
        raise InvalidError(f"{name} has {len(periods)} periods; it takes 1 to {MAX_PERIODS}")
    for number, tiers in enumerate(periods):
        if not 1 <= len(tiers) <= MAX_TIERS:
            raise InvalidError(f"{name}: period {number} has {len(tiers)} tiers; it takes 1 to {MAX_TIERS}")
        bounds = [tier.most_wh for tier in tiers if tier.most_wh is not None]
        if tiers[-1].most_wh is not None or len(bounds) < len(tiers) - 1:
            raise InvalidError(f"{name}: in period {number} all tiers but the last have a max, and the last has none")
        if any(upper <= lower for lower, upper in pairwise([0, *bounds])):
            raise InvalidError(f"{name}: the tiers of period {number} do not rise")
        if any(abs(tier.rate) > MAX_LOCAL_PRICE for tier in tiers):
            raise InvalidError(f"{name}: a rate of period {number} is beyond {MAX_LOCAL_PRICE // 1_000_000}")


def tier_rate(tiers: Sequence[Tier], used_wh: int) -> int:
    """The rate of what is used next, once so much was used."""
    return next(tier.rate for tier in tiers if tier.most_wh is None or used_wh < tier.most_wh)


@dataclass(frozen=True, slots=True)
class RateTable:
    """Energy rates by hour. Raises InvalidError where a table is not 12 by 24, or names a period that is not there."""

    periods: tuple[tuple[Tier, ...], ...]
    weekday: Schedule
    weekend: Schedule
    """Of holidays, too."""

    def __post_init__(self) -> None:
        _check_tiers(self.periods, "energyratestructure")
        schedule_of(self.weekday, len(self.periods), "energyweekdayschedule")
        schedule_of(self.weekend, len(self.periods), "energyweekendschedule")

    def rate(self, month: int, hour: int, *, weekend: bool, used_wh: int = 0) -> int:
        """The rate at a local time.

        Args:
            month: 1 to 12.
            hour: 0 to 23.
            weekend: or a holiday.
            used_wh: since the month began.
        """
        table = self.weekend if weekend else self.weekday
        return tier_rate(self.periods[table[month - 1][hour]], used_wh)


@dataclass(frozen=True, slots=True)
class DemandTable:
    """Charges for each kW of a month's peak: of all hours, and of the hours of a period. Raises InvalidError."""

    flat: tuple[tuple[Tier, ...], ...] = ()
    flat_months: tuple[int, ...] = ()
    """For each month the period of `flat`; empty where there is none."""
    periods: tuple[tuple[Tier, ...], ...] = ()
    weekday: Schedule = ()
    weekend: Schedule = ()

    def __post_init__(self) -> None:
        if self.flat:
            _check_tiers(self.flat, "flatdemandstructure")
            if len(self.flat_months) != MONTHS or not all(0 <= each < len(self.flat) for each in self.flat_months):
                raise InvalidError("flatdemandmonths takes 12 numbers of periods of flatdemandstructure")
        if self.periods:
            _check_tiers(self.periods, "demandratestructure")
            schedule_of(self.weekday, len(self.periods), "demandweekdayschedule")
            schedule_of(self.weekend, len(self.periods), "demandweekendschedule")

    def flat_rate(self, month: int, load_w: int) -> int:
        """Micro-units for a kW of the month's peak, whenever that is."""
        return tier_rate(self.flat[self.flat_months[month - 1]], load_w) if self.flat else 0

    def period(self, month: int, hour: int, *, weekend: bool) -> int:
        """The period whose peak an hour counts for. Only where there are `periods`."""
        return (self.weekend if weekend else self.weekday)[month - 1][hour]

    def period_rate(self, period: int, load_w: int) -> int:
        """Micro-units for a kW of the month's peak within a period."""
        return tier_rate(self.periods[period], load_w)
