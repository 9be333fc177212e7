"""A route that goes on with the legs of an earlier one: they keep their blocks, and others fill what is left open.

What a leg still holds of a sequence is of use only for the very blocks that it ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from protocol.ids import BlockSpan
from protocol.offer import Offer
from protocol.rates import share
from protocol.routing import NoRouteError, Route, RouteLeg
from protocol.units import ceil_div

__all__ = ["kept_legs", "route_keeping"]


def kept_legs(offers: Sequence[Offer], legs: Sequence[tuple[bytes, BlockSpan]]) -> dict[bytes, BlockSpan]:
    """Which legs of an earlier route are still on offer, by public key.

    Args:
        offers: that could be used now.
        legs: public key and blocks, in the order of the route.
    """
    return {key: span for key, span in legs if any(_offers(offer, key, span) for offer in offers)}


def route_keeping(
    offers: Sequence[Offer], kept: Mapping[bytes, BlockSpan], blocks: int, find: Callable[[Sequence[Offer]], Route]
) -> Route:
    """The best route in which these providers run these blocks.

    Args:
        kept: of some legs of an earlier route, so none overlaps another.
        find: the route through offers.

    Raises NoRouteError where the rest cannot be filled, or that breaks a limit.
    """
    parts = {id(part): (part, whole) for whole in offers for part in _parts(whole, kept, blocks)}
    try:
        found = find([part for part, _ in parts.values()])
    except NoRouteError as error:
        explained = tuple((parts[id(part)][1], reason) for part, reason in error.explanations)
        raise NoRouteError(error.message, code=error.code, hint=error.hint, explanations=explained) from None
    legs = tuple(_leg(parts[id(leg.offer)][1], leg.span) for leg in found.legs)
    used = {leg.offer.public_key for leg in legs}
    reasons = {id(whole): (whole, reason) for part, reason in found.explanations for whole in [parts[id(part)][1]]}
    return replace(
        found,
        legs=legs,
        price_in=sum(leg.price_in for leg in legs),
        price_out=sum(leg.price_out for leg in legs),
        explanations=tuple(each for each in reasons.values() if each[0].public_key not in used),
    )


def _offers(offer: Offer, key: bytes, span: BlockSpan) -> bool:
    return offer.public_key == key and offer.span.start <= span.start and span.end <= offer.span.end


def _parts(offer: Offer, kept: Mapping[bytes, BlockSpan], blocks: int) -> Iterator[Offer]:
    """An offer cut to where it may be used: to the blocks that its provider keeps, or else to those that nobody does.

    One that would reach beyond the model is left as it is: it is refused for that.
    """
    own = kept.get(offer.public_key)
    if offer.blocks != blocks:
        yield offer
    elif own is not None:
        if _offers(offer, offer.public_key, own):
            yield _cut(offer, own.start, own.end)
    else:
        for start, end in _gaps(kept, blocks):
            low, high = max(start, offer.span.start), min(end, offer.span.end)
            if low < high:
                yield _cut(offer, low, high)


def _gaps(kept: Mapping[bytes, BlockSpan], blocks: int) -> Iterator[tuple[int, int]]:
    at = 0
    for span in sorted(kept.values(), key=lambda each: each.start):
        if at < span.start:
            yield at, span.start
        at = span.end
    if at < blocks:
        yield at, blocks


def _cut(offer: Offer, start: int, end: int) -> Offer:
    used, held = end - start, len(offer.span)
    return offer.replace(
        span=BlockSpan(start=start, end=end),
        rates=share(offer.rates, used, held),
        position_us=ceil_div(offer.position_us * used, held),
        prompt_us=ceil_div(offer.prompt_us * used, held),
    )


def _leg(offer: Offer, span: BlockSpan) -> RouteLeg:
    rates = share(offer.rates, len(span), len(offer.span))
    return RouteLeg(offer, span, price_in=rates.price_in, price_out=rates.price_out)
