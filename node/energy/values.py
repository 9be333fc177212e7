"""Numbers out of what meters say: units, paths into JSON, and lines of a command's output. Bounded and strict."""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

from protocol.errors import MeterError

__all__ = ["POWER_UNITS", "UNITS", "at_path", "line_number", "number_of", "parse_json", "scaled"]

POWER_UNITS = {"W": 10**6, "kW": 10**9, "mW": 10**3}
"""In microwatts."""
ENERGY_UNITS = {
    "J": 10**6, "mJ": 10**3, "kJ": 10**9, "MJ": 10**12,
    "mWh": 3_600_000, "Wh": 3_600_000_000, "kWh": 3_600_000_000_000, "Wmin": 60_000_000,
}  # fmt: skip
"""In microjoules."""
UNITS = POWER_UNITS | ENERGY_UNITS
_MOST = Decimal(10) ** 24
"""No meter counts so many microjoules."""
_LONGEST = 40
"""Characters of a number."""
_LARGEST = 30
"""Decimal places on either side of the point."""
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def parse_json(raw: bytes) -> Any:
    """What a meter answers, numbers as it wrote them. Raises MeterError."""
    if raw.lstrip()[:1] == b"<":
        raise MeterError("the meter answers with a web page, not with JSON", hint="look at meter_url")
    try:
        return json.loads(raw, parse_float=Decimal, parse_constant=_no_number)
    except (ValueError, RecursionError, InvalidOperation):
        raise MeterError("the meter's answer is not JSON", hint="look at meter_url and meter_path") from None


def _no_number(name: str) -> Any:
    raise MeterError(f"the meter says {name}, which is not a number")


def at_path(value: Any, path: str) -> Any:
    """What stands under names and indices with dots between them. Raises MeterError."""
    for at, name in enumerate(path.split(".") if path else ()):
        known = name.isascii() and name.isdigit() and isinstance(value, list) and int(name[:9]) < len(value)
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif known:
            value = value[int(name)]
        else:
            before = ".".join(path.split(".")[:at]) or "the answer"
            found = f"has {', '.join(list(map(str, value))[:8])}" if isinstance(value, dict) else "has no such part"
            raise MeterError(f"the meter's answer has no {path!r}: {before} {found[:200]}", hint="look at meter_path")
    return value


def number_of(value: Any, *, what: str = "the meter's answer") -> Decimal:
    """A number, also where it is written as text. Raises MeterError."""
    text = str(value) if isinstance(value, (int, Decimal, str)) and not isinstance(value, bool) else ""
    try:
        number = Decimal(text.strip()) if len(text) <= _LONGEST else None
    except InvalidOperation:
        number = None
    if number is None or not number.is_finite():
        raise MeterError(
            f"{what} is not a number: {text[:_LONGEST] or type(value).__name__!r}", hint="look at meter_path"
        )
    exponent = number.as_tuple().exponent
    if number.adjusted() > _LARGEST or not isinstance(exponent, int) or exponent < -_LARGEST:
        raise MeterError(f"{what} is no number that a meter shows: {text}", hint="look at meter_path")
    return number


def line_number(text: str, label: str) -> Decimal:
    """The first number behind `label`, on the first line that has it; without, all that there is. Raises MeterError."""
    line = text.strip()
    if label:
        line = next((each.partition(label)[2] for each in text.splitlines() if label in each), "")
    found = _NUMBER.search(line) if label else _NUMBER.fullmatch(line)
    if found is None:
        where = f"behind {label!r}" if label else "in it: say with meter_path what stands before it"
        raise MeterError(f"the command's output has no number {where}", hint="run it yourself, and look at meter_path")
    return number_of(found[0], what="the number")


def scaled(number: Decimal, unit: str) -> tuple[int, int]:
    """Microjoules or microwatts, and the smallest difference that is shown at so many places. Raises MeterError."""
    if number < 0:
        raise MeterError(
            f"the meter says {number} {unit}: less than nothing", hint="it may be mounted the other way round"
        )
    value = number * UNITS[unit]
    if value > _MOST:
        raise MeterError(f"the meter says {number} {unit}, more than there is", hint="look at meter_unit")
    exponent = number.as_tuple().exponent
    places = min(0, exponent if isinstance(exponent, int) else 0)
    return int(value), max(1, int(UNITS[unit] * Decimal(10) ** places))
