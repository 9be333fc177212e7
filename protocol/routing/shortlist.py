"""Which of thousands of offers are worth a closer look: whole routes, the best first, each of other providers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from protocol.market.offer import Offer
from protocol.reputation.merit import Merit
from protocol.routing.candidates import Candidates, Weights, lattice_of
from protocol.routing.cells import Bools, Cells, Ints
from protocol.routing.choice import MeritOf
from protocol.routing.judging import Judge
from protocol.routing.lattice import Path, cheapest
from protocol.routing.lawful_ways import lawful_ways
from protocol.routing.routes import MAX_LEGS
from protocol.routing.ways import Ways
from protocol.routing.wish import Wish, candidates_of

__all__ = ["FIRST", "shortlist"]

FIRST = 8
"""Offers that are looked at more closely at first; then, where they make no route, twice as many, and so on."""
_LEG = 2
"""What a further leg costs at least, in thousandths of a micro-unit per million tokens: of equals the shorter chain."""


def shortlist(judge: Judge, ways: Ways, wish: Wish, usable: Bools, *, merit: MeritOf, most: int = FIRST) -> list[Offer]:
    """Offers of whole routes, as many as `most`, and what the last of them has besides.

    Routes of keys with merit come first, then those with others among them, and those with keys that failed last. Where
    no route is whole, the cheapest offers by block.

    Args:
        usable: (rows,) which offers may be used.
        wish: whose limits on a route as a whole do not count here: who is how far away is still to be found out.
    """
    ways = lawful_ways(judge.columns, ways, usable, judge.policy, judge.until)
    candidates, rows = candidates_of(judge, ways, wish, usable)
    if not len(rows):
        return []
    offers = [judge.columns.offer(row) for row in rows.tolist()]
    ranks = np.array([merit(offer.public_key) for offer in offers], dtype=np.int64)
    weights = Weights(wish.prompt_milli, 1000 - wish.prompt_milli, wish.latency_weight, leg=_LEG)
    found = _of_chains(candidates, weights, ranks, most)
    if not found:
        each = lattice_of(candidates, weights).block_cost
        found = np.lexsort((each, -ranks)).tolist()[:most]
    return [offers[at] for at in found]


def _of_chains(candidates: Candidates, weights: Weights, ranks: Ints, most: int) -> list[int]:
    """Candidates of the cheapest chains, in the order of these and of their blocks."""
    found: list[int] = []
    free = np.ones(len(ranks), dtype=bool)
    for least in (Merit.PAID, Merit.NEWCOMER, Merit.SHUNNED):
        for path in _chains(candidates, weights, free & (ranks >= least)):
            legs = [candidate for candidate, _, _ in path.legs]
            free &= ~np.isin(candidates.provider, candidates.provider[legs])
            found += legs if len(set(legs)) <= MAX_LEGS else []
            if len(found) >= most:
                return found
    return found


def _chains(candidates: Candidates, weights: Weights, free: Bools) -> Iterator[Path]:
    """The cheapest chain of some candidates, then the cheapest without its providers, and so on."""
    cells = candidates.cells()
    while True:
        part = _part(cells, free)
        path = None if part.has_hole else cheapest(lattice_of(candidates, weights, part))
        if path is None:
            return
        yield path
        legs = [candidate for candidate, _, _ in path.legs]
        free = free & ~np.isin(candidates.provider, candidates.provider[legs])


def _part(cells: Cells, free: Bools) -> Cells:
    return cells if free.all() else cells.part(free[cells.who])
