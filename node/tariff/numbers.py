"""Numbers of tables and feeds: decimals, finite, scaled to the integers that are computed with."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Any

from node.tariff.description import Quantity
from protocol.energy.charges import MAX_LOCAL_PRICE
from protocol.energy.tariff import MAX_CARBON_G_PER_KWH, MAX_PUE_MILLI, ONE_PUE
from protocol.units import MICRO

__all__ = ["CARBON", "PRICE", "PUE", "number", "scaled"]

_MOST_DIGITS = 15
"""Before the point."""

PRICE = Quantity(
    "price",
    {"kWh": Decimal(MICRO), "MWh": Decimal(MICRO // 1000), "cents/kWh": Decimal(MICRO // 100)},
    -MAX_LOCAL_PRICE,
    MAX_LOCAL_PRICE,
    'is it per MWh, or in cents? then say so: unit = "MWh"',
)
PUE = Quantity(
    "PUE", {"ratio": Decimal(1000)}, ONE_PUE, MAX_PUE_MILLI, "a PUE is what the site draws for each watt computed with"
)
CARBON = Quantity(
    "carbon intensity",
    {"g/kWh": Decimal(1), "kg/MWh": Decimal(1)},
    0,
    MAX_CARBON_G_PER_KWH,
    "it is grams of CO2 per kWh",
)


def number(raw: Any) -> Decimal:
    """A finite decimal of a TOML, JSON or CSV value. Raises ValueError, whose text says what is wrong."""
    try:
        if isinstance(raw, (bool, type(None), list, dict)):
            raise InvalidOperation
        value = Decimal(repr(raw) if isinstance(raw, float) else raw.strip() if isinstance(raw, str) else raw)
    except (InvalidOperation, TypeError, ValueError):
        raise ValueError(f"{str(raw)[:40]!r} is not a number") from None
    # By its exponent: arithmetic with one of a million digits would not come to an end.
    if not value.is_finite() or value.adjusted() > _MOST_DIGITS:
        raise ValueError(f"{str(raw)[:40]} is not a number of any use")
    return value


def scaled(value: Decimal, scale: Decimal, quantity: Quantity) -> int:
    """In the integers that are computed with, rounded up. Raises ValueError where it is out of bounds."""
    made = int((value * scale).to_integral_value(rounding=ROUND_CEILING))
    if not quantity.low <= made <= quantity.high:
        low, high = quantity.low / scale, quantity.high / scale
        raise ValueError(f"a {quantity.name} of {value} is outside {low:f} to {high:f}; {quantity.hint}")
    return made
