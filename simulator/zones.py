"""What capacity is worth in each zone of law: the price at which the market clears, and what a shortage makes of it.

A zone is the sites that the same classes may use. Its price is the least at which nobody would rather have been
served there: the dearest ask that is used there, or what those would pay who go without, their cap, or what they pay in
another zone; but never more than the cheapest site there asks that has time left (X8). Where classes are served all at
once these are the least dual prices of the programme that serves them. Prices are micro-units per million tokens,
prompt and generated together.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from protocol.units import ceil_div
from simulator.clearing import MeritOrder, Product, Trades
from simulator.demand import Classes
from simulator.exact import LARGEST, Ints

__all__ = ["Worth", "Zones", "worth_of", "zones_of"]

NOBODY = LARGEST
"""What nobody asks."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Zones:
    """Z zones."""

    of_site: Ints
    """(N,)"""
    lawful: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    """(C, Z) whether a class may use a zone."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """Of one block of epochs."""

    price: Ints
    """(C, E, Z) at which a zone clears for each class; 0 where it sells nothing to it."""
    short: np.ndarray[tuple[int, int], np.dtype[np.bool_]]
    """(C, E) whether requests that could pay found no room."""
    scarcity: Ints
    """(E, Z) what a shortage makes of the price; 0 without one."""


def zones_of(classes: Classes) -> Zones:
    """Sites by which classes may use them."""
    patterns, of_site = np.unique(classes.lawful, axis=1, return_inverse=True)
    return Zones(of_site=of_site.reshape(-1).astype(np.int64), lawful=patterns)


def worth_of(
    classes: Classes,
    zones: Zones,
    products: list[Product],
    merits: dict[Product, MeritOrder],
    want: Ints,
    trades: Trades,
    left_us: Ints,
    most: int,
) -> Worth:
    """The worth of capacity after `trades`.

    Args:
        want: (C, E) what was asked for.
        left_us: (E, N) what time sites have left.
        most: micro-units per million tokens that a short epoch costs at most; 0 for no limit.
    """
    count, epochs = want.shape
    served = trades.served(count, epochs)
    zone_count = zones.lawful.shape[1]
    used = _dearest(classes, zones, products, merits, trades, epochs, zone_count)
    if zone_count == 1 and not (want > served).any():
        calm = np.zeros((epochs, zone_count), dtype=np.int64)
        return Worth(price=used, short=np.zeros_like(want, dtype=bool), scarcity=calm)
    ceiling = _cheapest_left(classes, zones, products, merits, left_us, zone_count)
    short = (want > served) & zones.lawful.any(axis=1, keepdims=True)
    going = short & ~((ceiling < NOBODY) & zones.lawful[:, None, :]).any(axis=2)
    bids = classes.price_cap if not most else np.minimum(classes.price_cap, most)
    level = used.max(axis=0)
    scarcity = np.zeros((epochs, zone_count), dtype=np.int64)
    served_by_zone = _served_by_zone(zones, trades, (count, epochs, zone_count))
    for _ in range(zone_count):
        before = scarcity.copy()
        for c in range(count):
            elsewhere = _dearest_elsewhere(served_by_zone[c], level, scarcity)
            alternative = np.where(short[c], np.maximum(bids[c], elsewhere), elsewhere)
            risen = np.where(zones.lawful[c], np.minimum(alternative[:, None], ceiling[c]), 0)
            scarcity = np.where(risen > np.maximum(level, scarcity), risen, scarcity)
        if np.array_equal(before, scarcity):
            break
    price = np.maximum(used, np.where(used > 0, scarcity, 0))
    return Worth(price=price, short=going, scarcity=scarcity)


def _dearest(
    classes: Classes,
    zones: Zones,
    products: list[Product],
    merits: dict[Product, MeritOrder],
    trades: Trades,
    epochs: int,
    zone_count: int,
) -> Ints:
    """(C, E, Z) the dearest ask per million tokens that is used by any class with the same product."""
    used = np.zeros((len(products), epochs, zone_count), dtype=np.int64)
    for product in dict.fromkeys(products):
        alike = np.array([each == product for each in products])
        at = np.flatnonzero(alike[trades.of_class])
        epoch, site = trades.epoch[at], trades.site[at]
        quote = _without_way(classes, merits, product, int(alike.argmax()))
        asked = quote.take(epoch * quote.shape[1] + site)
        dearest = np.zeros(epochs * zone_count, dtype=np.int64)
        np.maximum.at(dearest, epoch * zone_count + zones.of_site.take(site), asked)
        used[alike] = ceil_div(dearest, max(1, product[0] + product[1])).reshape(epochs, zone_count)
    return used


def _cheapest_left(
    classes: Classes,
    zones: Zones,
    products: list[Product],
    merits: dict[Product, MeritOrder],
    left_us: Ints,
    zone_count: int,
) -> Ints:
    """(C, E, Z) the least that any site with time for one more request of the class asks per million tokens."""
    found = np.full((len(products), len(left_us), zone_count), NOBODY, dtype=np.int64)
    for product in dict.fromkeys(products):
        alike = np.array([each == product for each in products])
        first = int(alike.argmax())
        asks = np.where(left_us >= classes.busy_us[first], _without_way(classes, merits, product, first), NOBODY)
        for zone in range(zone_count):
            found[alike, :, zone] = asks[:, zones.of_site == zone].min(axis=1)
        found[alike] = np.where(
            found[alike] < NOBODY, ceil_div(found[alike], max(1, product[0] + product[1])), found[alike]
        )
    return found


def _without_way(classes: Classes, merits: dict[Product, MeritOrder], product: Product, c: int) -> Ints:
    """(E, N) what a request is asked for, without what its way counts for."""
    return merits[product].quote - classes.rank_extra[c] if classes.rank_extra[c].any() else merits[product].quote


def _served_by_zone(zones: Zones, trades: Trades, shape: tuple[int, int, int]) -> Ints:
    served = np.zeros(np.prod(shape), dtype=np.int64)
    at = (trades.of_class * shape[1] + trades.epoch) * shape[2] + zones.of_site[trades.site]
    np.add.at(served, at, trades.requests)
    return served.reshape(shape)


def _dearest_elsewhere(served: Ints, level: Ints, scarcity: Ints) -> Ints:
    """(E,) the most that a class pays in any zone: what it would pay for a place in a cheaper one."""
    pays = np.where(served > 0, np.maximum(level, scarcity), 0)
    return np.asarray(pays.max(axis=1))
