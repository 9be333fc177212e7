"""The amount against exact fractions, on ints and on arrays; windows against a walk position by position."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil

import numpy as np
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.energy.tariff import MAX_PRICE
from protocol.session.metering import amount, last_position, payable, positions_of, served, window_count, window_end
from protocol.session.terms import Plan

NAMES = ("cached", "price_cached", "late", "late_discount_ppm", "rejected", "price_rejected")
LIMIT = 2**60
"""No count times its price reaches this on arrays."""

plans = st.builds(
    Plan, prompt=st.integers(1, 40), most=st.integers(1, 40), chunk=st.integers(1, 50), window=st.integers(1, 50)
)


def exact(row: tuple[int, ...]) -> int:
    """Clause S1 in fractions."""
    tokens_in, tokens_out, price_in, price_out, cached, price_cached, late, late_ppm, rejected, price_rejected = row
    of_late = Fraction(price_out) - Fraction(price_out * late_ppm, 10**6).__floor__()
    total = tokens_in * Fraction(price_in) + (tokens_out - late) * Fraction(price_out) + late * of_late
    total += cached * Fraction(price_cached) + rejected * Fraction(price_rejected)
    rounded = ceil(total / 10**6)
    return max(rounded, 1) if tokens_in or tokens_out or cached else rounded


def on_ints(row: tuple[int, ...]) -> int:
    return amount(*row[:4], **dict(zip(NAMES, row[4:], strict=True)))


def on_arrays(columns: list[np.ndarray]) -> np.ndarray:
    found: np.ndarray = amount(*columns[:4], **dict(zip(NAMES, columns[4:], strict=True)))
    return found


@st.composite
def rows(draw: st.DrawFn) -> tuple[int, ...]:
    price = st.integers(0, MAX_PRICE) | st.sampled_from([0, 1, MAX_PRICE])
    count = st.integers(0, 10**6) | st.integers(0, 3)
    counts = [draw(count) for _ in range(4)]
    prices = [draw(price) for _ in range(4)]
    return (
        *(counts[0], counts[1], prices[0], prices[1], counts[2], prices[2]),
        *(draw(st.integers(0, counts[1])), draw(st.integers(0, 10**6)), counts[3], prices[3]),
    )


@settings(max_examples=at_length(500))
@given(rows())
def test_the_amount_is_the_exact_one_rounded_up(row: tuple[int, ...]) -> None:
    assert on_ints(row) == exact(row)


@given(rows())
def test_an_amount_is_never_nothing_after_the_first_token(row: tuple[int, ...]) -> None:
    assert on_ints(row) >= (1 if row[0] or row[1] or row[4] else 0)


def test_amounts_are_the_same_to_the_bit_on_arrays() -> None:
    """10^5 rows, with every count times its price up to just below the bound."""
    random = np.random.default_rng(7)
    size = 100_000
    bits = random.integers(0, 41, (4, size))
    prices = [random.integers(0, 1 + (1 << bit).clip(max=MAX_PRICE)) for bit in bits]
    most = [np.minimum((LIMIT - 1) // np.maximum(price, 1), 1 << 31) for price in prices]
    counts = [random.integers(0, limit + 1) for limit in most]
    late = random.integers(0, counts[1] + 1)
    ppm = random.integers(0, 1_000_001, size)
    columns = [counts[0], counts[1], prices[0], prices[1], counts[2], prices[2], late, ppm, counts[3], prices[3]]
    found = on_arrays(columns)
    assert found.dtype == np.int64
    expected = [on_ints(row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    assert found.tolist() == expected


def test_the_largest_row_that_arrays_may_hold() -> None:
    count = LIMIT // MAX_PRICE
    row = (count, count, MAX_PRICE, MAX_PRICE, count, MAX_PRICE, 0, 10**6, count, MAX_PRICE)
    assert on_arrays([np.array([value]) for value in row]).tolist() == [exact(row)]
    all_late = (*row[:6], count, *row[7:])
    assert on_arrays([np.array([value]) for value in all_late]).tolist() == [exact(all_late)]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 1000), st.lists(st.integers(1, 50), max_size=20))
def test_rounding_never_accumulates(price_in: int, price_out: int, start: int, steps: list[int]) -> None:
    paid = amount(start, start, price_in, price_out)
    tokens = start
    for step in steps:
        paid += amount(tokens + step, tokens + step, price_in, price_out) - amount(tokens, tokens, price_in, price_out)
        tokens += step
    assert paid == amount(tokens, tokens, price_in, price_out)


# Windows


def ends_of(plan: Plan) -> list[int]:
    """Position by position: a window is over with its last chunk or token, and with the prompt, and with the job."""
    ends, prompt_tokens, generated = [], 0, 0
    for position in range(1, last_position(plan) + 1):
        if position <= plan.prompt:
            prompt_tokens += 1
        if position >= plan.prompt:
            generated += 1
        of_prompt = position < plan.prompt and prompt_tokens % plan.chunk == 0
        of_answer = position > plan.prompt and generated % plan.window == 0
        if of_prompt or of_answer or position in (plan.prompt, last_position(plan)):
            ends.append(position)
    return ends


@given(plans)
def test_windows_end_where_a_walk_says(plan: Plan) -> None:
    ends = ends_of(plan)
    assert ends[-1] == last_position(plan)
    for before, end in pairwise([0, *ends]):
        assert {window_end(plan, position) for position in range(before, end)} == {end}
    assert window_count(plan) == len(ends)
    for position in range(last_position(plan) + 1):
        assert window_count(plan, position) == sum(end < position for end in ends) + (position > 0)


@given(plans)
def test_a_window_holds_no_more_than_the_plan_says(plan: Plan) -> None:
    for before, end in pairwise([0, *ends_of(plan)]):
        (in_before, out_before), (in_after, out_after) = served(plan, before), served(plan, end)
        assert 0 <= in_after - in_before <= plan.chunk
        assert 0 <= out_after - out_before <= plan.window


@given(plans)
def test_counts_and_positions_are_one(plan: Plan) -> None:
    counts = [served(plan, position) for position in range(last_position(plan) + 1)]
    assert [positions_of(plan, *each) for each in counts] == list(range(last_position(plan) + 1))
    assert counts[-1] == (plan.prompt, plan.most)
    assert counts == sorted(counts)


@given(plans, st.integers(0, 100), st.integers(0, 50))
def test_no_leg_goes_further_than_the_credit_beyond_what_is_paid(plan: Plan, paid: int, credit: int) -> None:
    paid, credit = min(paid, last_position(plan)), min(credit, plan.window)
    tokens_in, tokens_out = served(plan, payable(plan, credit, paid))
    assert tokens_in <= served(plan, paid)[0], "the prompt is never served on credit"
    assert tokens_out <= served(plan, paid)[1] + credit
    assert payable(plan, credit, paid) <= payable(plan, credit, paid + 1)
