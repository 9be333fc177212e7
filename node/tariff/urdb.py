"""Tables in the shape of the Utility Rate Database, version 7: from TOML, or from JSON as its service gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from node.tariff.description import Quantity, Table
from node.tariff.numbers import PRICE, number, scaled
from protocol.energy.rate_table import DemandTable, RateTable, Schedule, Tier
from protocol.errors import ConfigurationError, InvalidError

__all__ = ["URDB_KEYS", "table_of"]

T = TypeVar("T")

URDB_KEYS = (
    "energyratestructure",
    "energyweekdayschedule",
    "energyweekendschedule",
    "flatdemandstructure",
    "flatdemandmonths",
    "demandratestructure",
    "demandweekdayschedule",
    "demandweekendschedule",
)
"""That are read; a file from the service has many more."""
_TIER_KEYS = {"rate", "adj", "max", "sell", "unit"}
_PER_KWH = ("kWh",)
_PER_KW = ("kW",)


def table_of(values: Mapping[str, Any], where: str, *, scale: Decimal, quantity: Quantity = PRICE) -> Table:
    """Rates, and what peaks cost. Raises ConfigurationError, which names the key.

    Args:
        values: by the keys of the service; others are left alone.
        scale: what one unit of a rate is in the integers that are computed with.
    """
    periods = _key(values, "energyratestructure", where, lambda raw: _periods(raw, scale, quantity, _PER_KWH))
    weekday = _key(values, "energyweekdayschedule", where, _schedule)
    weekend = _key(values, "energyweekendschedule", where, _schedule) if "energyweekendschedule" in values else weekday
    try:
        return Table(rates=RateTable(periods, weekday, weekend), demand=_demand(values, where, scale))
    except InvalidError as error:
        raise ConfigurationError(f"{error.message} {where}", hint="docs/how-to/follow-a-tariff.md has one") from None


def _demand(values: Mapping[str, Any], where: str, scale: Decimal) -> DemandTable:
    found: dict[str, Any] = {}
    if values.get("flatdemandstructure"):
        found["flat"] = _key(values, "flatdemandstructure", where, lambda raw: _periods(raw, scale, PRICE, _PER_KW))
        found["flat_months"] = _key(values, "flatdemandmonths", where, _numbers)
    if values.get("demandratestructure"):
        found["periods"] = _key(values, "demandratestructure", where, lambda raw: _periods(raw, scale, PRICE, _PER_KW))
        found["weekday"] = _key(values, "demandweekdayschedule", where, _schedule)
        found["weekend"] = _key(values, "demandweekendschedule", where, _schedule)
    return DemandTable(**found)


def _key(values: Mapping[str, Any], key: str, where: str, make: Callable[[Any], T]) -> T:
    if key not in values:
        raise ConfigurationError(
            f"{key} is missing {where}", hint="a table by the hour takes " + ", ".join(URDB_KEYS[:3])
        )
    try:
        return make(values[key])
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{key} {where}: {error}", hint="see docs/how-to/follow-a-tariff.md") from None


def _list(raw: Any, what: str) -> Sequence[Any]:
    if not isinstance(raw, list):
        raise ValueError(f"{what} is a list")
    return raw


def _numbers(raw: Any) -> tuple[int, ...]:
    numbers = [number(each) for each in _list(raw, "a row")]
    if any(each != each.to_integral_value() for each in numbers):
        raise ValueError("periods are whole numbers")
    return tuple(int(each) for each in numbers)


def _schedule(raw: Any) -> Schedule:
    return tuple(_numbers(row) for row in _list(raw, "a table by the hour"))


def _periods(raw: Any, scale: Decimal, quantity: Quantity, units: tuple[str, ...]) -> tuple[tuple[Tier, ...], ...]:
    return tuple(
        tuple(_tier(tier, scale, quantity, units) for tier in _list(period, "a period")) for period in _list(raw, "it")
    )


def _tier(raw: Any, scale: Decimal, quantity: Quantity, units: tuple[str, ...]) -> Tier:
    if not isinstance(raw, dict) or not raw.keys() <= _TIER_KEYS:
        raise ValueError(f"a tier is a table of {', '.join(sorted(_TIER_KEYS))}")
    if raw.get("unit", units[0]) not in units:
        raise ValueError(f"tiers in {raw['unit']!r} are not known here, only in {units[0]}")
    rate = number(raw.get("rate", 0)) + number(raw.get("adj", 0))
    most = raw.get("max")
    return Tier(None if most is None else int(number(most) * 1000), scaled(rate, scale, quantity))
