"""Which offers run a job: the best chain of spans over the whole model, and why every other offer is not in it.

Cost is price plus time: micro-units per million tokens, each millisecond of a token's way round the ring counted at the
client's `latency_weight`. `lattice` is the exact dynamic programme, `search` keeps the limits of a route as a whole.

- Any sub-span of an offer can be a leg; it pays its share of the offer's price, rounded up.
- A hop takes half a round trip at either end, measured from the client, plus the way between their regions; compute
  takes the offer's time per position, by blocks used. A route of one leg has no hops.
- A provider is at most one leg, and a route has at most 16: `Route.gap` is above 0 where keeping to that, or to the
  policy's limits, means that a cheaper route cannot be ruled out; it says how much cheaper at most.
- The result depends on the set of offers only, not on their order: equals are decided by public key, then by blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

import numpy as np

from protocol.codec import encode
from protocol.errors import ConfigurationError, RoutingError
from protocol.ids import BlockSpan
from protocol.lattice import MAX_BLOCKS, Ints, costs_through
from protocol.offer import Offer, OfferKey, offer_key
from protocol.policy import NOTHING_KNOWN, TIME_PER_TOKEN_US, Known, Needs, Policy, Reason, ReasonCode, excluded
from protocol.search import (
    MAX_LATENCY_WEIGHT,
    Candidates,
    Found,
    Limit,
    Limits,
    Weights,
    find,
    lattice_of,
    measure,
    unreachable,
)
from protocol.units import ceil_div, format_micro

__all__ = ["MAX_RTT_US", "ONE_REGION", "UNKNOWN_RTT_US", "NoRouteError", "Regions", "Route", "RouteLeg", "route"]

UNKNOWN_RTT_US = 100_000
"""Round trip assumed to a provider that was not measured: from one continent to the next."""
MAX_RTT_US = 10_000_000
"""Longer ones count as this."""

Explanations = tuple[tuple[Offer, Reason], ...]


class NoRouteError(RoutingError):
    """No route. `code` is one of no-offers, unreachable, all-excluded, gap, price-cap, too-slow, busy, no-route."""

    def __init__(self, message: str, *, code: str, hint: str = "", explanations: Explanations = ()) -> None:
        super().__init__(message, code=code, hint=hint)
        self.explanations = explanations
        """Why each offer cannot be used, in the order that the offers came in; those that could be are not here."""


@dataclass(frozen=True, slots=True)
class Regions:
    """What is known of the distances between providers. Raises ConfigurationError where it contradicts itself."""

    of: Mapping[bytes, int] = field(default_factory=dict)
    """Region by public key; 0 for those not listed."""
    one_way_us: tuple[tuple[int, ...], ...] = ((0,),)
    """Microseconds from region to region, on top of the access of both ends."""

    def __post_init__(self) -> None:
        count = len(self.one_way_us)
        square = count > 0 and all(len(row) == count and min(row) >= 0 for row in self.one_way_us)
        if not square or not all(0 <= region < count for region in self.of.values()):
            raise ConfigurationError("distances are not a square of numbers at or above 0, or a region is not in it")


ONE_REGION = Regions()


@dataclass(frozen=True, slots=True)
class RouteLeg:
    """One provider's part."""

    offer: Offer
    span: BlockSpan
    """Within the offer's."""
    price_in: int
    """Micro-units per million prompt tokens for these blocks."""
    price_out: int
    """Micro-units per million generated tokens for these blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A chain of legs over all blocks."""

    legs: tuple[RouteLeg, ...]
    price_in: int
    """Micro-units per million prompt tokens, all legs."""
    price_out: int
    """Micro-units per million generated tokens, all legs."""
    latency_us: int
    """Expected microseconds for one token round the ring."""
    gap: int
    """No route within the limits is cheaper by more than this (micro-units per million tokens, time included)."""
    explanations: Explanations
    """Why each other offer is not in it, in the order that the offers came in."""


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
    regions: Regions = ONE_REGION,
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

    Raises:
        NoRouteError: with a code and the reason for every offer that cannot be used.
        ConfigurationError: an argument out of range.
    """
    _check_arguments(blocks, latency_weight, prompt_milli)
    judge = partial(excluded, policy, model=model, venue=venue, now=now, needs=needs)
    reasons = _unusable(offers, judge, blocks=blocks, known=known)
    usable = sorted(
        (at for at in range(len(offers)) if at not in reasons),
        key=lambda at: (regions.of.get(offers[at].public_key, 0), offer_key(offers[at])),
    )
    rejected = tuple((offers[at], reasons[at]) for at in sorted(reasons))
    if not usable:
        raise _nothing_usable(rejected)
    candidates = _columns([offers[at] for at in usable], blocks, rtt_us, regions)
    _check_gaps(candidates, rejected)
    weights = Weights(prompt_milli, 1000 - prompt_milli, latency_weight)
    limits = Limits(
        price_in=policy.max_price_in,
        price_out=policy.max_price_out,
        time_us=TIME_PER_TOKEN_US[policy.latency_class],
    )
    found = find(candidates, limits, weights)
    if found is None:
        raise _beyond_limits(candidates, limits, rejected)
    used = {usable[candidate] for candidate, _, _ in found.path.legs}
    for at, reason in zip(usable, _not_taken(candidates, weights, found), strict=True):
        if at not in used:
            reasons[at] = reason
    explanations = tuple((offers[at], reasons[at]) for at in sorted(reasons))
    return _finished(candidates, found, [offers[at] for at in usable], explanations)


def _check_arguments(blocks: int, latency_weight: int, prompt_milli: int) -> None:
    for name, value, low, high in (
        ("blocks", blocks, 1, MAX_BLOCKS),
        ("latency weight", latency_weight, 0, MAX_LATENCY_WEIGHT),
        ("prompt share", prompt_milli, 0, 1000),
    ):
        if not low <= value <= high:
            raise ConfigurationError(f"{name} {value} is outside {low} to {high}")


def _unusable(
    offers: Sequence[Offer], judge: Callable[..., Reason | None], *, blocks: int, known: Mapping[bytes, Known]
) -> dict[int, Reason]:
    """Why offers cannot be in any route, by position."""
    reasons = dict(_superseded(offers))
    for at, offer in enumerate(offers):
        if at in reasons:
            continue
        reason = judge(offer, known=known.get(offer.public_key, NOTHING_KNOWN))
        if reason is None and offer.blocks != blocks:
            reason = Reason(ReasonCode.BLOCKS, f"it says that the model has {offer.blocks} blocks, not {blocks}")
        if reason is not None:
            reasons[at] = reason
    return reasons


def _superseded(offers: Sequence[Offer]) -> Iterator[tuple[int, Reason]]:
    """All but the newest offer of each key; of two with one sequence the one with the smaller bytes counts."""
    newest: dict[OfferKey, int] = {}
    for at, offer in enumerate(offers):
        best = newest.setdefault(offer_key(offer), at)
        if best == at:
            continue
        older = at
        if _is_newer(offer, offers[best]):
            newest[offer_key(offer)], older = at, best
        yield older, Reason(ReasonCode.SUPERSEDED, "the provider has made a newer offer of the same blocks")


def _is_newer(new: Offer, old: Offer) -> bool:
    return new.sequence > old.sequence or (new.sequence == old.sequence and encode(new) < encode(old))


def _columns(offers: Sequence[Offer], blocks: int, rtt_us: Mapping[bytes, int], regions: Regions) -> Candidates:
    providers = {key: number for number, key in enumerate(sorted({offer.public_key for offer in offers}))}
    rows = [
        (
            providers[offer.public_key],
            offer.span.start,
            offer.span.end,
            offer.rates.price_in,
            offer.rates.price_out,
            offer.position_us,
            ceil_div(min(rtt_us.get(offer.public_key, UNKNOWN_RTT_US), MAX_RTT_US), 2),
            regions.of.get(offer.public_key, 0),
        )
        for offer in offers
    ]
    provider, start, end, price_in, price_out, position_us, access_us, region = np.array(rows, dtype=np.int64).T.copy()
    return Candidates(
        provider=provider,
        start=start,
        end=end,
        price_in=price_in,
        price_out=price_out,
        position_us=position_us,
        access_us=access_us,
        region=region,
        between_us=np.minimum(np.array(regions.one_way_us, dtype=np.int64), MAX_RTT_US),
        blocks=blocks,
    )


def _finished(candidates: Candidates, found: Found, offers: Sequence[Offer], explanations: Explanations) -> Route:
    measured = measure(candidates, found.path)
    legs = []
    for candidate, start, end in found.path.legs:
        offer, used = offers[candidate], end - start
        legs.append(
            RouteLeg(
                offer,
                BlockSpan(start=start, end=end),
                price_in=ceil_div(offer.rates.price_in * used, len(offer.span)),
                price_out=ceil_div(offer.rates.price_out * used, len(offer.span)),
            )
        )
    return Route(
        legs=tuple(legs),
        price_in=measured.price_in,
        price_out=measured.price_out,
        latency_us=measured.latency_us,
        gap=ceil_div(found.gap, 1000),
        explanations=explanations,
    )


def _not_taken(candidates: Candidates, weights: Weights, found: Found) -> Iterator[Reason]:
    """For each candidate, what the cheapest route with it would cost more than the one found."""
    through: Ints = costs_through(lattice_of(candidates, weights))
    counting = ", time included" if weights.latency else ""
    for extra in (through - found.path.cost).tolist():
        if extra > 0:
            more = format_micro(ceil_div(extra, 1000))
            yield Reason(ReasonCode.DEARER, f"the cheapest route with it costs {more} more per 1M tokens{counting}")
        elif extra == 0:
            yield Reason(ReasonCode.DEARER, "a route with it costs the same; a fixed order decides between equals")
        else:
            yield Reason(ReasonCode.LIMITS, "cheaper routes with it break a limit on price, time, legs or providers")


# Failures


def _nothing_usable(rejected: Explanations) -> NoRouteError:
    if all(reason.code == ReasonCode.MODEL for _, reason in rejected):
        return NoRouteError(
            "nobody offers this model",
            code="no-offers",
            hint="wait for offers to arrive, or start a node that serves it",
            explanations=rejected,
        )
    served = sum(reason.code != ReasonCode.MODEL for _, reason in rejected)
    return NoRouteError(
        f"none of the {served} offers of this model can be used",
        code="all-excluded",
        hint="see the reason for each, and relax the policy where you can",
        explanations=rejected,
    )


def _check_gaps(candidates: Candidates, rejected: Explanations) -> None:
    """Raises NoRouteError for blocks that no candidate serves."""
    steps = np.zeros(candidates.blocks + 1, dtype=np.int64)
    np.add.at(steps, candidates.start, 1)
    np.add.at(steps, candidates.end, -1)
    open_blocks = np.nonzero(np.cumsum(steps)[:-1] == 0)[0].tolist()
    if not open_blocks:
        return
    ranges: list[list[int]] = []
    for block in open_blocks:
        if ranges and ranges[-1][1] == block:
            ranges[-1][1] = block + 1
        else:
            ranges.append([block, block + 1])
    gaps = ", ".join(f"{start}:{end}" for start, end in ranges)
    others = sum(reason.code != ReasonCode.MODEL for _, reason in rejected)
    raise NoRouteError(
        f"no usable offer serves blocks {gaps} of {candidates.blocks}",
        code="gap",
        hint="loosen what excludes them, or wait for more offers"
        if others
        else "wait for more offers, or start a node that serves these blocks",
        explanations=rejected,
    )


def _beyond_limits(candidates: Candidates, limits: Limits, rejected: Explanations) -> NoRouteError:
    """Says which limit cannot be kept by any route; where each alone could be, that they were not kept together."""

    certain = unreachable(candidates, limits)
    if certain is not None and certain[0] is Limit.TIME:
        return NoRouteError(
            f"the fastest route takes {certain[1] // 1000} ms for a token, and the latency class allows"
            f" {limits.time_us // 1000} ms",
            code="too-slow",
            hint="choose a latency class with more time, or nearer providers",
            explanations=rejected,
        )
    if certain is not None:
        word, cap = ("prompt", limits.price_in) if certain[0] is Limit.PRICE_IN else ("generated", limits.price_out)
        return NoRouteError(
            f"the cheapest route costs {format_micro(certain[1])} per 1M {word} tokens, and your limit is"
            f" {format_micro(cap or 0)}",
            code="price-cap",
            hint="raise the limit, or wait for cheaper offers",
            explanations=rejected,
        )
    return NoRouteError(
        "no route was found within the limits on price, time per token, 16 legs and one leg for each provider together",
        code="no-route",
        hint="relax one of the limits",
        explanations=rejected,
    )
