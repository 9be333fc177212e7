"""Who serves what: requests go to the cheapest lawful ask with time left, class after class.

The hours of a day are independent of each other, so one call clears all of them: arrays are (hours, providers).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.errors import ConfigurationError
from simulator.demand import Classes
from simulator.exact import LARGEST, Ints

__all__ = ["HOUR_US", "MeritOrder", "clear", "merit_order", "quotes"]

HOUR_US = 3_600_000_000
"""Microseconds in an hour: the time that a site has to give."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MeritOrder:
    """The asks for one request of some size, and the providers from cheapest to dearest."""

    quote: Ints
    """(H, N) millionths of a micro-unit for one request."""
    order: Ints
    """(H, N) positions in the flattened (H, N) arrays, each row in order of its quotes."""


def quotes(tokens_in: int, tokens_out: int, price_in: Ints, price_out: Ints) -> Ints:
    """What one request costs at each ask, before rounding: millionths of a micro-unit."""
    return tokens_in * price_in + tokens_out * price_out


def merit_order(quote: Ints, tie_rank: Ints) -> MeritOrder:
    """Sort each hour's quotes; equal ones in order of `tie_rank`, a permutation of the providers.

    Raises:
        ConfigurationError: quotes beyond what 62 bits hold.
    """
    hours, providers = quote.shape
    bits = max(1, (providers - 1).bit_length())
    if int(quote.max()) >= LARGEST >> bits or int(quote.min()) < 0:
        raise ConfigurationError("prices outgrow 62-bit integers", hint="lower prices, margins or tokens per request")
    by_rank = np.empty(providers, dtype=np.int64)
    by_rank[tie_rank] = np.arange(providers)
    keys = np.sort((quote << bits) | tie_rank, axis=1)
    row = np.arange(hours, dtype=np.int64)[:, None] * providers
    return MeritOrder(quote=quote, order=by_rank[keys & ((1 << bits) - 1)] + row)


def clear(
    classes: Classes, turns: list[int], want: Ints, present: Ints, orders: dict[tuple[int, int], MeritOrder]
) -> Ints:
    """Requests served, shape (C, H, N), for `want` (C, H) and providers that are `present` (N,), 1 or 0.

    In the order of `turns`, a class takes whole requests from the cheapest provider that the law, the price cap and the
    time left allow, then from the next. What finds no provider is not served and does not come back.
    """
    hours, providers = want.shape[1], len(present)
    served = np.zeros((len(classes.names), hours, providers), dtype=np.int64)
    left_us = np.tile(present * HOUR_US, (hours, 1))
    for c in turns:
        merit = orders[int(classes.tokens_in[c]), int(classes.tokens_out[c])]
        room = left_us // classes.busy_us[c]
        room *= classes.lawful[c]
        room *= merit.quote <= classes.most_paid[c]
        offered = room.reshape(-1)[merit.order]
        before = np.cumsum(offered, axis=1) - offered
        served[c].reshape(-1)[merit.order] = np.minimum(np.maximum(want[c][:, None] - before, 0), offered)
        left_us -= served[c] * classes.busy_us[c]
    return served
