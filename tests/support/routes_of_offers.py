"""A route through some offers at hand, by the router that works on columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from protocol.market.offer import Offer
from protocol.policy.policy import Known, Needs, Policy
from protocol.routing.columns import Columns
from protocol.routing.judging import Judge
from protocol.routing.router import route_over
from protocol.routing.routes import Route
from protocol.routing.ways import ONE_REGION, Regions, ways_by_region
from protocol.routing.wish import Wish


def route(
    offers: Sequence[Offer],
    policy: Policy,
    *,
    model: bytes,
    blocks: int,
    venue: bytes,
    now: int,
    rtt_us: Mapping[bytes, int],
    needs: Needs = Needs(),  # noqa: B008 - frozen
    known: Mapping[bytes, Known] = MappingProxyType({}),
    regions: Regions = ONE_REGION,
    **wish: Any,
) -> Route:
    """The best route; `wish` has what a `Wish` is made of."""
    columns = Columns(offers)
    judge = Judge(
        columns=columns, policy=policy, model=model, blocks=blocks, venue=venue, now=now, needs=needs, known=known
    )
    return route_over(judge, ways_by_region(columns, rtt_us, regions), Wish(**wish))
