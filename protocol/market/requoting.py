"""When a node's asks change: at a tariff's boundaries, at once where they would lose money, and else not too often.

Every offer is carried to everybody and checked by everybody, and a price that trembles is of use to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass

from protocol.energy.price_series import STEP_S
from protocol.market.rates import Rates
from protocol.units import MICRO

__all__ = ["Pace", "Quoted", "next_boundary", "requoted"]


@dataclass(frozen=True, slots=True)
class Pace:
    """What an operator sets."""

    least_s: int = 60
    """Seconds between two changes within one quarter of an hour."""
    least_ppm: int = 20_000
    """Smallest change that counts within one quarter of an hour, in millionths of the price before."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """The asks that are out."""

    rates: Rates
    at: int
    """Unix seconds at which they were made."""


def next_boundary(now: int) -> int:
    """Unix seconds of the next quarter of an hour."""
    return (now // STEP_S + 1) * STEP_S


def requoted(out: Quoted | None, wanted: Rates, *, floor_in: int, floor_out: int, now: int, pace: Pace) -> Quoted:
    """What stands from now on: what is out already, or what is wanted (docs/spec/market.md, clause M66).

    Args:
        out: None where nothing is.
        floor_in: below which prompt tokens lose money now.
        floor_out: below which generated tokens do.
    """
    if out is None or out.rates == wanted:
        return Quoted(wanted, now) if out is None else out
    below = out.rates.price_in < floor_in or out.rates.price_out < floor_out
    if below or now // STEP_S != out.at // STEP_S:
        return Quoted(wanted, now)
    calm = now - out.at < pace.least_s
    return out if calm or not _differs(out.rates, wanted, pace.least_ppm) else Quoted(wanted, now)


def _differs(old: Rates, new: Rates, least_ppm: int) -> bool:
    """Whether a price moved by so much, or anything else at all."""
    if old.replace(price_in=0, price_out=0, price_cached=0) != new.replace(price_in=0, price_out=0, price_cached=0):
        return True
    pairs = ((old.price_in, new.price_in), (old.price_out, new.price_out), (old.price_cached, new.price_cached))
    return any(abs(after - before) * MICRO > before * least_ppm for before, after in pairs)
