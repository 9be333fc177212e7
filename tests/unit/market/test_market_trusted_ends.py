"""Who may serve the first and the last blocks: routes, backups, standbys, and why not others (market.md, M79)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer, key_of
from routes_of_offers import route

from protocol.errors import InvalidError
from protocol.identity.ids import BlockSpan
from protocol.market.offer import Offer
from protocol.policy.ends import TrustedEnds, opened
from protocol.routing.routes import NoRouteError, Route

BLOCKS = 6


def offer(number: int, start: int, end: int, per_block: int = 1_000) -> Offer:
    price = per_block * (end - start)
    span = BlockSpan(start=start, end=end)
    return an_offer(number, span=span, blocks=BLOCKS, price_in=price, price_out=price, position_us=end - start)


def key(number: int) -> bytes:
    return key_of(number).public_key


def ends(*numbers: int, depth: int = 1) -> TrustedEnds:
    return TrustedEnds(frozenset(map(key, numbers)), depth)


def find(
    offers: Sequence[Offer],
    trusted: TrustedEnds | None,
    kept: Mapping[bytes, BlockSpan] = MappingProxyType({}),
    **wish: Any,
) -> Route:
    return route(
        offers, a_policy(), model=MODEL, blocks=BLOCKS, venue=VENUE, now=NOW, rtt_us={}, latency_weight=0,
        ends=trusted, kept=kept, **wish,
    )  # fmt: skip


def legs_of(found: Route) -> list[tuple[bytes, str]]:
    return [(leg.offer.public_key, str(leg.span)) for leg in found.legs]


CHEAP = offer(9, 0, 6, per_block=1)
MINE = [offer(0, 0, 2), offer(1, 4, 6)]


def test_others_serve_what_lies_between() -> None:
    assert legs_of(find([*MINE, CHEAP], None)) == [(key(9), "0:6")]
    assert legs_of(find([*MINE, CHEAP], ends(0, 1))) == [(key(0), "0:1"), (key(9), "1:5"), (key(1), "5:6")]
    assert legs_of(find([*MINE, CHEAP], ends(0, 1, depth=2))) == [(key(0), "0:2"), (key(9), "2:4"), (key(1), "4:6")]
    assert legs_of(find([*MINE, CHEAP], ends(9))) == [(key(9), "0:6")]


@pytest.mark.parametrize("depth", [3, 255])
def test_where_the_ends_meet_nobody_else_serves_anything(depth: int) -> None:
    alone = offer(2, 0, 6)
    assert legs_of(find([*MINE, CHEAP, alone], ends(0, 1, 2, depth=depth))) == [(key(2), "0:6")]
    assert opened(ends(0, 1, depth=depth), [CHEAP], BLOCKS) == []
    with pytest.raises(InvalidError):
        ends(0, depth=0)


@pytest.mark.parametrize(("trusted", "block"), [((0,), "5"), ((1,), "0"), ((), "0, 5")])
def test_without_anybody_trusted_there_is_no_route(trusted: Collection[int], block: str) -> None:
    with pytest.raises(NoRouteError, match=f"nobody whom you trust .* offers blocks? {block}$") as caught:
        find([*MINE, CHEAP], ends(*trusted))
    assert caught.value.code == "untrusted"
    assert {reason.code for _, reason in caught.value.explanations} == {"untrusted"}
    assert key(9) in {each.public_key for each, _ in caught.value.explanations}


def test_a_block_that_nobody_offers_is_a_gap_as_before() -> None:
    with pytest.raises(NoRouteError) as caught:
        find(MINE, ends(0, 1))
    assert caught.value.code == "gap"


def test_why_an_offer_of_the_ends_alone_is_not_taken() -> None:
    first, last = offer(3, 0, 1, per_block=1), offer(4, 5, 6, per_block=1)
    found = find([*MINE, CHEAP, first, last], ends(0, 1))
    reasons = {each.public_key: reason.code for each, reason in found.explanations}
    assert reasons == {key(3): "untrusted", key(4): "untrusted"}


def test_standbys_and_backups_keep_to_it() -> None:
    spares = [offer(2, 0, 6, per_block=5_000), offer(3, 0, 6, per_block=900), offer(4, 4, 6, per_block=6_000)]
    found = find([*MINE, CHEAP, *spares], ends(0, 1, 2, 4), standbys=2, backups=1)
    by_leg = [[each.offer.public_key for each in legs] for legs in found.standbys]
    assert key(3) not in (*by_leg[0], *by_leg[2]), "it may stand by in the middle alone"
    assert key(2) in by_leg[0]
    (backup,) = found.backups
    assert backup.legs[0].offer.public_key == key(2)
    assert backup.legs[-1].offer.public_key in (key(2), key(4))


def test_legs_of_an_earlier_route_do_not_stay_where_they_may_not() -> None:
    kept = {key(9): BlockSpan(start=0, end=3)}
    with pytest.raises(NoRouteError):
        find([*MINE, CHEAP], ends(0, 1), kept)
    inside = {key(9): BlockSpan(start=2, end=4)}
    assert (key(9), "2:4") in legs_of(find([*MINE, CHEAP, offer(5, 0, 6)], ends(0, 1), inside))


spans = st.tuples(st.integers(0, BLOCKS - 1), st.integers(1, BLOCKS)).filter(lambda span: span[0] < span[1])
many = st.lists(st.tuples(spans, st.integers(1, 50)), min_size=1, max_size=6)


@settings(max_examples=at_length(30))
@given(many, st.sets(st.integers(0, 5)), st.integers(1, 4))
def test_it_is_the_route_over_offers_of_what_each_may_serve(
    found: list[tuple[tuple[int, int], int]], trusted: set[int], depth: int
) -> None:
    offers = [offer(number, *span, per_block=price * 100) for number, (span, price) in enumerate(found)]
    rule = ends(*trusted, depth=depth)
    prices = {each.public_key: price * 100 for each, (_, price) in zip(offers, found, strict=True)}
    numbers = {key(number): number for number in range(len(offers))}
    cut = [
        offer(numbers[each.public_key], span.start, span.end, per_block=prices[each.public_key])
        for each, span in opened(rule, offers, BLOCKS)
    ]
    results = []
    for given_offers, given_rule in ((offers, rule), (cut, None)):
        try:
            results.append(find(given_offers, given_rule).price_out)
        except NoRouteError:
            results.append(None)
    assert results[0] == results[1]
