"""Rows on the wire: what goes out and comes back in each number format."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedError
from protocol.models.activations import FORMATS, ActivationType, from_wire, to_wire

FP32, BF16 = ActivationType.FP32, ActivationType.BF16
numbers = st.floats(width=32, allow_nan=False)


def rows(values: list[float], width: int = 1) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(-1, width)


def nearest_bf16(value: float) -> int:
    """The upper half whose number is nearest, ties to the even one: tried, not shifted."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    low, rest = bits >> 16, bits & 0xFFFF
    if rest > 0x8000 or (rest == 0x8000 and low & 1):
        return low + 1
    return low


def test_every_type_has_its_format() -> None:
    assert FORMATS.keys() == set(ActivationType)


@given(st.lists(numbers, max_size=20))
def test_fp32_travels_to_the_bit(values: list[float]) -> None:
    data = to_wire(FP32, rows(values))
    assert data == struct.pack(f"<{len(values)}f", *values)
    assert from_wire(FP32, data, 1).tobytes() == data


@given(st.lists(numbers, max_size=20))
def test_bf16_rounds_to_the_nearest_even_number(values: list[float]) -> None:
    data = to_wire(BF16, rows(values))
    assert struct.unpack(f"<{len(values)}H", data) == tuple(map(nearest_bf16, values))


@given(st.lists(numbers, max_size=20))
def test_both_neighbours_hold_the_same_numbers(values: list[float]) -> None:
    for kind in ActivationType:
        data = to_wire(kind, rows(values))
        assert to_wire(kind, from_wire(kind, data, 1)) == data


def test_what_is_no_number_stays_none() -> None:
    odd = rows([float("nan"), float("inf"), -float("inf")])
    back = from_wire(BF16, to_wire(BF16, odd), 1)
    assert np.isnan(back[0, 0])
    assert back[1:, 0].tolist() == [float("inf"), -float("inf")]


@pytest.mark.parametrize("kind", list(ActivationType))
def test_bytes_are_whole_rows(kind: ActivationType) -> None:
    row = FORMATS[kind].item_bytes * 3
    assert from_wire(kind, bytes(2 * row), 3).shape == (2, 3)
    assert from_wire(kind, b"", 3).shape == (0, 3)
    for length in (1, row - 1, row + 1):
        with pytest.raises(MalformedError, match="no whole number"):
            from_wire(kind, bytes(length), 3)
