"""Who serves what: requests go to the cheapest lawful ask with time left, class after class.

Epochs of a block are independent of each other, so one call clears all of them: arrays are (epochs, sites). Classes
that come one after another with the same size of request and the same law share one pass.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from protocol.units import ceil_div
from simulator.demand import Classes
from simulator.exact import LARGEST, Ints

__all__ = [
    "Columns",
    "MeritOrder",
    "Pass",
    "Product",
    "Trades",
    "clear",
    "handed_out",
    "merit_order",
    "passes_of",
    "products_of",
    "quotes",
    "runs_of",
    "shared",
    "trades_of",
    "turns",
]

Product = tuple[int, ...]
"""Tokens in and out, and a number for the way there: classes with the same see the same quotes."""

Columns = list[tuple[Ints, Ints, Ints, Ints]]
"""Parts of trades: class, epoch, site, requests."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class MeritOrder:
    """The asks for one request of some size, and the sites from cheapest to dearest."""

    quote: Ints
    """(E, N) millionths of a micro-unit for one request, with what its way there counts for."""
    order: Ints
    """(E, N) sites, each row in order of their quotes."""
    rising: Ints
    """(E, N) these quotes, each row in that order."""

    def part(self, epochs: slice) -> MeritOrder:
        """Of some epochs."""
        return MeritOrder(quote=self.quote[epochs], order=self.order[epochs], rising=self.rising[epochs])


@dataclasses.dataclass(frozen=True, slots=True)
class Pass:
    """Classes that are served together: they follow one another, and see the same quotes of the same sites."""

    product: Product
    may: np.ndarray[Any, np.dtype[np.bool_]]
    """(N,) the sites."""
    all: bool
    """Whether these are all sites."""
    any: bool
    """Whether there is one at all."""
    classes: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class Trades:
    """What was served, one element for each class, epoch and site that came together."""

    of_class: Ints
    epoch: Ints
    site: Ints
    requests: Ints
    stage: Ints | None = None
    """Which stage of a pipeline it is; None where one site runs all of the model."""
    used: Ints | None = None
    """Blocks of the site that were used, of `held`."""
    held: Ints | None = None
    tokens_in: Ints | None = None
    """Prompt tokens of all these requests, where each has its own size; None where all have that of their class."""
    tokens_out: Ints | None = None
    """Generated tokens, likewise."""
    paid: Ints | None = None
    """Micro-units for all of them, each paid by itself; None where that follows from their sums."""

    def sizes(self, classes: Classes) -> tuple[Ints, Ints]:
        """Prompt and generated tokens of all these requests."""
        if self.tokens_in is not None and self.tokens_out is not None:
            return self.tokens_in, self.tokens_out
        return self.requests * classes.tokens_in[self.of_class], self.requests * classes.tokens_out[self.of_class]

    @property
    def complete(self) -> Ints:
        """Requests, each counted once, however many sites it passed."""
        return self.requests if self.stage is None else np.where(self.stage == 0, self.requests, 0)

    def part(self, figure: Ints) -> Ints:
        """As much of a figure as the blocks are that were used, rounded up."""
        if self.used is None or self.held is None:
            return figure
        return ceil_div(figure * self.used, self.held)

    def served(self, classes: int, epochs: int) -> Ints:
        """(C, E) requests."""
        total = np.zeros(classes * epochs, dtype=np.int64)
        np.add.at(total, self.of_class * epochs + self.epoch, self.complete)  # one index: three times as fast as two
        return total.reshape(classes, epochs)


def quotes(tokens_in: int, tokens_out: int, price_in: Ints, price_out: Ints) -> Ints:
    """What one request costs at each ask, before rounding: millionths of a micro-unit."""
    return tokens_in * price_in + tokens_out * price_out


def merit_order(quote: Ints, tie_rank: Ints) -> MeritOrder:
    """Sort each epoch's quotes; equal ones in order of `tie_rank`, a permutation of the sites.

    Raises:
        ConfigurationError: quotes beyond what 62 bits hold.
    """
    sites = quote.shape[1]
    bits = max(1, (sites - 1).bit_length())
    if int(quote.max()) >= LARGEST >> bits or int(quote.min()) < 0:
        raise ConfigurationError("prices outgrow 62-bit integers", hint="lower prices, margins or tokens per request")
    by_rank = np.empty(sites, dtype=np.int64)
    by_rank[tie_rank] = np.arange(sites)
    keys = np.sort((quote << bits) | tie_rank, axis=1)
    return MeritOrder(quote=quote, order=by_rank[keys & ((1 << bits) - 1)], rising=keys >> bits)


def products_of(classes: Classes) -> list[Product]:
    """For each class its product."""
    ways = {row.tobytes(): at for at, row in reversed(list(enumerate(classes.rank_extra)))}
    sizes = zip(classes.tokens_in.tolist(), classes.tokens_out.tolist(), classes.rank_extra, strict=True)
    return [(tokens_in, tokens_out, ways[extra.tobytes()]) for tokens_in, tokens_out, extra in sizes]


