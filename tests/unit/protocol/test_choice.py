"""Which model is meant, whose nodes are worth a connection, and what is said of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_offers import MODEL, NOW, VENUE, a_policy, an_offer, key_of

from protocol.choice import (
    ENOUGH,
    SILENT,
    choose_model,
    covers,
    covers_some_model,
    no_node_left,
    route_among,
    shortlist,
    silent,
)
from protocol.errors import ConfigurationError
from protocol.ids import MAX_BLOCKS
from protocol.offer import Offer
from protocol.routing import NoRouteError, route

OTHER = b"\x33" * 32


def halves(first: int = 0, **changes: Any) -> list[Offer]:
    return [an_offer(first, (0, 2), **changes), an_offer(first + 1, (2, 4), **changes)]


def test_a_model_is_covered_by_offers_that_leave_no_block_out() -> None:
    assert covers(halves(), "demo")
    assert covers([an_offer(0, (0, 3)), an_offer(1, (1, 4))], None)
    assert not covers([an_offer(0, (0, 2)), an_offer(1, (3, 4))], "demo")
    assert not covers([an_offer(0, (1, 4))], "demo")
    assert not covers(halves(), "demon")
    assert not covers_some_model([])
    assert not covers_some_model([an_offer(0, (0, 2)), an_offer(1, (2, 4), model=OTHER)])


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 8)), max_size=6))
def test_coverage_is_that_of_the_set_of_blocks(spans: list[tuple[int, int]]) -> None:
    offers = [
        an_offer(number, (start, min(8, start + length)), blocks=8) for number, (start, length) in enumerate(spans)
    ]
    held = {block for offer in offers for block in range(offer.span.start, offer.span.end)}
    assert covers_some_model(offers) is (held == set(range(8)))


def test_the_deepest_model_costs_no_more_to_look_at_than_another() -> None:
    deep = [an_offer(number, (0, MAX_BLOCKS), blocks=MAX_BLOCKS) for number in range(200)]
    assert covers(deep, None)
    assert len(shortlist(deep, prompt_milli=500)) == 8


def test_one_node_that_lies_about_the_number_of_blocks_neither_makes_nor_hides_a_model() -> None:
    lie = an_offer(9, (0, 1), blocks=1)
    assert not covers([an_offer(0, (0, 2)), an_offer(2, (0, 2)), lie], None)
    deep = an_offer(9, (0, 1), blocks=MAX_BLOCKS)
    assert covers([*halves(), deep], None)


def test_a_bare_run_takes_the_one_model_that_can_be_served() -> None:
    half_there = [an_offer(7, (0, 2), model=OTHER, model_name="other")]
    assert choose_model([*halves(), *half_there], None) == MODEL
    assert choose_model([*half_there], None) == OTHER, "what is missing of it, the route says"


def test_of_two_models_of_one_name_the_one_that_can_be_served_is_meant() -> None:
    namesake = [an_offer(7, (0, 2), model=OTHER)]
    assert choose_model([*halves(), *namesake], "demo") == MODEL


def test_several_models_that_can_be_served_are_named_with_their_roots() -> None:
    offers = [*halves(), *halves(5, model=OTHER, model_name="other")]
    with pytest.raises(ConfigurationError, match=r"demo \(111111111111\), other \(333333333333\)") as caught:
        choose_model(offers, None)
    assert "--model" in caught.value.hint
    assert choose_model(offers, "other") == OTHER
    assert choose_model(offers, "333333333333") == OTHER
    assert choose_model(offers, MODEL.hex().upper()) == MODEL
    with pytest.raises(NoRouteError, match="nobody offers the model '11111'"):
        choose_model(offers, "11111")


def test_several_models_of_which_none_can_be_served_are_named() -> None:
    offers = [an_offer(0, (0, 2)), an_offer(1, (0, 2), model=OTHER, model_name="other")]
    with pytest.raises(NoRouteError, match=r"demo .*, other ") as caught:
        choose_model(offers, None)
    assert caught.value.code == "gap"


def test_a_model_that_nobody_offers_is_said_with_those_that_are() -> None:
    with pytest.raises(NoRouteError, match="nobody offers the model 'x'") as caught:
        choose_model(halves(), "x")
    assert (caught.value.code, caught.value.hint) == ("no-offers", "on offer: demo")
    with pytest.raises(NoRouteError, match="no offers were heard"):
        choose_model([], None)


def test_a_shortlist_has_the_cheapest_for_each_block_and_leaves_nobodys_blocks_out() -> None:
    cheap = [an_offer(number, (0, 2), price_out=100 + number) for number in range(20)]
    dear = [an_offer(50, (2, 4), price_out=10**9)]
    found = shortlist([*cheap, *dear], prompt_milli=0)
    assert found == [*cheap[:8], *dear]
    assert shortlist([], prompt_milli=500) == []


def test_a_shortlist_weighs_prompt_against_answer() -> None:
    reader = [an_offer(number, price_in=1, price_out=1000) for number in range(8)]
    writer = [an_offer(number, price_in=1000, price_out=1) for number in range(8, 16)]
    assert {offer.rates.price_in for offer in shortlist([*reader, *writer], prompt_milli=900)} == {1}
    assert {offer.rates.price_out for offer in shortlist([*reader, *writer], prompt_milli=100)} == {1}


def find(offers: Sequence[Offer]) -> Any:
    seek = partial(route, blocks=4, venue=VENUE, now=NOW, rtt_us={}, latency_weight=0)
    return seek(offers, a_policy(), model=MODEL)


def test_a_route_avoids_nodes_and_says_why() -> None:
    offers = [an_offer(0, price_out=1), an_offer(1, price_out=2), an_offer(2, price_out=3)]
    found = route_among(offers, {key_of(0).public_key: SILENT, key_of(2).public_key: ENOUGH}, find)
    assert [leg.offer for leg in found.legs] == [offers[1]]
    assert found.explanations == ((offers[0], SILENT), (offers[2], ENOUGH))


def test_where_no_node_is_left_the_reasons_of_all_are_told() -> None:
    offers = halves()
    with pytest.raises(NoRouteError, match="none of the nodes that offer this model answers") as caught:
        route_among(offers, {offer.public_key: SILENT for offer in offers}, find)
    assert caught.value.explanations == silent(offers)
    other = replace(SILENT, sentence="left out")
    assert "can be used" in no_node_left([(offers[0], SILENT), (offers[1], other)]).message
    with pytest.raises(NoRouteError) as caught:
        route_among(offers, {offers[0].public_key: SILENT}, find)
    assert caught.value.code == "gap"
    assert (offers[0], SILENT) in caught.value.explanations
