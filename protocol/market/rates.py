"""What one leg earns, for what."""

from __future__ import annotations

from typing import Annotated

from protocol.encoding.codec import Message, Uint, message
from protocol.energy.tariff import MAX_PRICE
from protocol.errors import MalformedError
from protocol.units import MICRO, ceil_div

__all__ = ["Rates", "check_rates", "share"]

Price = Annotated[int, Uint(64, MAX_PRICE)]


@message()
class Rates(Message):
    """Micro-units per million tokens, unless said; for a whole offer, or for the blocks that one leg runs."""

    opening: Price
    """Micro-units for taking the job at all, whatever follows."""
    price_in: Price
    """Positions that are computed without yielding a token of this leg's own: the prompt, and what a replacement has
    to compute again."""
    price_out: Price
    """Generated tokens."""
    price_cached: Price
    """Positions of an earlier session whose KV the leg still holds; at most `price_in`, so that caps suffice."""
    price_rejected: Price
    """Rows that were computed and thrown away because a draft was not taken."""
    late_discount_ppm: Annotated[int, Uint(32, MICRO)]
    """By how much a generated token that came late is cheaper, in millionths; 0 for not at all."""


def check_rates(rates: Rates) -> None:
    """Raises MalformedError for a rate that no leg may have (docs/spec/session.md, clause N5)."""
    if rates.price_cached > rates.price_in:
        raise MalformedError("a position that is held already costs more than one that is computed")


def share(rates: Rates, used: int, held: int) -> Rates:
    """The rates for `used` of the `held` blocks of an offer, each rounded up (docs/spec/market.md, clause M7)."""
    return rates.replace(
        opening=ceil_div(rates.opening * used, held),
        price_in=ceil_div(rates.price_in * used, held),
        price_out=ceil_div(rates.price_out * used, held),
        price_cached=ceil_div(rates.price_cached * used, held),
        price_rejected=ceil_div(rates.price_rejected * used, held),
    )
