"""From offers in columns to a route: who may be used, the best chain, who stands by, and why not the others.

All of it works on arrays, so ten thousand offers are a matter of milliseconds. The few offers that are taken in the end
are held against the policy's own rule once more, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from protocol.candidates import MAX_LATENCY_WEIGHT, Candidates, Found, Limits, Weights, lattice_of, measure
from protocol.cells import Bools, Ints
from protocol.columns import Column, Columns
from protocol.errors import ConfigurationError
from protocol.ids import BlockSpan
from protocol.judging import Judge
from protocol.latency import FIRST_TOKEN_US
from protocol.lattice import MAX_BLOCKS, Programme
from protocol.no_route import beyond_limits, no_cover, nothing_usable
from protocol.offer import Offer
from protocol.policy import TIME_PER_TOKEN_US, Reason, ReasonCode
from protocol.routes import Explained, Explanations, Route, RouteLeg
from protocol.search import find
from protocol.units import ceil_div, format_micro
from protocol.ways import Ways

__all__ = ["Wish", "route_over"]

_MOST_PROMPT_US = 10**10
"""Of any offer: nobody waits hours for a first token."""
_FEW_REGIONS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a client prefers, besides what its policy asks. Raises ConfigurationError for what is out of range."""

    latency_weight: int
    """Micro-units per million tokens that a millisecond less per token is worth; 0 for price alone."""
    prompt_milli: int = 500
    """Thousandths of the job's tokens that are prompt; weighs `price_in` against `price_out`."""
    prompt: int = 0
    """Tokens of the prompt; 0 where the time to the first token is not to be limited."""
    standbys: int = 0
    """Offers that are named for each leg to take its place."""
    without: Mapping[bytes, Reason] = field(default_factory=lambda: MappingProxyType({}))
    """Providers that are not used, whatever they offer, by public key."""
    most_blocks: Mapping[bytes, int] = field(default_factory=lambda: MappingProxyType({}))
    """By public key: blocks that a leg of a provider may have at most, where that is less than its span."""

    def __post_init__(self) -> None:
        for name, value, most in (
            ("latency weight", self.latency_weight, MAX_LATENCY_WEIGHT),
            ("prompt share", self.prompt_milli, 1000),
        ):
            if not 0 <= value <= most:
                raise ConfigurationError(f"{name} {value} is outside 0 to {most}")


def route_over(judge: Judge, ways: Ways, wish: Wish) -> Route:
    """The best route over the offers in a judge's columns.

    Raises:
        NoRouteError: with a code and the reason for every offer that cannot be used.
        ConfigurationError: an argument out of range.
    """
    if not 1 <= judge.blocks <= MAX_BLOCKS:
        raise ConfigurationError(f"blocks {judge.blocks} is outside 1 to {MAX_BLOCKS}")
    usable = judge.admitted() & ~_of_any(judge.columns, wish.without)
    while True:
        attempt = _Attempt(judge, ways, wish, usable)
        route = attempt.finished(attempt.find())
        if all(judge.reason(leg.offer) is None for legs in (route.legs, *route.standbys) for leg in legs):
            return route
        # A clause that has no column yet: each offer is held against it.
        for row in np.flatnonzero(usable).tolist():
            usable[row] = judge.reason(judge.columns.offer(row)) is None


def _of_any(columns: Columns, keys: Mapping[bytes, Reason]) -> Bools:
    """(rows,) whether an offer is of one of these providers."""
    named = np.zeros(max(1, columns.providers), dtype=bool)
    for key in keys:
        provider = columns.provider(key)
        if provider >= 0:
            named[provider] = True
    of: Bools = named[columns.at(Column.PROVIDER)]
    return of


