"""What a kilowatt-hour comes to at a site: shares of several supplies, fees and taxes, demand, another currency.

Kernels run on Python ints and on numpy int64 arrays, bit for bit alike. Prices are micro-units per kWh, of either sign.
Everything is rounded up, against the operator: a floor that is too low by a rounding is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.errors import InvalidError
from protocol.units import MICRO, IntOrArray, ceil_div, smaller

__all__ = [
    "MAX_LOAD_W",
    "MAX_LOCAL_PRICE",
    "MAX_RATE_PPM",
    "Charge",
    "blended_price",
    "charged",
    "demand_price",
    "exchanged",
    "in_merit_order",
    "with_share",
]

MAX_LOCAL_PRICE = 25_000_000_000
"""Micro-units of any currency per kWh: many count in hundreds of what a dollar is."""
MAX_RATE_PPM = 100 * MICRO
"""Units of the ledger's money for one of another currency, in millionths."""
MAX_LOAD_W = 1_000_000_000
"""Watts of a site: a gigawatt."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What comes on top of a price: so much per kWh, and then a share of all so far. Raises InvalidError."""

    name: str
    """For people."""
    per_kwh: int = 0
    """Micro-units; below 0 for a rebate."""
    share_ppm: int = 0
    """Of what the price and all charges before have come to, and of `per_kwh`, in millionths."""

    def __post_init__(self) -> None:
        if abs(self.per_kwh) > MAX_LOCAL_PRICE or not -MICRO <= self.share_ppm <= 10 * MICRO:
            raise InvalidError(f"{self.name}: more than {MAX_LOCAL_PRICE // MICRO} per kWh, or outside -100 to 1000 %")


def with_share(price: IntOrArray, share_ppm: IntOrArray | int) -> IntOrArray:
    """A price and a share of it on top. Of a price below 0 the share is taken, too: so a tax office pays back.

    Largest product within the bounds: 2.5e10 * 1.1e7 = 2.75e17.
    """
    return ceil_div(price * (MICRO + share_ppm), MICRO)


def charged(price: IntOrArray, charges: Sequence[Charge]) -> IntOrArray:
    """A price with all that comes on top, in the order given."""
    for each in charges:
        price = with_share(price + each.per_kwh, each.share_ppm)
    return price


def exchanged(price: IntOrArray, rate_ppm: IntOrArray | int) -> IntOrArray:
    """A price in the ledger's money. Largest product within the bounds: 2.5e10 * 1e8 = 2.5e18, below 2**62."""
    return ceil_div(price * rate_ppm, MICRO)


def demand_price(per_kw: IntOrArray, hours: IntOrArray, load_ppm: IntOrArray | int) -> IntOrArray:
    """Micro-units per kWh that a month's demand charge comes to.

    Largest product within the bounds: 2.5e10 * 1e6 = 2.5e16.

    Args:
        per_kw: micro-units for each kW of the month's peak.
        hours: in that month, in which the charge counts; at least 1.
        load_ppm: mean load in these hours as a share of the peak, in millionths; at least 1.
    """
    return ceil_div(per_kw * MICRO, hours * load_ppm)


def in_merit_order(tranches: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Supplies of (watts, price), the cheapest first."""
    return sorted(tranches, key=lambda each: each[1])


def blended_price(
    load_w: IntOrArray, tranches: Sequence[tuple[IntOrArray, IntOrArray]], rest: IntOrArray
) -> IntOrArray:
    """The mean price of a load that takes from each supply in turn what it has; from the last one all that is left.

    Largest sum within the bounds: 1e9 * 2.5e10 = 2.5e19 would wrap, so an array's prices are in the ledger's money
    (`tariff.MAX_TARIFF`): 1e9 * 2.5e7 = 2.5e16.

    Args:
        load_w: watts, at least 1.
        tranches: watts and price of each supply, in the order in which they are used.
        rest: price of what no tranche covers.
    """
    left, cost = load_w, load_w * 0
    for watts, price in tranches:
        taken = smaller(left, watts)
        left, cost = left - taken, cost + taken * price
    return ceil_div(cost + left * rest, load_w)
