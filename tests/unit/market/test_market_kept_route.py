"""Routes that go on with the legs of an earlier one, and what fills the gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import pytest
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer, key_of
from routes_of_offers import route

from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer
from protocol.routing.kept_route import kept_legs
from protocol.routing.routes import NoRouteError, Route

BLOCKS = 12


def offer(number: int, start: int, end: int, **changes: Any) -> Offer:
    return an_offer(number, span=BlockSpan(start=start, end=end), blocks=BLOCKS, **changes)


def key(number: int) -> bytes:
    return key_of(number).public_key


def span(start: int, end: int) -> BlockSpan:
    return BlockSpan(start=start, end=end)


def find(offers: Sequence[Offer], kept: Mapping[bytes, BlockSpan] = MappingProxyType({}), **policy: Any) -> Route:
    ways = partial(route, model=MODEL, blocks=BLOCKS, venue=VENUE, now=NOW, rtt_us={}, latency_weight=0)
    return ways(offers, a_policy(**policy), kept=kept)


def legs_of(found: Route) -> list[tuple[bytes, str]]:
    return [(leg.offer.public_key, str(leg.span)) for leg in found.legs]


CHEAP = offer(9, 0, BLOCKS, price_in=1, price_out=1)
OFFERS = [offer(0, 0, 8), offer(1, 2, 10), offer(2, 6, 12), CHEAP]
LEGS = [(key(0), span(0, 4)), (key(1), span(4, 8)), (key(2), span(8, 12))]


def test_a_route_that_is_still_there_is_taken_again_whatever_else_is_cheaper() -> None:
    kept = kept_legs(OFFERS, LEGS)
    assert list(kept.items()) == LEGS
    again = find(OFFERS, kept)
    assert legs_of(again) == [(node, str(blocks)) for node, blocks in LEGS]
    assert [id(leg.offer) for leg in again.legs] == [id(each) for each in OFFERS[:3]]
    assert again.price_out == sum(leg.price_out for leg in again.legs)
    # An eighth of 300,000 for each block of the first two, a sixth for those of the last.
    assert [leg.price_out for leg in again.legs] == [150_000, 150_000, 200_000]
    assert legs_of(find(OFFERS)) == [(key(9), "0:12")]


@pytest.mark.parametrize("gone", range(3))
def test_others_fill_what_one_left(gone: int) -> None:
    left = [each for number, each in enumerate(OFFERS) if number != gone]
    kept = kept_legs(left, LEGS)
    assert key(gone) not in kept
    found = legs_of(find(left, kept))
    assert found == [
        (key(9), str(blocks)) if number == gone else (node, str(blocks)) for number, (node, blocks) in enumerate(LEGS)
    ]


def test_a_provider_that_offers_other_blocks_now_is_not_kept_and_may_fill_a_gap() -> None:
    offers = [offer(0, 0, 3), offer(1, 3, 8), offer(2, 8, 12)]
    kept = kept_legs(offers, LEGS)
    assert kept == {key(1): span(4, 8), key(2): span(8, 12)}
    with pytest.raises(NoRouteError) as failed:
        find(offers, kept)  # block 3 is offered by one that keeps others
    assert failed.value.code == "gap"
    assert {id(each) for each, _ in failed.value.explanations} <= {id(each) for each in offers}
    several = [*offers, offer(5, 0, 12)]
    assert legs_of(find(several, kept))[-2:] == [(key(1), "4:8"), (key(2), "8:12")]


def test_limits_hold_for_kept_legs_too() -> None:
    kept = kept_legs(OFFERS, LEGS)
    with pytest.raises(NoRouteError):
        find(OFFERS, kept, max_price_out=499_999)
    assert find(OFFERS, kept, max_price_out=500_000).price_out == 500_000


def test_without_any_leg_left_it_is_a_route_like_any_other() -> None:
    assert legs_of(find([CHEAP])) == [(key(9), "0:12")]


def test_why_others_are_not_taken_is_said_of_their_own_offers() -> None:
    foreign = offer(7, 0, 4).replace(blocks=4)
    found = find([*OFFERS, foreign], kept_legs(OFFERS, LEGS[:1]))
    explained = {id(each) for each, _ in found.explanations}
    assert id(foreign) in explained
    assert explained.isdisjoint({id(leg.offer) for leg in found.legs})
