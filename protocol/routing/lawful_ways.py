"""Which hops data may take, as part of the ways between offers (docs/spec/market.md, clause M74).

What is lawful depends on the places of two machines alone. So regions are told apart by it, and a hop that is forbidden
is no way at all: the cheapest route is then found among the lawful ones, whatever the others cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from protocol.geography.blocs import BLOCS_NOW
from protocol.geography.jurisdictions import UNDECLARED, country_of, is_in
from protocol.market.offer import Offer
from protocol.policy.corridors import Corridor
from protocol.policy.policy import Policy
from protocol.policy.residency import places_of
from protocol.routing.cells import Bools
from protocol.routing.columns import Column, Columns
from protocol.routing.ways import Ways

__all__ = ["lawful_hops", "lawful_standbys", "lawful_ways"]


def lawful_ways(columns: Columns, ways: Ways, usable: Bools, policy: Policy, until: int) -> Ways:
    """The ways between the offers that may be used, with those barred that data may not go.

    Args:
        usable: (rows,) which these are.
        until: unix seconds; a corridor that ends before is none.
    """
    rows = np.flatnonzero(usable)
    if not policy.origin or not len(rows):
        return ways
    numbers = columns.at(Column.PLACE)[rows]
    met = np.flatnonzero(np.bincount(numbers, minlength=columns.places))
    lawful = _between([_stands(columns.place(number)) for number in met.tolist()], policy, until)
    if lawful.all():
        return ways
    # Places from and to which the same hops are lawful are one kind.
    _, first, kind = np.unique(np.hstack((lawful, lawful.T)), axis=0, return_index=True, return_inverse=True)
    kind_of = np.zeros(columns.places, dtype=np.int64)
    kind_of[met] = kind.reshape(-1)
    both = ways.region[rows] * len(first) + kind_of[numbers]
    told_apart, region = np.unique(both, return_inverse=True)
    old, kinds = np.divmod(told_apart, len(first))
    every = np.zeros(columns.rows, dtype=np.int64)
    every[rows] = region
    of_kind = first[kinds]
    return replace(
        ways,
        region=every,
        between_us=np.ascontiguousarray(ways.between_us[np.ix_(old, old)]),
        barred=~lawful[np.ix_(of_kind, of_kind)],
    )


def _stands(place: tuple[str, ...]) -> tuple[str, ...]:
    """As `residency.places_of` has it of an offer."""
    country, region, *others = place
    return (region or country, *others)


def _between(stands: Sequence[tuple[str, ...]], policy: Policy, until: int) -> Bools:
    """(P, P) whether data may go from all places of one to all places of another."""
    single = sorted({place for each in stands for place in each})
    number = {place: at for at, place in enumerate(single)}
    barred = ~lawful_hops(
        policy.corridors, single, purpose=policy.purpose, home=policy.origin, until=until, blocs=policy.blocs
    )
    within = np.zeros((len(stands), len(single)), dtype=np.float64)
    for at, each in enumerate(stands):
        within[at, [number[place] for place in each]] = 1
    lawful: Bools = within @ barred @ within.T == 0
    return lawful


def lawful_standbys(policy: Policy, route: Sequence[Offer], spares: Sequence[Offer], until: int) -> list[Offer]:
    """Those of `spares`, the better ones first, to and from whom data may go whomever of the others they are beside."""
    kept: list[Offer] = []
    for spare in spares:
        around = [places_of(each) for each in (*route, *kept)]
        mine = places_of(spare)
        if all(policy.lets_pass(each, mine, until) and policy.lets_pass(mine, each, until) for each in around):
            kept.append(spare)
    return kept


def lawful_hops(
    corridors: Sequence[Corridor],
    places: Sequence[str],
    *,
    purpose: str,
    home: str,
    until: int,
    blocs: str = BLOCS_NOW,
) -> Bools:
    """(P, P) whether data may go from one place to another: as `lawful_hop` of each two, at once.

    Args:
        places: countries or parts of them.
    """
    open_now = [each for each in corridors if each.purpose == purpose and each.expires_at >= until]
    countries = np.array([country_of(place) for place in places])
    lawful: Bools = (countries[:, None] == countries) | (countries == country_of(home))
    for each in open_now:
        source = np.array([is_in(place, each.source, blocs) for place in places])
        lawful |= source[:, None] & np.array([is_in(place, each.to, blocs) for place in places])
    declared = np.array([place != UNDECLARED for place in places])
    lawful &= declared[:, None] & declared
    return lawful
