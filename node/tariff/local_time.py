"""Local hours, weekends and holidays of a site: what tables by the hour are looked up with."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from protocol.errors import ConfigurationError

__all__ = ["WEEKDAYS", "LocalHour", "SiteCalendar", "zone_of"]

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class LocalHour:
    """A time as a table by the hour sees it."""

    year: int
    month: int
    """1 to 12."""
    hour: int
    """0 to 23: an hour that comes twice is the same hour both times, and one that is skipped never comes."""
    weekend: bool
    """Or a holiday."""
    month_ppm: int
    """Share of the month that has passed, in millionths."""


def zone_of(name: str) -> ZoneInfo:
    """An IANA zone. Raises ConfigurationError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"no time zone {name!r} is known here",
            hint="name one like Europe/Berlin; a machine without any has to have its package tzdata installed",
        ) from None


@dataclass(frozen=True)
class SiteCalendar:
    """Turns Unix time into local hours."""

    zone: ZoneInfo
    weekend: frozenset[int] = frozenset({5, 6})
    """Days of the week, Monday 0."""
    holidays: frozenset[str] = frozenset()
    """``2026-04-06``, or ``12-25`` for every year."""

    def local(self, at: int) -> LocalHour:
        """What a Unix time is there."""
        return _local(self, at - at % 900)

    def hours_in(self, year: int, month: int) -> list[LocalHour]:
        """All hours of a month, by the calendar: a day has 24 here."""
        days = calendar.monthrange(year, month)[1]
        return [
            LocalHour(year, month, hour, self._rests(datetime(year, month, day, tzinfo=UTC)), 0)
            for day in range(1, days + 1)
            for hour in range(24)
        ]

    def _rests(self, day: datetime) -> bool:
        dated = f"{day:%Y-%m-%d}"
        return day.weekday() in self.weekend or dated in self.holidays or dated[5:] in self.holidays


@lru_cache(maxsize=4096)
def _local(site: SiteCalendar, at: int) -> LocalHour:
    then = datetime.fromtimestamp(at, UTC).astimezone(site.zone)
    first = then.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
    after = (first + timedelta(days=32)).replace(day=1)
    passed, whole = then.timestamp() - first.timestamp(), after.timestamp() - first.timestamp()
    share = int(passed) * _MILLION // int(whole)
    return LocalHour(then.year, then.month, then.hour, site._rests(then), share)
