"""Where nodes join, what a plan brings, and that everybody who has the same offers makes the same one."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from market_offers import an_offer, key_of

from protocol.market.holders import EVEN, MOST_RATE, Holder, capacity, holders_of, priced_demand, supply
from protocol.market.placement import HORIZON_S, Move, Plan, lightest, plan, turn

FIXED = json.loads((Path(__file__).parents[2] / "vectors" / "placement.json").read_text())


def held(number: int, start: int, end: int, *, rate: int = 1_000, reload_s: int | None = 0) -> Holder:
    """A node with some blocks."""
    return Holder(node=bytes([number]) * 33, start=start, length=end - start, rate=rate, reload_s=reload_s)


def joined(nodes: Iterable[dict[str, Any]], blocks: int, *, reload_s: int = 60) -> list[Holder]:
    """Nodes that came one after the other, each to where the market lacked most."""
    holders: list[Holder] = []
    for each in nodes:
        node = bytes.fromhex(each["node"])
        start = lightest(holders, each["length"], [EVEN] * blocks, node=node)
        assert start is not None
        holders.append(Holder(node=node, start=start, length=each["length"], rate=each["rate"], reload_s=reload_s))
    return holders


def after(holders: list[Holder], moves: Iterable[Move]) -> list[Holder]:
    starts = {move.node: move.start for move in moves}
    return [replace(each, start=starts.get(each.node, each.start)) for each in holders]


# Against the optimum


def test_plans_of_fixed_markets_come_near_the_integer_programming_optimum() -> None:
    """The fixture says what is possible at all (scripts/placement_optimum.py)."""
    demand = [EVEN] * FIXED["blocks"]
    found = [plan(joined(case["nodes"], FIXED["blocks"]), demand, epoch=0).after for case in FIXED["cases"]]
    of_optimum = [each / case["optimum"] for each, case in zip(found, FIXED["cases"], strict=True)]
    assert len(of_optimum) == 25
    assert mean(of_optimum) >= 0.95
    assert min(of_optimum) >= 0.85
    assert max(of_optimum) <= 1.001


@pytest.mark.parametrize("case", [0, *(pytest.param(case, marks=pytest.mark.long) for case in (4, 7, 13))])
def test_a_market_settles_where_the_plan_was_and_then_rests(case: int) -> None:
    demand, market = [EVEN] * FIXED["blocks"], FIXED["cases"][case]
    holders = joined(market["nodes"], FIXED["blocks"])
    made = []
    for epoch in range(20):
        moves = turn(holders, demand, plan(holders, demand, epoch=epoch))
        made.append(len(moves))
        holders = after(holders, moves)
    assert capacity(holders, demand) >= 0.95 * market["optimum"]
    assert sum(made[-8:]) == 0


# Joining


def test_the_first_node_of_a_model_takes_one_of_its_ends() -> None:
    taken = {lightest([], 2, [EVEN] * 6, node=bytes([number]) * 33) for number in range(20)}
    assert taken == {0, 4}


def test_a_node_takes_what_nobody_holds_and_else_what_is_served_least() -> None:
    assert lightest([held(1, 0, 2), held(2, 4, 6)], 2, [EVEN] * 6, node=b"x") == 2
    assert lightest([held(1, 0, 3, rate=900), held(2, 3, 6)], 3, [EVEN] * 6, node=b"x") == 0


def test_what_is_dearer_counts_as_scarcer() -> None:
    both = [held(1, 0, 3), held(2, 3, 6)]
    assert lightest(both, 3, [EVEN] * 3 + [2 * EVEN] * 3, node=b"x") == 3
    assert lightest(both, 3, [2 * EVEN] * 3 + [EVEN] * 3, node=b"x") == 0


def test_of_equal_windows_the_one_on_others_boundaries_is_taken() -> None:
    assert lightest([held(1, 0, 8), held(2, 3, 5)], 3, [EVEN] * 8, node=b"x") in {0, 5}


def test_only_windows_are_taken_whose_weights_are_here() -> None:
    assert lightest([held(1, 0, 4)], 2, [EVEN] * 6, node=b"x", here=(0, 1)) in {0, 1}
    assert lightest([held(1, 0, 4)], 2, [EVEN] * 6, node=b"x", here=()) is None
    assert lightest([], 7, [EVEN] * 6, node=b"x") is None


# Plans


def test_a_gap_is_closed_by_one_who_is_not_missed() -> None:
    holders = [held(1, 0, 2), held(2, 0, 2), held(3, 2, 4)]
    demand = [EVEN] * 6
    wanted = plan(holders, demand, epoch=3)
    assert (wanted.before, wanted.after) == (0, 1_000)
    assert [move.start for move in turn(holders, demand, wanted)] == [4]


def test_two_move_together_where_neither_would_alone() -> None:
    holders = [held(1, 0, 3, rate=1_000), held(2, 3, 6, rate=1_000), held(3, 0, 2), held(4, 1, 3), held(5, 2, 4)]
    demand = [EVEN] * 6
    wanted = plan(holders, demand, epoch=1)
    assert wanted.after == 2_000
    assert len(wanted.moves) <= 2


def test_who_stays_is_not_moved() -> None:
    holders = [held(1, 0, 2, reload_s=None), held(2, 0, 2, reload_s=None), held(3, 2, 4, reload_s=5)]
    assert plan(holders, [EVEN] * 6, epoch=0).moves == ()
    assert plan([], [EVEN] * 6, epoch=0).moves == ()


@pytest.mark.parametrize(("reload_s", "moves"), [(HORIZON_S // 2, 1), (2 * HORIZON_S, 0)])
def test_a_move_has_to_bring_more_than_loading_costs(reload_s: int, moves: int) -> None:
    holders = [held(1, 0, 2, reload_s=None), held(2, 0, 2, reload_s=reload_s), held(3, 2, 4, reload_s=None)]
    holders.append(held(4, 2, 4, rate=1, reload_s=None))
    demand = [EVEN] * 4
    assert len(plan([*holders, held(5, 0, 2, reload_s=None)], demand, epoch=0).moves) == moves


@pytest.mark.parametrize(("gain", "moves"), [(25, 1), (24, 0)])
def test_a_plan_that_brings_next_to_nothing_moves_nobody(gain: int, moves: int) -> None:
    holders = [held(1, 0, 2), held(2, 2, 4)]
    wanted = Plan(moves=(Move(holders[0].node, 2),), before=1_000, after=1_000 + gain, cost=0)
    assert len(turn(holders, [EVEN] * 4, wanted)) == moves


def test_moves_at_once_leave_half_of_the_capacity() -> None:
    holders = [held(number, 0, 2) for number in range(1, 9)]
    demand = [EVEN] * 2 + [EVEN]
    wanted = plan([*holders, held(9, 1, 3)], demand, epoch=0)
    made = turn([*holders, held(9, 1, 3)], demand, wanted)
    away = {move.node for move in made}
    left = [each for each in (*holders, held(9, 1, 3)) if each.node not in away]
    assert made
    assert len(made) == 1 or 2 * capacity(left, demand) >= wanted.before


MARKETS = st.lists(
    st.builds(
        held,
        st.integers(0, 200),
        st.integers(0, 4),
        st.integers(5, 8),
        rate=st.integers(1, MOST_RATE),
        reload_s=st.none() | st.integers(0, 600),
    ),
    max_size=6,
    unique_by=lambda each: each.node,
)


@settings(max_examples=at_length(25))
@given(holders=MARKETS, demand=st.lists(st.integers(1, 4 * EVEN), min_size=8, max_size=8), epoch=st.integers(0, 10**9))
def test_any_order_of_the_same_offers_makes_the_same_plan(holders: list[Holder], demand: list[int], epoch: int) -> None:
    wanted = plan(holders, demand, epoch=epoch)
    shuffled = random.Random(epoch).sample(holders, len(holders))
    assert plan(shuffled, demand, epoch=epoch) == wanted
    assert sorted(turn(shuffled, demand, wanted), key=str) == sorted(turn(holders, demand, wanted), key=str)
    there = after(holders, wanted.moves)
    assert capacity(there, demand) == wanted.after >= wanted.before
    assert {each.node for each in holders if each.reload_s is None}.isdisjoint(move.node for move in wanted.moves)
    assert all(0 <= each.start <= 8 - each.length for each in there)


# What offers say


def test_of_each_node_the_newest_offer_counts() -> None:
    old, new = an_offer(1, (0, 2)), an_offer(1, (2, 4), sequence=2, reload_s=30, position_us=2_000)
    for offers in ([old, new], [new, old]):
        assert holders_of(offers, 4) == [
            Holder(node=key_of(1).public_key, start=2, length=2, rate=500_000, reload_s=30),
        ]
    assert holders_of([], 4) == []


def test_one_node_cannot_claim_to_be_faster_than_all_others_together() -> None:
    offers = [an_offer(number, position_us=1_000) for number in range(3)]
    boast = an_offer(3, position_us=1)
    rates = {each.node: each.rate for each in holders_of([*offers, boast], 4)}
    assert rates[key_of(3).public_key] == 4 * rates[key_of(0).public_key]
    assert max(each.rate for each in holders_of([boast, an_offer(4, position_us=1)], 4)) == MOST_RATE


def test_demand_rises_with_price_and_with_places_that_are_taken() -> None:
    even = [an_offer(1, (0, 2)), an_offer(2, (2, 4))]
    assert priced_demand(even, 4) == [EVEN] * 4
    assert priced_demand([even[0], an_offer(2, (2, 4), sessions=0)], 4) == [EVEN, EVEN, 2 * EVEN, 2 * EVEN]
    dear = priced_demand([even[0], an_offer(2, (2, 4), price_out=600_000)], 4)
    assert dear[0] < EVEN < dear[2]
    assert max(priced_demand([even[0], an_offer(2, (2, 4), price_out=10**12)], 4)) <= 2 * EVEN


def test_demand_of_blocks_that_nobody_holds_is_even() -> None:
    assert priced_demand([], 4) == [EVEN] * 4
    assert priced_demand([an_offer(1, (0, 2))], 4)[2:] == [EVEN, EVEN]


def test_supply_is_what_holders_serve_by_what_is_asked() -> None:
    assert supply([held(1, 0, 2), held(2, 1, 3)], [EVEN, EVEN, 2 * EVEN]).tolist() == [1_000, 2_000, 500]


def test_a_book_full_of_the_fastest_and_dearest_stays_within_64_bits() -> None:
    base = an_offer(0, (0, 4), position_us=1, price_out=10**12)
    offers = [base.replace(public_key=number.to_bytes(33, "big"), sequence=number + 1) for number in range(2_000)]
    demand = priced_demand(offers, 4)
    assert demand == [EVEN] * 4
    assert supply(holders_of(offers, 4), demand).tolist() == [2_000 * MOST_RATE] * 4


def test_offers_with_another_number_of_blocks_are_passed_over() -> None:
    (only,) = holders_of([an_offer(1, (1, 3)), an_offer(2, (1, 9), blocks=9)], 4)
    assert (only.start, only.end) == (1, 3)
