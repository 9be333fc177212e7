"""The kernels give the same bits on Python ints, as in a node, and on int64 arrays, as here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.energy.tariff import (
    MAX_MARGIN_PPM,
    MAX_MILLIJOULES_PER_TOKEN,
    MAX_PRICE,
    MAX_PUE_MILLI,
    MAX_TARIFF,
    ask_price,
    capital_price,
    energy_price,
    floor_price,
)
from protocol.session.metering import amount
from protocol.settlement.stakes import penalty_parts
from protocol.units import MICRO, IntOrArray
from simulator.settlement import cost

Bounds = tuple[tuple[int, int], ...]


def _with_late(tokens: IntOrArray, late: IntOrArray, price: IntOrArray, discount: IntOrArray) -> IntOrArray:
    return amount(tokens, tokens, price, price, late=late, late_discount_ppm=discount)


KERNELS: dict[str, tuple[Callable[..., Any], Bounds]] = {
    "energy_price": (
        energy_price,
        ((0, MAX_MILLIJOULES_PER_TOKEN), (0, MAX_PUE_MILLI), (-MAX_TARIFF, MAX_TARIFF)),
    ),
    "floor_price": (floor_price, ((-MAX_PRICE, MAX_PRICE), (0, MAX_PRICE))),
    "ask_price": (ask_price, ((0, MAX_PRICE), (0, MAX_MARGIN_PPM), (0, MAX_PRICE), (0, MICRO))),
    "amount": (amount, ((0, 2**40), (0, 2**40), (0, 2**20), (0, 2**20))),
    "cost": (cost, ((0, 2**40), (0, 2**40), (-(2**20), 2**20), (-(2**20), 2**20))),
    "penalty, to whom proves it": (lambda at_stake: penalty_parts(at_stake)[0], ((0, 2**62),)),
    "penalty, burned": (lambda at_stake: penalty_parts(at_stake)[1], ((0, 2**62),)),
    "late tokens": (_with_late, ((0, 2**40), (0, 2**20), (0, 2**20), (0, MICRO))),
    "capital_price": (capital_price, ((0, 10**9), (1, 6 * 10**8), (1, MICRO))),
}


@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=at_length(60), deadline=None)
@given(data=st.data())
def test_ints_and_arrays_agree_on_any_values(name: str, data: st.DataObject) -> None:
    kernel, bounds = KERNELS[name]
    rows = data.draw(st.lists(st.tuples(*(st.integers(low, high) for low, high in bounds)), min_size=1, max_size=8))
    _agree(kernel, rows)


@pytest.mark.parametrize("name", KERNELS)
def test_ints_and_arrays_agree_on_a_large_batch(name: str) -> None:
    kernel, bounds = KERNELS[name]
    draws = np.random.Generator(np.random.Philox(7))
    columns = [draws.integers(low, high, 20_000, endpoint=True).tolist() for low, high in bounds]
    _agree(kernel, list(zip(*columns, strict=True)))


@pytest.mark.parametrize("name", KERNELS)
def test_ints_and_arrays_agree_at_the_corners_of_the_bounds(name: str) -> None:
    kernel, bounds = KERNELS[name]
    corners: list[tuple[int, ...]] = [()]
    for pair in bounds:
        corners = [(*corner, end) for corner in corners for end in pair]
    _agree(kernel, corners)


def test_an_array_beyond_the_bounds_would_differ() -> None:
    """The neighbour that shows why the simulator checks its ranges: ints are exact, arrays wrap."""
    beyond = (2**40, 0, 2**40, 0)
    assert amount(*beyond) >= 2**80 // MICRO
    assert int(amount(*(np.array([value]) for value in beyond))[0]) != amount(*beyond)


def _agree(kernel: Callable[..., Any], rows: list[tuple[int, ...]]) -> None:
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
    vectorised = kernel(*columns)
    assert vectorised.dtype == np.int64
    assert vectorised.tolist() == [kernel(*row) for row in rows]