class _Attempt:
    """One search over some usable rows."""

    def __init__(self, judge: Judge, ways: Ways, wish: Wish, usable: Bools) -> None:
        self._judge, self.wish, self._usable = judge, wish, usable
        self._offers = judge.columns.offers()
        self.rows = _in_order(judge.columns, ways, np.flatnonzero(usable))
        """Of the candidates."""
        policy = judge.policy
        self._limits = Limits(
            price_in=policy.max_price_in,
            price_out=policy.max_price_out,
            time_us=TIME_PER_TOKEN_US.get(policy.latency_class, 0),
            first_us=FIRST_TOKEN_US.get(policy.latency_class) if wish.prompt else None,
        )
        self._reason_of = judge.why_not()
        self._weights = Weights(wish.prompt_milli, 1000 - wish.prompt_milli, wish.latency_weight)
        self._candidates = self._columns(ways)
        if len(self.rows):
            self._programme = Programme(lattice_of(self._candidates, self._weights))

    def _columns(self, ways: Ways) -> Candidates:
        columns, rows = self._judge.columns, self.rows

        def column(which: Column) -> Ints:
            return columns.at(which)[rows]

        return Candidates(
            provider=column(Column.PROVIDER),
            start=column(Column.START),
            end=column(Column.END),
            price_in=column(Column.PRICE_IN),
            price_out=column(Column.PRICE_OUT),
            position_us=column(Column.POSITION_US),
            prompt_us=np.minimum(column(Column.PROMPT_US) * min(self.wish.prompt, 2**24), _MOST_PROMPT_US),
            access_us=ways.access_us[rows],
            region=ways.region[rows],
            between_us=ways.between_us,
            blocks=self._judge.blocks,
            most=self._most(rows),
        )

    def _most(self, rows: Ints) -> Ints | None:
        blocks, columns = self._judge.blocks, self._judge.columns
        by_provider = np.full(max(1, columns.providers), blocks, dtype=np.int64)
        for key, most in self.wish.most_blocks.items():
            provider = columns.provider(key)
            if provider >= 0:
                by_provider[provider] = max(1, most)
        most_of: Ints = by_provider[columns.at(Column.PROVIDER)[rows]]
        return most_of if bool((most_of < blocks).any()) else None

    def find(self) -> Found:
        """The best path. Raises NoRouteError."""
        if not len(self.rows):
            raise nothing_usable(self._rejected())
        if self._programme.lattice.cells.has_hole:
            raise no_cover(self._candidates, self._rejected())
        found = find(self._candidates, self._limits, self._weights, self._programme)
        if found is None:
            raise beyond_limits(self._candidates, self._limits, self._rejected())
        return found

    def finished(self, found: Found) -> Route:
        """The route of a path, with what is to be said of the other offers."""
        measured = measure(self._candidates, found.path)
        return Route(
            legs=tuple(self._leg(candidate, start, end) for candidate, start, end in found.path.legs),
            price_in=measured.price_in,
            price_out=measured.price_out,
            latency_us=measured.latency_us,
            gap=ceil_div(found.gap, 1000),
            explanations=self._explained(found),
            first_us=measured.first_us if self.wish.prompt else None,
            standbys=tuple(self._standbys(found)) if self.wish.standbys else (),
        )

    def _leg(self, candidate: int, start: int, end: int) -> RouteLeg:
        offer, used = self.offer(int(self.rows[candidate])), end - start
        return RouteLeg(
            offer,
            BlockSpan(start=start, end=end),
            price_in=ceil_div(offer.rates.price_in * used, len(offer.span)),
            price_out=ceil_div(offer.rates.price_out * used, len(offer.span)),
        )

    def offer(self, row: int) -> Offer:
        offer = self._offers[row]
        assert offer is not None
        return offer

    # Who could take a leg's place

    def _standbys(self, found: Found) -> Iterator[tuple[RouteLeg, ...]]:
        """For each leg the cheapest offers that hold all of its blocks, each provider for one leg; turn by turn."""
        lattice, c, legs = self._programme.lattice, self._candidates, found.path.legs
        taken = np.zeros(max(1, self._judge.columns.providers), dtype=bool)
        taken[c.provider[[candidate for candidate, _, _ in legs]]] = True
        ways = lattice.access * 2
        holders = []
        for at, (_, start, end) in enumerate(legs):
            before, after = lattice.region[legs[at - 1][0]], lattice.region[legs[(at + 1) % len(legs)][0]]
            held = lattice.cells.at(start)
            held = held[c.end[held] >= end]
            if c.most is not None:
                held = held[c.most[held] >= end - start]
            region = lattice.region[held]
            cost = lattice.block_cost[held] * (end - start) + ways[held]
            cost += lattice.between[before, region] + lattice.between[region, after]
            holders.append(held[np.argsort(cost, kind="stable")])
        chosen: list[list[RouteLeg]] = [[] for _ in legs]
        for _ in range(self.wish.standbys):
            for at, (_, start, end) in enumerate(legs):
                free = holders[at][~taken[c.provider[holders[at]]]]
                if len(free):
                    taken[c.provider[free[0]]] = True
                    chosen[at].append(self._leg(int(free[0]), start, end))
        return (tuple(each) for each in chosen)

    # Why others are not used

    def _rejected(self) -> Explanations:
        """Of those that cannot be used."""
        rows = np.flatnonzero(self._judge.columns.live() & ~self._usable)
        return Explanations(len(rows), lambda at: self.why_not(int(rows[at])))

    def why_not(self, row: int) -> Explained:
        offer = self.offer(row)
        reason = self._reason_of(row, offer)
        return offer, self.wish.without[offer.public_key] if reason is None else reason

    def _explained(self, found: Found) -> Explanations:
        """Of all that are not in it, as they are now."""
        others = self._judge.columns.live()
        others[self.rows[[candidate for candidate, _, _ in found.path.legs]]] = False
        rows = np.flatnonzero(others)
        return Explanations(len(rows), _Told(self, found, rows))

    def dearer_by(self, found: Found) -> dict[int, int]:
        """By row of a candidate, by how much routes with it are dearer at least; below 0 where cheaper ones break a
        limit."""
        through = self._programme.bounds_through() - found.path.cost
        best = self._programme.cheapest()
        if best is not None and best.cost == found.path.cost:  # a bound may lie below; nothing is cheaper all the same
            np.maximum(through, 0, out=through)
        return dict(zip(self.rows.tolist(), through.tolist(), strict=True))

    @property
    def exact(self) -> bool:
        """Whether that is by how much the cheapest of these routes is dearer."""
        return len(self._candidates.between_us) == 1 and self._candidates.most is None


