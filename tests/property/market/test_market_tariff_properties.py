"""The price kernels say the same on ints and on int64 arrays, everywhere within their bounds."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.tariff import (
    MAX_MARGIN_PPM,
    MAX_MILLIJOULES_PER_TOKEN,
    MAX_PRICE,
    MAX_PUE_MILLI,
    MAX_TARIFF,
    ask_price,
    energy_price,
    floor_price,
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


@settings(max_examples=300, deadline=None)
@given(ENERGY)
def test_energy_price_is_the_same_on_arrays(table: list[tuple[int, int, int]]) -> None:
    scalar = [energy_price(*row) for row in table]
    array = energy_price(*columns(table))
    assert array.dtype == np.int64
    assert array.tolist() == scalar
    assert scalar == [ceil(Fraction(j * p * t, 3_600_000)) for j, p, t in table]


@settings(max_examples=300, deadline=None)
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
