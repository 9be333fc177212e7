"""The best route whose every hop is lawful, for data that may not go everywhere (docs/spec/market.md, clause M74)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from protocol.choice import route_among
from protocol.offer import Offer
from protocol.policy import Policy, Reason, ReasonCode
from protocol.residency import places_of
from protocol.routing import NoRouteError, Route

__all__ = ["lawful_route", "lawful_standbys"]

MOST_TRIES = 64
Without = Mapping[bytes, Reason]


def lawful_route(
    offers: Sequence[Offer],
    without: Without,
    find: Callable[[Sequence[Offer]], Route],
    *,
    policy: Policy,
    until: int,
    cost: Callable[[Route], int],
) -> Route:
    """As `choice.route_among`, over routes whose data go lawfully from leg to leg.

    Where the best route has a hop that is forbidden, the search goes on without those who stand where it begins, and
    without those who stand where it ends; the cheapest of what is found that way is taken, so nothing unlawful ever is.

    Args:
        until: unix seconds; a corridor that ends before is none.
        cost: what routes are compared by, as `find` does.

    Raises NoRouteError: as `find`; or with code ``no-corridor`` where each route that was found has a forbidden hop.
    """
    turns = count()
    found = route_among(offers, without, find)
    waiting = [(cost(found), next(turns), found, without)]
    for _ in range(MOST_TRIES):
        if not waiting:
            break
        _, _, found, left = heapq.heappop(waiting)
        legs = [places_of(leg.offer) for leg in found.legs]
        hop = policy.unlawful_hop(legs, until)
        if hop is None:
            return found
        text = f"no corridor for {policy.purpose} leads from {_named(legs[hop[0]])} to {_named(legs[hop[1]])}"
        reason = Reason(ReasonCode.CORRIDOR, text)
        for places in sorted({legs[hop[0]], legs[hop[1]]}):
            out = {**left, **{each.public_key: reason for each in offers if places_of(each) == places}}
            try:
                other = route_among(offers, out, find)
            except NoRouteError:
                continue
            heapq.heappush(waiting, (cost(other), next(turns), other, out))
    raise NoRouteError(
        f"every route has a hop that your policy forbids: {text}",
        code="no-corridor",
        hint="add the corridor with --corridor if the law allows it, or wait for nodes elsewhere",
        explanations=found.explanations,
    )


def lawful_standbys(policy: Policy, route: Sequence[Offer], spares: Sequence[Offer], until: int) -> list[Offer]:
    """Those of `spares`, the better ones first, to and from whom data may go whomever of the others they are beside."""
    kept: list[Offer] = []
    for spare in spares:
        around = [places_of(each) for each in (*route, *kept)]
        mine = places_of(spare)
        if all(policy.lets_pass(each, mine, until) and policy.lets_pass(mine, each, until) for each in around):
            kept.append(spare)
    return kept


def _named(places: Sequence[str]) -> str:
    return " and ".join(places)
