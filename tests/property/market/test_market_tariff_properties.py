"""The price kernels say the same on ints and on int64 arrays, everywhere within their bounds."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.energy.charges import (
    MAX_LOAD_W,
    MAX_LOCAL_PRICE,
    MAX_RATE_PPM,
    blended_price,
    demand_price,
    exchanged,
    with_share,
)
from protocol.energy.price_series import STEP_S, PriceSeries, PriceSource, mean_between
from protocol.energy.tariff import (
    MAX_CARBON_G_PER_KWH,
    MAX_CARBON_PRICE,
    MAX_HARDWARE_PRICE,
    MAX_MARGIN_PPM,
    MAX_MILLIJOULES_PER_TOKEN,
    MAX_PRICE,
    MAX_PUE_MILLI,
    MAX_TARIFF,
    ask_price,
    capital_price,
    carbon_cost,
    energy_price,
    floor_price,
    followed_price,
)


def rows(*strategies: st.SearchStrategy[int]) -> st.SearchStrategy[list[tuple[int, ...]]]:
    return st.lists(st.tuples(*strategies), min_size=1, max_size=40)


def columns(table: list[tuple[int, ...]]) -> list[np.ndarray]:
    return [np.array(column, dtype=np.int64) for column in zip(*table, strict=True)]


def upto(most: int, least: int = 0) -> st.SearchStrategy[int]:
    return st.integers(least, most) | st.sampled_from([least, most])


ENERGY = rows(upto(MAX_MILLIJOULES_PER_TOKEN), upto(MAX_PUE_MILLI), upto(MAX_TARIFF, -MAX_TARIFF))
ASK = rows(upto(MAX_PRICE), upto(MAX_MARGIN_PPM), upto(MAX_PRICE), upto(1_000_000))
FLOOR = rows(upto(MAX_PRICE, -MAX_PRICE), upto(MAX_PRICE))


@settings(max_examples=at_length(300), deadline=None)
@given(ENERGY)
def test_energy_price_is_the_same_on_arrays(table: list[tuple[int, int, int]]) -> None:
    scalar = [energy_price(*row) for row in table]
    array = energy_price(*columns(table))
    assert array.dtype == np.int64
    assert array.tolist() == scalar
    assert scalar == [ceil(Fraction(j * p * t, 3_600_000)) for j, p, t in table]


@settings(max_examples=at_length(300), deadline=None)
@given(FLOOR, ASK)
def test_floor_and_ask_are_the_same_on_arrays(floors: list[tuple[int, int]], asks: list[tuple[int, ...]]) -> None:
    assert floor_price(*columns(floors)).tolist() == [floor_price(*row) for row in floors]
    assert ask_price(*columns(asks)).tolist() == [ask_price(*row) for row in asks]


@settings(deadline=None)
@given(ASK)
def test_the_ask_is_never_below_the_floor(asks: list[tuple[int, ...]]) -> None:
    for floor, margin, capital, utilisation in asks:
        assert ask_price(floor, margin, capital, utilisation) >= floor


@settings(deadline=None)
@given(upto(MAX_PRICE), upto(MAX_PRICE))
def test_what_an_offer_may_ask_fits_the_wire(floor: int, capital: int) -> None:
    assert ask_price(floor, MAX_MARGIN_PPM, capital, 1_000_000) < 2**63


def same_on_arrays(kernel: Callable[..., Any], table: list[tuple[int, ...]], oracle: Callable[..., int]) -> None:
    """A kernel on ints, on arrays, and by fractions."""
    scalar = [kernel(*row) for row in table]
    array = kernel(*columns(table))
    assert array.dtype == np.int64
    assert array.tolist() == scalar
    assert scalar == [oracle(*row) for row in table]


@settings(max_examples=at_length(100), deadline=None)
@given(rows(upto(MAX_CARBON_G_PER_KWH), upto(MAX_CARBON_PRICE)))
def test_the_cost_of_carbon(table: list[tuple[int, ...]]) -> None:
    same_on_arrays(carbon_cost, table, lambda grams, micro: ceil(Fraction(grams, 1_000_000) * micro))


@settings(max_examples=at_length(100), deadline=None)
@given(rows(upto(MAX_HARDWARE_PRICE), upto(600_000_000, 1), upto(1_000_000, 1)))
def test_the_price_of_capital(table: list[tuple[int, ...]]) -> None:
    def oracle(hourly: int, token_us: int, use: int) -> int:
        whole = min(ceil(Fraction(hourly * token_us, 3600)), MAX_PRICE)
        return min(ceil(Fraction(whole * 1_000_000, use)), MAX_PRICE)

    same_on_arrays(capital_price, table, oracle)


@settings(max_examples=at_length(100), deadline=None)
@given(rows(upto(MAX_PRICE), upto(1_000_000), upto(MAX_PRICE)))
def test_a_price_that_follows_the_book(table: list[tuple[int, ...]]) -> None:
    same_on_arrays(
        followed_price,
        table,
        lambda median, undercut, floor: max(floor, median - ceil(Fraction(median * undercut, 1_000_000))),
    )


@settings(max_examples=at_length(100), deadline=None)
@given(rows(upto(MAX_LOCAL_PRICE, -MAX_LOCAL_PRICE), upto(10_000_000, -1_000_000), upto(MAX_RATE_PPM, 1)))
def test_shares_and_exchange(table: list[tuple[int, ...]]) -> None:
    same_on_arrays(
        with_share,
        [(price, share) for price, share, _ in table],
        lambda price, share: ceil(price * (1 + Fraction(share, 1_000_000))),
    )
    same_on_arrays(
        exchanged,
        [(price, rate) for price, _, rate in table],
        lambda price, rate: ceil(price * Fraction(rate, 1_000_000)),
    )


@settings(max_examples=at_length(100), deadline=None)
@given(rows(upto(MAX_LOCAL_PRICE), upto(744, 1), upto(1_000_000, 1)))
def test_demand_by_the_hour(table: list[tuple[int, ...]]) -> None:
    same_on_arrays(demand_price, table, lambda kw, hours, load: ceil(Fraction(kw * 1_000_000, hours * load)))


SUPPLIES = st.lists(st.tuples(upto(MAX_LOAD_W), upto(MAX_TARIFF, -MAX_TARIFF)), max_size=4)


@settings(max_examples=at_length(100), deadline=None)
@given(st.lists(upto(MAX_LOAD_W, 1), min_size=1, max_size=20), SUPPLIES, upto(MAX_TARIFF, -MAX_TARIFF))
def test_supplies_are_blended_alike(loads: list[int], supplies: list[tuple[int, int]], rest: int) -> None:
    def oracle(load: int) -> int:
        cost, left = Fraction(0), load
        for watts, price in supplies:
            cost, left = cost + Fraction(min(left, watts) * price, load), max(0, left - watts)
        return ceil(cost + Fraction(left * rest, load))

    scalar = [blended_price(load, supplies, rest) for load in loads]
    array = blended_price(np.array(loads, dtype=np.int64), supplies, rest)  # type: ignore[arg-type]
    assert array.tolist() == scalar == [oracle(load) for load in loads]


@settings(max_examples=at_length(100), deadline=None)
@given(st.lists(upto(MAX_TARIFF, -MAX_TARIFF), min_size=1, max_size=200), st.data())
def test_a_mean_over_time_is_what_a_fraction_says(prices: list[int], data: st.DataObject) -> None:
    series = PriceSeries(900, tuple(prices), (PriceSource.TABLE,) * len(prices))
    begins = data.draw(st.lists(st.integers(0, len(prices) * STEP_S - 1), min_size=1, max_size=10))
    pairs = [(begin, data.draw(st.integers(begin + 1, len(prices) * STEP_S))) for begin in begins]

    def oracle(begin: int, end: int) -> int:
        parts = (
            max(0, min(end, (index + 1) * STEP_S) - max(begin, index * STEP_S)) * price
            for index, price in enumerate(prices)
        )
        return ceil(Fraction(sum(parts), end - begin))

    expected = [oracle(*pair) for pair in pairs]
    assert [series.mean(900 + begin, 900 + end) for begin, end in pairs] == expected
    sums, padded = (np.array(each, dtype=np.int64) for each in (series.sums, (*prices, 0)))
    assert mean_between(sums, padded, *columns(pairs)).tolist() == expected
