"""Amounts, windows and the reach of a voucher."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ConfigurationError
from protocol.metering import Plan, amount, payable, served, window_end
from protocol.units import ceil_div, format_micro, parse_micro

plans = st.builds(
    Plan, prompt=st.integers(1, 40), most=st.integers(1, 40), chunk=st.integers(1, 16), window=st.integers(1, 16)
)


@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 2, *[st.integers(0, 10**12)] * 2), min_size=1, max_size=50))
def test_amounts_are_the_same_on_ints_and_arrays(rows: list[tuple[int, int, int, int]]) -> None:
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
    assert amount(*columns).tolist() == [amount(*row) for row in rows]


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**9), st.lists(st.integers(1, 50), max_size=20))
def test_rounding_never_accumulates(price_in: int, price_out: int, start: int, steps: list[int]) -> None:
    paid, tokens = 0, start % 1000
    first = amount(tokens, tokens, price_in, price_out)
    for step in steps:
        due = amount(tokens + step, tokens + step, price_in, price_out) - amount(tokens, tokens, price_in, price_out)
        paid, tokens = paid + due, tokens + step
    assert first + paid == amount(tokens, tokens, price_in, price_out)


@given(plans)
def test_windows_cover_every_position_once_and_end_where_the_spec_says(plan: Plan) -> None:
    last = plan.prompt + plan.most - 1
    start, ends = 0, []
    while start < last:
        end = window_end(plan, start)
        assert end > start
        ends.append(end)
        start = end
    assert plan.prompt in ends or plan.prompt > last
    for before, end in zip([0, *ends], ends, strict=False):
        (in_before, out_before), (in_after, out_after) = served(plan, before), served(plan, end)
        assert in_after - in_before <= plan.chunk
        assert out_after - out_before <= plan.window


@given(plans, st.integers(0, 100), st.integers(0, 100))
def test_no_leg_goes_further_than_one_window_beyond_its_voucher(plan: Plan, paid_in: int, paid_out: int) -> None:
    paid_in = min(paid_in, plan.prompt)
    tokens_in, tokens_out = served(plan, payable(plan, paid_in, paid_out if paid_in == plan.prompt else 0))
    assert tokens_in <= paid_in
    assert tokens_out <= paid_out + plan.window


def test_a_plan_by_hand() -> None:
    plan = Plan(prompt=10, most=20, chunk=4, window=8)
    ends = [0]
    while ends[-1] < 29:
        ends.append(window_end(plan, ends[-1]))
    assert ends == [0, 4, 8, 10, 17, 25, 33]
    assert [served(plan, end) for end in ends] == [(0, 0), (4, 0), (8, 0), (10, 1), (10, 8), (10, 16), (10, 24)]
    assert payable(plan, 4, 0) == 4
    assert payable(plan, 10, 0) == 17


@pytest.mark.parametrize(("text", "micro"), [("0.08", 80_000), ("1", 1_000_000), ("-0.000001", -1), ("0", 0)])
def test_decimal_money_is_read_exactly(text: str, micro: int) -> None:
    assert parse_micro(text) == micro
    assert parse_micro(format_micro(micro)) == micro


@pytest.mark.parametrize("text", ["", "x", "0.0000001", "NaN", "Infinity", "1e30"])
def test_money_that_cannot_be_counted_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_micro(text)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_ceil_div(numerator: int, denominator: int) -> None:
    assert (
        (ceil_div(numerator, denominator) - 1) * denominator
        < numerator
        <= ceil_div(numerator, denominator) * denominator
    )
