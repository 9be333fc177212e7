"""Amounts, windows and the reach of a voucher, by hand."""

from __future__ import annotations

import pytest
from agreed_job import RATES, agree
from hypothesis import given
from hypothesis import strategies as st
from market_offers import some_rates

from protocol.session.metering import (
    NEVER,
    Stint,
    Work,
    amount,
    chain_length,
    last_position,
    most_owed,
    owed,
    paid_limit,
    payable,
    positions_of,
    reserved_caps,
    served,
    stints,
    window_count,
    window_end,
    window_index,
    work_of,
)
from protocol.session.terms import Plan
from protocol.units import ceil_div, format_micro

PLAN = Plan(prompt=10, most=20, chunk=4, window=8)


def test_a_plan_by_hand() -> None:
    ends = [0]
    while ends[-1] < last_position(PLAN):
        ends.append(window_end(PLAN, ends[-1]))
    assert ends == [0, 4, 8, 10, 17, 25, 29]
    assert [served(PLAN, end) for end in ends] == [(0, 0), (4, 0), (8, 0), (10, 1), (10, 8), (10, 16), (10, 20)]
    assert window_count(PLAN) == 6
    assert [window_count(PLAN, positions) for positions in (0, 1, 4, 5, 10, 11, 17, 18, 29)] == [
        *(0, 1, 1, 2, 3, 4, 4, 5, 6),
    ]


def test_how_far_ahead_is_paid_and_what_indices_are_left_out() -> None:
    assert [paid_limit(PLAN, at) for at in (0, 4, 10, 25, 29)] == [8, 10, 25, 29, 29]
    deep = PLAN.replace(ahead=3)
    assert [paid_limit(deep, at) for at in (0, 4, 10, 25)] == [17, 25, 29, 29]
    assert [window_index(PLAN, 5, reroutes) for reroutes in (0, 1, 2)] == [5, 7, 9]
    assert window_index(deep, 5, 1) == 9
    assert chain_length(PLAN) == window_index(PLAN, window_count(PLAN), 64) == 6 + 128


def test_a_window_of_one_token() -> None:
    plan = Plan(prompt=2, most=3, chunk=5, window=1)
    assert [window_end(plan, at) for at in (0, 2, 3)] == [2, 3, 4]
    assert window_count(plan) == 3


def test_a_plan_of_one_position() -> None:
    plan = Plan(prompt=1, most=1, chunk=1, window=1)
    assert (window_end(plan, 0), last_position(plan), window_count(plan)) == (1, 1, 1)


@pytest.mark.parametrize("credit", [0, 1, 8])
def test_s5_the_prompt_is_paid_before_whatever_the_credit(credit: int) -> None:
    for paid in (0, 4, 9):
        assert payable(PLAN, credit, paid) == paid
    for paid in (10, 17, 29):
        assert payable(PLAN, credit, paid) == paid + credit
    assert payable(Plan(prompt=1, most=1, chunk=1, window=8), credit, 0) == 0


def test_counts_and_positions_are_two_names_of_one_thing() -> None:
    for positions in range(last_position(PLAN) + 1):
        assert positions_of(PLAN, *served(PLAN, positions)) == positions


def test_s1_an_amount_by_hand() -> None:
    assert amount(10, 0, 100_000, 0) == 1
    assert amount(10, 1, 100_000, 300_000) == 2
    assert amount(0, 10, 0, 1_000_000, late=4, late_discount_ppm=250_000) == 9
    assert amount(0, 1, 0, 3, late=1, late_discount_ppm=999_999) == 1, "the discount on one token is rounded down"
    assert amount(1, 0, 5_000_000, 0, cached=2, price_cached=500_000) == 6
    assert amount(1, 0, 1_000_000, 0, rejected=3, price_rejected=2_000_000) == 7


def test_s1_nothing_that_was_served_is_free() -> None:
    assert amount(0, 0, 5, 5) == 0
    assert amount(1, 0, 0, 0) == amount(0, 1, 0, 0) == amount(0, 0, 0, 0, cached=1) == 1
    assert amount(0, 1, 0, 5, late=1, late_discount_ppm=1_000_000) == 1


def test_s6_what_a_leg_did_by_hand() -> None:
    assert work_of(PLAN, Stint(), 4) == Work(0, 4, 0)
    assert work_of(PLAN, Stint(), 10) == Work(0, 10, 1)
    assert work_of(PLAN, Stint(cached=6), 4) == Work(4, 0, 0)
    assert work_of(PLAN, Stint(cached=6), 10) == Work(6, 4, 1)
    assert work_of(PLAN, Stint(0, 8), 29) == Work(0, 8, 0)
    assert work_of(PLAN, Stint(0, 17), 29, late=30) == Work(0, 10, 8, 8)
    assert work_of(PLAN, Stint(8), 8) == Work()
    assert work_of(PLAN, Stint(8), 10) == Work(0, 10, 1)
    assert work_of(PLAN, Stint(10), 17) == Work(0, 10, 7), "the first token was another leg's"
    assert work_of(PLAN, Stint(17), 25) == Work(0, 17, 8)
    assert work_of(PLAN, Stint(17, cached=30), 25) == Work(17, 0, 8)
    assert work_of(PLAN, NEVER, 29) == Work()


def test_a_leg_that_was_never_called_has_its_opening_charge() -> None:
    rates = some_rates(**RATES)
    assert owed(rates, Work()) == RATES["opening"]
    assert owed(rates, Work(0, 1, 0)) == RATES["opening"] + 1


def test_s2_a_standbys_cap_pays_for_the_dearer_of_its_ways_to_serve() -> None:
    dear_prompt, dear_answer = some_rates(price_in=9_000_000), some_rates(price_out=9_000_000)
    terms = agree(standbys=((0, 6),)).terms
    for rates, of_standby in ((dear_prompt, 9 * 19 + 1), (dear_answer, 100)):
        leg = terms.standbys[0].replace(rates=rates)
        whole = owed(rates, work_of(terms.plan, Stint(), 20))
        assert most_owed(leg, terms.plan, standby=False) == whole
        assert most_owed(leg, terms.plan, standby=True) == max(whole, of_standby)


def test_stints_follow_the_reroutes() -> None:
    agreed = agree(standbys=((0, 6),))
    assert stints(agreed.terms, ()) == (Stint(), Stint(), Stint(), NEVER)
    assert stints(agreed.terms, (), (3, 0, 1, 0)) == (Stint(cached=3), Stint(), Stint(cached=1), NEVER)


def test_caps_are_reserved_together() -> None:
    session = agree().session
    assert reserved_caps(session) == sum(leg.cap for leg in session.legs)


# Money as text


@pytest.mark.parametrize(
    ("micro", "text"), [(80_000, "0.080000"), (10**6, "1.000000"), (-1, "-0.000001"), (0, "0.000000")]
)
def test_money_is_written_with_all_its_places(micro: int, text: str) -> None:
    assert format_micro(micro) == text


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_ceil_div(numerator: int, denominator: int) -> None:
    assert (
        (ceil_div(numerator, denominator) - 1) * denominator
        < numerator
        <= ceil_div(numerator, denominator) * denominator
    )
