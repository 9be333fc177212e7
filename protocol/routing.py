"""Which offers run a job: the best chain of spans over the whole model, and why every other offer is not in it.

Cost is price plus time: micro-units per million tokens, each millisecond of a token's way round the ring counted at the
client's `latency_weight`. `lattice` is the exact dynamic programme, `search` keeps the limits of a route as a whole.

- Any sub-span of an offer can be a leg; it pays its share of the offer's price, rounded up.
- A hop takes the access of both ends and the way between their regions (`Ways`); compute takes the offer's time per
  position, by blocks used. A route of one leg has no hops.
- A provider is at most one leg, and a route has at most 16: `Route.gap` is above 0 where keeping to that, or to the
  policy's limits, means that a cheaper route cannot be ruled out; it says how much cheaper at most.
- The result depends on the set of offers only, not on their order: equals are decided by public key, then by blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from protocol.codec import encode
from protocol.columns import Columns
from protocol.judging import Judge
from protocol.offer import Offer, OfferKey, offer_key
from protocol.policy import Known, Needs, Policy, Reason, ReasonCode
from protocol.router import Wish, route_over
from protocol.routes import Explained, NoRouteError, Route, RouteLeg
from protocol.ways import MAX_RTT_US, ONE_REGION, UNKNOWN_RTT_US, Regions, ways_by_region

__all__ = [
    "MAX_RTT_US",
    "ONE_REGION",
    "UNKNOWN_RTT_US",
    "NoRouteError",
    "Regions",
    "Route",
    "RouteLeg",
    "route",
]


def route(
    offers: Sequence[Offer],
    policy: Policy,
    *,
    model: bytes,
    blocks: int,
    venue: bytes,
    now: int,
    rtt_us: Mapping[bytes, int],
    latency_weight: int,
    needs: Needs = Needs(),  # noqa: B008 - frozen
    known: Mapping[bytes, Known] = MappingProxyType({}),
    prompt_milli: int = 500,
    prompt: int = 0,
    regions: Regions = ONE_REGION,
    standbys: int = 0,
) -> Route:
    """The best route through `blocks` blocks of `model`.

    Args:
        venue: domain separator of the ledger that the client pays on.
        now: unix seconds.
        rtt_us: measured round trips by public key; `UNKNOWN_RTT_US` is assumed of the others.
        latency_weight: micro-units per million tokens that a millisecond less per token is worth; 0 for price alone.
        needs: what the job asks of each leg besides the policy.
        known: what the client has found out of providers, by public key; of others it knows nothing.
        prompt_milli: thousandths of the job's tokens that are prompt; weighs `price_in` against `price_out`.
        prompt: tokens of the prompt; 0 where the time to the first token is not to be limited.
        regions: how far providers are from one another.
        standbys: offers that are named for each leg to take its place.

    Raises:
        NoRouteError: with a code and the reason for every offer that cannot be used.
        ConfigurationError: an argument out of range.
    """
    wish = Wish(latency_weight=latency_weight, prompt_milli=prompt_milli, prompt=prompt, standbys=standbys)
    old = _superseded(offers)
    current = [at for at in range(len(offers)) if at not in old]
    columns = Columns(offers[at] for at in current)
    judge = Judge(
        columns=columns, policy=policy, model=model, blocks=blocks, venue=venue, now=now, needs=needs, known=known
    )
    ways = ways_by_region(columns, rtt_us, regions)
    try:
        found = route_over(judge, ways, wish)
    except NoRouteError as error:
        everything = _all_told(offers, old, error.explanations)
        raise NoRouteError(error.message, code=error.code, hint=error.hint, explanations=everything) from None
    return replace(found, explanations=_all_told(offers, old, found.explanations))


def _all_told(offers: Sequence[Offer], old: Mapping[int, Reason], told: Sequence[Explained]) -> Sequence[Explained]:
    """The reasons of newer offers with those of superseded ones, in the order that the offers came in."""
    if not old:
        return told
    reasons = {id(offer): reason for offer, reason in told} | {id(offers[at]): reason for at, reason in old.items()}
    return tuple((offer, reasons[id(offer)]) for offer in offers if id(offer) in reasons)


def _superseded(offers: Sequence[Offer]) -> dict[int, Reason]:
    """All but the newest offer of each key; of two with one sequence the one with the smaller bytes counts."""
    newest: dict[OfferKey, int] = {}
    older: dict[int, Reason] = {}
    for at, offer in enumerate(offers):
        best = newest.setdefault(offer_key(offer), at)
        if best == at:
            continue
        worse = at
        if _is_newer(offer, offers[best]):
            newest[offer_key(offer)], worse = at, best
        older[worse] = Reason(ReasonCode.SUPERSEDED, "the provider has made a newer offer of the same blocks")
    return older


def _is_newer(new: Offer, old: Offer) -> bool:
    return new.sequence > old.sequence or (new.sequence == old.sequence and encode(new) < encode(old))
