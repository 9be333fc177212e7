"""From offers in columns to a route: who may be used, the best lawful chain, who stands by, and why not the others.

Cost is price plus time: micro-units per million tokens, each millisecond of a token's way round the ring counted at
the client's `latency_weight`. Any part of an offer's span can be a leg; it pays its share, rounded up. A provider is
at most one leg, and a route has at most 16: `Route.gap` is above 0 where keeping to that, or to the policy's limits,
means that a cheaper route cannot be ruled out. The result depends on the set of offers alone.

All of it works on arrays, so ten thousand offers are a matter of milliseconds. The few offers that are taken in the end
are held against the policy's own rule once more, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from protocol.errors import ConfigurationError
from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer
from protocol.policy.policy import TIME_PER_TOKEN_US, Reason, ReasonCode
from protocol.policy.residency import places_of
from protocol.routing.candidates import Found, Limits, Weights, lattice_of, measure
from protocol.routing.cells import Bools, Ints
from protocol.routing.judging import Judge
from protocol.routing.latency import FIRST_TOKEN_US
from protocol.routing.lattice import INFINITE, MAX_BLOCKS, Programme, cheapest
from protocol.routing.lawful_ways import lawful_ways
from protocol.routing.no_route import beyond_limits, no_cover, no_lawful_way, none_answers, nothing_usable
from protocol.routing.routes import Explained, Explanations, NoRouteError, Route, RouteLeg
from protocol.routing.search import find
from protocol.routing.ways import Ways
from protocol.routing.wish import Wish, candidates_of, of_any
from protocol.units import MICRO, ceil_div

__all__ = ["route_over"]


def route_over(judge: Judge, ways: Ways, wish: Wish) -> Route:
    """The best route over the offers in a judge's columns.

    Raises:
        NoRouteError: with a code and the reason for every offer that cannot be used.
        ConfigurationError: an argument out of range.
    """
    if not 1 <= judge.blocks <= MAX_BLOCKS:
        raise ConfigurationError(f"blocks {judge.blocks} is outside 1 to {MAX_BLOCKS}")
    usable = judge.admitted() & ~of_any(judge.columns, wish.without)
    lawful = lawful_ways(judge.columns, ways, usable, judge.policy, judge.until)
    while True:
        attempt = _Attempt(judge, lawful, wish, usable)
        route = attempt.finished(attempt.find())
        if all(judge.reason(leg.offer) is None for legs in (route.legs, *route.standbys) for leg in legs):
            _require_lawful(judge, route)
            _require_trusted(judge, route, wish)
            return replace(route, backups=tuple(_backups(judge, lawful, wish, usable, route)))
        # A clause that has no column yet: each offer is held against it.
        for row in np.flatnonzero(usable).tolist():
            usable[row] = judge.reason(judge.columns.offer(row)) is None


def _backups(judge: Judge, ways: Ways, wish: Wish, usable: Bools, route: Route) -> Iterator[Route]:
    """The best route without any provider of those before, and so on, as many as are wished for and there are."""
    alone = replace(wish, standbys=0, kept=MappingProxyType({}))
    for _ in range(wish.backups):
        taken = dict.fromkeys((leg.offer.public_key for leg in route.legs), _IN_A_BETTER_ONE)
        alone, usable = replace(alone, without={**alone.without, **taken}), usable & ~of_any(judge.columns, taken)
        attempt = _Attempt(judge, ways, alone, usable)
        try:
            route = replace(attempt.finished(attempt.find()), explanations=())
        except NoRouteError:
            return
        if all(judge.reason(leg.offer) is None for leg in route.legs):
            _require_lawful(judge, route)
            _require_trusted(judge, route, wish)
            yield route


def _require_lawful(judge: Judge, route: Route) -> None:
    """Hold each hop against the rule itself: nothing is sent where columns and rule should ever differ."""
    legs = [leg.offer for leg in route.legs]
    hop = judge.policy.unlawful_hop([places_of(each) for each in legs], judge.until)
    if hop is not None:
        raise no_lawful_way(judge.policy, (legs[hop[0]], legs[hop[1]]), ())


def _require_trusted(judge: Judge, route: Route, wish: Wish) -> None:
    """Hold each leg, and whoever stands by for it, against the rule itself, likewise."""
    for leg in (each for legs in (route.legs, *route.standbys) for each in legs):
        if wish.ends is not None and wish.ends.open_to(leg.offer.public_key, leg.span, judge.blocks) != leg.span:
            raise NoRouteError(_UNTRUSTED.sentence, code=str(_UNTRUSTED.code), explanations=((leg.offer, _UNTRUSTED),))


class _Attempt:
    """One search over some usable rows."""

    def __init__(self, judge: Judge, ways: Ways, wish: Wish, usable: Bools) -> None:
        self._judge, self.wish, self._usable = judge, wish, usable
        self._offers = judge.columns.offers()
        policy = judge.policy
        self._limits = Limits(
            price_in=policy.max_price_in,
            price_out=policy.max_price_out,
            time_us=TIME_PER_TOKEN_US.get(policy.latency_class, 0),
            first_us=FIRST_TOKEN_US.get(policy.latency_class) if wish.prompt else None,
        )
        self._reason_of = judge.why_not()
        self._weights = Weights(wish.prompt_milli, 1000 - wish.prompt_milli, wish.latency_weight)
        self._candidates, self.rows = candidates_of(judge, ways, wish, usable)
        if len(self.rows):
            self._programme = Programme(lattice_of(self._candidates, self._weights))

    def find(self) -> Found:
        """The best path. Raises NoRouteError."""
        if not len(self.rows):
            there = self._judge.there()
            left_out = bool(there.any()) and bool(of_any(self._judge.columns, self.wish.without)[there].all())
            raise (none_answers if left_out else nothing_usable)(self._rejected())
        if self._programme.lattice.cells.has_hole:
            raise no_cover(self._candidates, self._programme.lattice.cells, self._rejected(), self._closed())
        if self._candidates.barred is not None and self._programme.cheapest() is None:
            raise no_lawful_way(self._judge.policy, self._barred_hop(), self._rejected())
        found = find(self._candidates, self._limits, self._weights, self._programme)
        if found is None:
            raise beyond_limits(self._candidates, self._limits, self._rejected())
        return found

    def _barred_hop(self) -> tuple[Offer, Offer]:
        """The first hop that data must not take of the route that is cheapest whatever the law."""
        barred, region = self._candidates.barred, self._candidates.region
        path = cheapest(lattice_of(replace(self._candidates, barred=None), self._weights))
        assert path is not None
        assert barred is not None
        who = [candidate for candidate, _, _ in path.legs]
        hop = next(hop for hop in zip(who, [*who[1:], who[0]], strict=True) if barred[region[hop[0]], region[hop[1]]])
        return self.offer(int(self.rows[hop[0]])), self.offer(int(self.rows[hop[1]]))

    def finished(self, found: Found) -> Route:
        """The route of a path, with what is to be said of the other offers."""
        measured = measure(self._candidates, found.path)
        legs = tuple(self._leg(candidate, start, end) for candidate, start, end in found.path.legs)
        return Route(
            legs=legs,
            price_in=sum(leg.price_in for leg in legs),  # what is paid: candidates may count carbon besides
            price_out=sum(leg.price_out for leg in legs),
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

    def _closed(self) -> list[Explained]:
        """Offers that could be used, but for their blocks being kept for those whom the client trusts."""
        c, ends = self._candidates, self.wish.ends
        if ends is None:
            return []
        start, end = c.serves
        return [(self.offer(row), _UNTRUSTED) for row in self.rows[(start > c.start) | (end < c.end)].tolist()]

    def nowhere(self, offer: Offer) -> Reason:
        """Why no route leads through an offer that may be used."""
        ends, blocks = self.wish.ends, self._judge.blocks
        if ends is not None and ends.open_to(offer.public_key, offer.span, blocks) != offer.span:
            return _UNTRUSTED
        return _TAKEN if self.wish.kept else _BARRED

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
            held = held[c.serves[1][held] >= end]
            if c.most is not None:
                held = held[c.most[held] >= end - start]
            if c.barred is not None:  # whomever of the others it will be beside
                others = c.region[[candidate for candidate, _, _ in legs]]
                forth, back = c.barred[np.ix_(c.region[held], others)], c.barred[np.ix_(others, c.region[held])]
                held = held[~(forth.any(axis=1) | back.any(axis=0))]
            region = lattice.region[held]
            cost = lattice.block_cost[held] * (end - start) + ways[held]
            cost += lattice.between[before, region] + lattice.between[region, after]
            order = np.argsort(cost, kind="stable")
            holders.append(held[order[cost[order] < INFINITE]])
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
        rows = np.flatnonzero(self._judge.there() & ~self._usable)
        return Explanations(len(rows), lambda at: self.why_not(int(rows[at])))

    def why_not(self, row: int) -> Explained:
        offer = self.offer(row)
        reason = self.wish.without.get(offer.public_key) or self._reason_of(row, offer)
        assert reason is not None
        return offer, reason

    def _explained(self, found: Found) -> Explanations:
        """Of all that are not in it, as they are now."""
        others = self._judge.there()
        others[self.rows[[candidate for candidate, _, _ in found.path.legs]]] = False
        rows = np.flatnonzero(others)
        return Explanations(len(rows), _Told(self, found, rows))

    def dearer_by(self, found: Found) -> Ints:
        """(rows,) by how much routes with a candidate are dearer at least; below 0 where cheaper ones break a limit,
        and `_NOT_ASKED` where it is none.
        """
        through = self._programme.bounds_through() - found.path.cost
        best = self._programme.cheapest()
        if best is not None and best.cost == found.path.cost:  # a bound may lie below; nothing is cheaper all the same
            np.maximum(through, 0, out=through)
        dearer = np.full(len(self._offers), _NOT_ASKED, dtype=np.int64)
        dearer[self.rows] = through
        return dearer

    @property
    def exact(self) -> bool:
        """Whether that is by how much the cheapest of these routes is dearer."""
        return len(self._candidates.between_us) == 1 and self._candidates.most is None


class _Told:
    """Writes the reason for one of the offers that are not in a route; what that takes is computed when one is read."""

    def __init__(self, attempt: _Attempt, found: Found, rows: Ints) -> None:
        self._attempt, self._found, self._rows = attempt, found, rows
        exact = attempt.exact
        self._more = "the cheapest route with it costs" if exact else "every route with it costs at least"
        same = "a route with it costs the same" if exact else "no route with it costs less"
        self._same = Reason(ReasonCode.DEARER, f"{same}; a fixed order decides between equals")
        wish = attempt.wish
        beside = [word for word, counts in (("time", wish.latency_weight), ("carbon", wish.carbon_price)) if counts]
        self._counting = "more per 1M tokens" + (f", {' and '.join(beside)} included" if beside else "")
        self._codes: tuple[list[int], list[int], list[int]] | None = None
        """By offer: its row, and by how many units and micro-units a route with it is dearer; instead of units a code
        below 0.
        """

    def __call__(self, at: int) -> Explained:
        if self._codes is None:
            self._codes = self._coded()
        rows, wholes, parts = self._codes
        row, whole = rows[at], wholes[at]
        if whole == _REJECTED:
            return self._attempt.why_not(row)
        offer = self._attempt.offer(row)
        if whole >= 0:
            return offer, Reason(_DEARER, f"{self._more} {whole}.{parts[at]:06d} {self._counting}")
        if whole == _SAME:
            return offer, self._same
        if whole == _NOWHERE:
            return offer, self._attempt.nowhere(offer)
        return offer, _BREAKS

    def _coded(self) -> tuple[list[int], list[int], list[int]]:
        extra = self._attempt.dearer_by(self._found)[self._rows]
        micro = -(-extra // 1000)
        whole, parts = np.divmod(np.maximum(micro, 0), MICRO)
        whole[micro == 0] = _SAME
        whole[extra < 0] = _BELOW
        whole[extra >= INFINITE // 2] = _NOWHERE
        whole[extra == _NOT_ASKED] = _REJECTED
        return self._rows.tolist(), whole.tolist(), parts.tolist()


_DEARER = ReasonCode.DEARER
_SAME, _BELOW, _NOWHERE, _REJECTED = -1, -2, -3, -4
_NOT_ASKED = -(2**62)
_IN_A_BETTER_ONE = Reason(ReasonCode.DEARER, "it is in a better route")
_TAKEN = Reason(ReasonCode.LIMITS, "the session goes on with those that served its blocks before")
_BARRED = Reason(ReasonCode.CORRIDOR, "each route with it has a hop that your policy forbids, or leaves blocks out")
_UNTRUSTED = Reason(
    ReasonCode.UNTRUSTED, "you trust others with the first and the last blocks, and no route takes the rest of it"
)
_BREAKS = Reason(ReasonCode.LIMITS, "cheaper routes with it break a limit on price, time, legs or providers")
