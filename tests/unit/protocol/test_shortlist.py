"""Whose nodes are worth a connection: whole routes, the best first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer

from protocol.energy.tariff import MAX_PRICE
from protocol.identity.ids import MAX_BLOCKS
from protocol.market.offer import Offer
from protocol.policy.corridors import Corridor
from protocol.policy.policy import Needs, Policy
from protocol.reputation.merit import Merit
from protocol.routing.choice import nothing_known
from protocol.routing.columns import Columns
from protocol.routing.judging import Judge
from protocol.routing.shortlist import shortlist as seek
from protocol.routing.ways import ONE_REGION, ways_by_region
from protocol.routing.wish import Wish


def shortlist(
    offers: Sequence[Offer], *, prompt_milli: int, policy: Policy | None = None, latency_weight: int = 0, **more: Any
) -> list[Offer]:
    columns = Columns(offers)
    blocks = offers[0].blocks if offers else 4
    judge = Judge(
        columns=columns, policy=policy or a_policy(), model=MODEL, blocks=blocks, venue=VENUE, now=NOW, needs=Needs()
    )
    wish = Wish(latency_weight=latency_weight, prompt_milli=prompt_milli)
    ways, every = ways_by_region(columns, {}, ONE_REGION), np.ones(columns.rows, dtype=bool)
    return seek(judge, ways, wish, every, **{"merit": nothing_known, **more})


def test_the_deepest_model_costs_no_more_to_look_at_than_another() -> None:
    deep = [an_offer(number, (0, MAX_BLOCKS), blocks=MAX_BLOCKS) for number in range(200)]
    assert len(shortlist(deep, prompt_milli=500)) == 8


def test_a_shortlist_has_whole_routes_the_cheapest_first() -> None:
    left = [an_offer(number, (0, 2), price_out=100 + number) for number in range(20)]
    right = [an_offer(50 + number, (2, 4), price_out=900 + number) for number in range(2)]
    found = shortlist([*right, *left], prompt_milli=0)
    assert found == [left[0], right[0], left[1], right[1]], "a third half of it would lead nowhere"
    whole = [an_offer(80 + number, price_out=10**6) for number in range(20)]
    assert shortlist([*right, *left, *whole], prompt_milli=0)[:4] == found
    assert len(shortlist([*right, *left, *whole], prompt_milli=0)) in (8, 9)
    assert len(shortlist([*right, *left, *whole], prompt_milli=0, most=16)) in (16, 17)
    assert shortlist([], prompt_milli=500) == []


def test_where_no_route_is_whole_the_cheapest_are_looked_at() -> None:
    left = [an_offer(number, (0, 2), price_out=100 + number) for number in range(20)]
    assert shortlist(left, prompt_milli=0) == left[:8]


def test_keys_that_somebody_paid_come_before_cheaper_ones_and_those_that_failed_last() -> None:
    offers = [an_offer(number, price_out=100 + number) for number in range(12)]
    known = {
        offers[0].public_key: Merit.SHUNNED,
        offers[11].public_key: Merit.PAID,
        offers[10].public_key: Merit.SERVED,
    }
    found = shortlist(offers, prompt_milli=0, merit=lambda key: known.get(key, Merit.NEWCOMER))
    assert found == [offers[10], offers[11], *offers[1:7]]
    alone = shortlist(offers[:1], prompt_milli=0, merit=lambda _: Merit.SHUNNED)
    assert alone == offers[:1], "better than nothing"


def test_many_small_spans_do_not_hide_a_whole_one() -> None:
    small = [
        an_offer(number, (number % 64, number % 64 + 1), blocks=64, price_out=0, price_in=0) for number in range(200)
    ]
    whole = an_offer(250, (0, 64), blocks=64, price_out=10_000_000)
    assert whole in shortlist([*small, whole], prompt_milli=0)


def test_the_widest_spans_at_extreme_prices_are_weighed_in_no_time() -> None:
    offers = [
        an_offer(number % 250, (number, MAX_BLOCKS - number), blocks=MAX_BLOCKS, price_in=0, price_out=price)
        for number in range(250)
        for price in (0, MAX_PRICE)
    ]
    began = time.process_time()
    assert len(shortlist(offers, prompt_milli=0, latency_weight=10_000_000)) >= 1
    assert time.process_time() - began < 2


def test_a_shortlist_weighs_prompt_against_answer() -> None:
    reader = [an_offer(number, price_in=1, price_out=1000) for number in range(8)]
    writer = [an_offer(number, price_in=1000, price_out=1) for number in range(8, 16)]
    assert {offer.rates.price_in for offer in shortlist([*reader, *writer], prompt_milli=900)} == {1}
    assert {offer.rates.price_out for offer in shortlist([*reader, *writer], prompt_milli=100)} == {1}


def test_a_chain_that_the_law_forbids_is_not_worth_asking() -> None:
    corridor = Corridor(source="FR", to="DE", purpose="inference", expires_at=2**40 - 1)
    policy = a_policy(origin="FR", corridors=(corridor, corridor.replace(to="CH")))
    cheap = [an_offer(0, (0, 2), jurisdiction="DE"), an_offer(1, (2, 4), jurisdiction="CH")]
    home = an_offer(2, (2, 4), jurisdiction="FR", price_out=10**6)
    assert shortlist([*cheap, home], prompt_milli=0, policy=policy) == [cheap[0], home]
