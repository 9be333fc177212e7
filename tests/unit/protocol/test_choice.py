"""Which model is meant, whose nodes are worth a connection, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_offers import MODEL, an_offer

from protocol.errors import ConfigurationError
from protocol.identity.ids import MAX_BLOCKS
from protocol.market.offer import Offer
from protocol.reputation.merit import Merit
from protocol.routing.choice import (
    SILENT,
    choose_model,
    covers,
    covers_some_model,
    covers_twice,
    likely,
    namesakes,
    silent,
)
from protocol.routing.routes import NoRouteError

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
    times = [sum(offer.span.start <= block < offer.span.end for offer in offers) for block in range(8)]
    assert covers_twice(offers, MODEL) is (min(times) >= 2)


def test_a_model_is_covered_twice_only_by_its_own_offers() -> None:
    assert not covers_twice([], MODEL)
    assert covers_twice([*halves(), *halves(2)], MODEL)
    assert not covers_twice([*halves(), *halves(2, model=OTHER)], MODEL)
    assert not covers_twice([*halves(), an_offer(2, (0, 2)), an_offer(2, (0, 2))], MODEL), "one node is one"


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


def test_what_any_node_has_is_asked_of_those_with_merit_and_of_the_cheapest() -> None:
    offers = [an_offer(number, price_out=100 + number) for number in range(12)]
    paid = offers[11].public_key
    found = likely(offers[::-1], lambda key: Merit.PAID if key == paid else Merit.NEWCOMER)
    assert found == [offers[11], *offers[:7]]
    assert likely([], lambda _: Merit.NEWCOMER) == []
    assert [reason for _, reason in silent(offers)] == [SILENT] * 12


def fakes(first: int = 100, **changes: Any) -> list[Offer]:
    """Another model under the same name, whole."""
    return halves(first, model=OTHER, **changes)


def test_a_name_means_what_this_client_used_under_it() -> None:
    offers = [*halves(), *fakes(price_out=1)]
    with pytest.raises(ConfigurationError, match=r"demo \(111111111111\), demo \(333333333333\)"):
        choose_model(offers, "demo")
    assert choose_model(offers, "demo", used={"demo": MODEL}) == MODEL
    assert choose_model(offers, "demo", used={"demo": OTHER}) == OTHER
    assert choose_model(offers, None, used={"demo": MODEL}) == MODEL
    assert choose_model(offers, "333333333333", used={"demo": MODEL}) == OTHER, "a root says it all"
    assert namesakes(offers, "demo", MODEL) == [OTHER]


def test_a_newcomer_under_a_known_name_is_not_taken_for_the_model() -> None:
    with pytest.raises(NoRouteError, match=r"the demo that was used here before \(111111111111\)") as caught:
        choose_model(fakes(), "demo", used={"demo": MODEL})
    assert "333333333333" in caught.value.hint
    assert not covers(fakes(), "demo", used={"demo": MODEL})
    assert covers([*fakes(), *halves()], "demo", used={"demo": MODEL})
    half = [an_offer(0, (0, 2)), *fakes()]
    assert choose_model(half, "demo", used={"demo": MODEL}) == MODEL, "what is missing of it, the route says"


def test_at_first_use_the_model_whose_nodes_were_paid_is_meant() -> None:
    paid = {offer.public_key for offer in halves()}
    merit = dict.fromkeys(paid, Merit.PAID)
    offers = [*fakes(), *halves()]
    assert choose_model(offers, "demo", merit=lambda key: merit.get(key, Merit.NEWCOMER)) == MODEL
    assert choose_model(offers, None, merit=lambda key: merit.get(key, Merit.NEWCOMER)) == MODEL
    with pytest.raises(ConfigurationError, match="several models"):
        choose_model(offers, "demo", merit=lambda _: Merit.PAID)


def test_a_name_that_looks_like_a_root_is_not_one() -> None:
    offers = [*halves(), *fakes(model_name=MODEL.hex()[:12])]
    assert choose_model(offers, MODEL.hex()[:12]) == MODEL


def test_of_many_models_a_few_are_named() -> None:
    offers = [offer for number in range(30) for offer in halves(2 * number, model=bytes([number]) * 32)]
    with pytest.raises(ConfigurationError, match="and others") as caught:
        choose_model(offers, "demo")
    assert len(caught.value.message) < 400