def turns(classes: Classes, day: int) -> list[int]:
    """The order in which classes take capacity: the highest price cap first; of equals, who has fewest places to go."""
    count = len(classes.names)
    rotated = (np.arange(count) + day) % count
    mask = {row.tobytes(): at for at, row in reversed(list(enumerate(classes.lawful)))}
    group = np.array([mask[row.tobytes()] for row in classes.lawful])
    last = np.lexsort((rotated, group, classes.lawful.sum(axis=1), -classes.price_cap))
    return [int(c) for c in last]


def clear(classes: Classes, passes: list[Pass], want: Ints, left_us: Ints, merits: dict[Product, MeritOrder]) -> Trades:
    """Serve `want` (C, E) requests by sites with `left_us` (E, N) microseconds, of which it takes what they need.

    In the order of `passes`, a class takes whole requests from the cheapest site that the law, the price cap and the
    time left allow, then from the next. Equal classes that find too little share it in proportion to what they want.
    """
    found: Columns = []
    for each in passes:
        found += _clear_pass(classes, each, want, left_us, merits)
    return trades_of(found)


def trades_of(found: Columns) -> Trades:
    """All parts together."""
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return Trades(nothing, nothing, nothing, nothing)
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    return Trades(*columns)


def passes_of(classes: Classes, products: list[Product], order: list[int]) -> list[Pass]:
    """Classes in `order`, those that see the same quotes and sites together while they follow one another."""
    found: list[Pass] = []
    for c in order:
        may = classes.lawful[c]
        if found and found[-1].product == products[c] and np.array_equal(found[-1].may, may):
            found[-1].classes.append(c)
        else:
            found.append(Pass(products[c], may, bool(may.all()), bool(may.any()), [c]))
    return found


def runs_of(products: list[Product], order: list[int]) -> list[tuple[Product, list[int]]]:
    """Classes in `order`, those that see the same quotes together while they follow one another."""
    return [(product, list(some)) for product, some in itertools.groupby(order, key=products.__getitem__)]


def _clear_pass(classes: Classes, each: Pass, want: Ints, left_us: Ints, merits: dict[Product, MeritOrder]) -> Columns:
    together = each.classes
    if not each.any or not want[together].any():
        return []
    first, merit = together[0], merits[each.product]
    order, rising = merit.order, merit.rising
    if not each.all:
        mine = each.may[order]
        order, rising = (figure[mine].reshape(len(left_us), -1) for figure in (order, rising))
    sites, busy = left_us.shape[1], classes.busy_us[first]
    upto = np.cumsum((left_us // busy).take(order + np.arange(0, left_us.size, sites)[:, None]), axis=1)
    intervals = _intervals(classes, together, want, upto, rising)
    taken = np.diff(np.minimum(upto, intervals[-1][2][:, None]), axis=1, prepend=0)
    found = handed_out(order, taken, intervals)
    for _, row, site, some in found:
        left_us[row, site] -= some * busy[site]
    return found


def handed_out(order: Ints, taken: Ints, intervals: list[tuple[int, Ints, Ints]]) -> Columns:
    """Who gets what of the requests that sites take, (E, n) in `order`: each class its interval, (class, from, to)."""
    width = order.shape[1]
    at = np.flatnonzero(taken)
    row, site, some = at // width, order.take(at), taken.take(at)
    if len(intervals) == 1:
        return [(np.full(len(row), intervals[0][0]), row, site, some)]
    high = np.cumsum(taken, axis=1).take(at)
    low = high - some
    found = []
    for c, start, stop in intervals:
        part = np.minimum(high, stop[row]) - np.maximum(low, start[row])
        own = np.flatnonzero(part > 0)
        found.append((np.full(len(own), c), row[own], site[own], part[own]))
    return found


def _intervals(
    classes: Classes, together: list[int], want: Ints, upto: Ints, quote: Ints
) -> list[tuple[int, Ints, Ints]]:
    """Of each class its part of the supply, in requests from the cheapest on: (class, from, to) by epoch."""
    start = np.zeros(len(upto), dtype=np.int64)
    found = []
    caps = dict.fromkeys(int(classes.price_cap[c]) for c in together)
    for cap in caps:
        equals = [c for c in together if int(classes.price_cap[c]) == cap]
        reach = np.count_nonzero(quote <= int(classes.most_paid[equals[0]]), axis=1)
        limit = np.where(reach > 0, upto[np.arange(len(upto)), np.maximum(reach - 1, 0)], 0)
        given = shared(want[equals], np.maximum(limit - start, 0))
        for c, some in zip(equals, given, strict=True):
            found.append((c, start, start + some))
            start = start + some
    return found


def shared(wanted: Ints, room: Ints) -> Ints:
    """(n, E) what each of equals gets of `room` (E,): what it wants, or a part in proportion to it, rounded down."""
    total = wanted.sum(axis=0)
    share = np.minimum(room / np.maximum(total, 1), 1.0)
    given = np.where(total <= room, wanted, np.minimum(wanted, np.floor(wanted * share).astype(np.int64)))
    given[-1] += np.where(total > room, np.minimum(room - given.sum(axis=0), wanted[-1] - given[-1]), 0)
    return given
