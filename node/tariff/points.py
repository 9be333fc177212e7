"""From what a feed says of times to a value for each quarter of an hour. Whatever is not said whole is left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from node.tariff.description import Quantity
from node.tariff.numbers import number, scaled
from protocol.energy.price_series import STEP_S
from protocol.errors import MalformedError

__all__ = ["Interval", "intervals_of", "quarters", "time_of"]

_LATEST = 1 << 37
"""Some thousand years from now."""
BACK_S, AHEAD_S = 31 * 86_400, 16 * 86_400
"""What is kept around now, of a file that holds years."""
_MILLISECONDS_FROM = 10**11
"""Seconds since 1970 are far below it, milliseconds far above."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value for a time."""

    begin: int
    """Unix seconds."""
    end: int
    """One past the last."""
    value: Decimal


def time_of(raw: Any, zone: ZoneInfo | None = None) -> int:
    """Unix seconds of a time as feeds write them: ISO 8601, or seconds or milliseconds since 1970. Raises ValueError.

    Args:
        zone: of a time that does not name one; an hour that comes twice is the first of the two.
    """
    if isinstance(raw, datetime):
        then = raw
    elif isinstance(raw, str) and not raw.strip().isdigit():
        then = datetime.fromisoformat(raw.strip())
    else:
        stamp = int(number(raw))
        stamp = stamp // 1000 if stamp >= _MILLISECONDS_FROM else stamp
        if not 0 < stamp < _LATEST:
            raise ValueError(f"{raw} is no time")
        return stamp
    if then.tzinfo is None:
        if zone is None:
            raise ValueError(f"{raw} does not say its zone: give zone")
        then = then.replace(tzinfo=zone)
    return math.floor(then.astimezone(UTC).timestamp())


def intervals_of(rows: Sequence[tuple[int, int | None, Decimal]], resolution_s: int | None) -> list[Interval]:
    """Rows of begin, end and value; one without an end lasts for the resolution, or until the next if that is sooner.

    Where no resolution is known it is the smallest distance of two rows, and at most an hour: a row that is missing
    must not make the one before longer. Raises MalformedError for two values of one time.
    """
    if not rows:
        return []
    rows = sorted(rows, key=lambda row: row[0])
    gaps = [after[0] - before[0] for before, after in pairwise(rows)]
    if 0 in gaps:
        raise MalformedError(f"two values for the time {_text(rows[gaps.index(0)][0])}")
    usual = resolution_s or min([*gaps, 3600])
    made = []
    for (begin, end, value), gap in zip(rows, [*gaps, usual], strict=True):
        made.append(Interval(begin, begin + min(usual, gap) if end is None else end, value))
    return made


def quarters(intervals: Iterable[Interval], scale: Decimal, quantity: Quantity, now: int) -> dict[int, int]:
    """Values by the start of each quarter around `now` that is covered whole, means by time of what is finer.

    Raises MalformedError: a value out of bounds, two of one time, or an interval that ends before it begins.
    """
    first, last = (now - BACK_S) // STEP_S * STEP_S, now + AHEAD_S
    sums: dict[int, tuple[Decimal, int]] = {}
    for each in intervals:
        if not each.begin < each.end:
            raise MalformedError(f"an interval from {_text(each.begin)} that ends before it begins")
        for start in range(max(first, each.begin // STEP_S * STEP_S), min(last, each.end), STEP_S):
            part = min(each.end, start + STEP_S) - max(each.begin, start)
            total, covered = sums.get(start, (Decimal(0), 0))
            sums[start] = total + each.value * part, covered + part
    return _means(sums, scale, quantity)


def _means(sums: Mapping[int, tuple[Decimal, int]], scale: Decimal, quantity: Quantity) -> dict[int, int]:
    found = {}
    for start, (total, covered) in sums.items():
        if covered > STEP_S:
            raise MalformedError(f"two values for the quarter of an hour from {_text(start)}")
        if covered < STEP_S:
            continue
        mean = (total / STEP_S).quantize(Decimal("1e-9"), rounding=ROUND_CEILING)
        try:
            found[start] = scaled(mean, scale, quantity)
        except ValueError as error:
            raise MalformedError(str(error)) from None
    return found


def _text(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