class _Told:
    """Writes the reason for one of the offers that are not in a route; what that takes is computed when one is read."""

    def __init__(self, attempt: _Attempt, found: Found, rows: Ints) -> None:
        self._attempt, self._found, self._rows = attempt, found, rows.tolist()
        self._extra: dict[int, int] | None = None
        exact = attempt.exact
        self._more = "the cheapest route with it costs" if exact else "every route with it costs at least"
        same = "a route with it costs the same" if exact else "no route with it costs less"
        self._same = Reason(ReasonCode.DEARER, f"{same}; a fixed order decides between equals")
        self._counting = "more per 1M tokens" + (", time included" if attempt.wish.latency_weight else "")

    def __call__(self, at: int) -> Explained:
        if self._extra is None:
            self._extra = self._attempt.dearer_by(self._found)
        row = self._rows[at]
        extra = self._extra.get(row)
        if extra is None:
            return self._attempt.why_not(row)
        return self._attempt.offer(row), self._dearer(extra)

    def _dearer(self, extra: int) -> Reason:
        if extra > 0:
            return Reason(ReasonCode.DEARER, f"{self._more} {format_micro(-(-extra // 1000))} {self._counting}")
        return self._same if extra == 0 else _BREAKS


_BREAKS = Reason(ReasonCode.LIMITS, "cheaper routes with it break a limit on price, time, legs or providers")


def _in_order(columns: Columns, ways: Ways, rows: Ints) -> Ints:
    """Rows by region, then by public key, then by blocks."""
    region, key = ways.region[rows], columns.at(Column.ORDER)[rows]
    if len(ways.between_us) <= _FEW_REGIONS:
        both = (region << 56) | key
        order = both.argsort()
        if bool((both[order][1:] != both[order][:-1]).all()):
            ordered: Ints = rows[order]
            return ordered
    by = np.lexsort((columns.at(Column.END)[rows], columns.at(Column.START)[rows], key, region))
    in_order: Ints = rows[by]
    return in_order
