"""The comparison rule on bytes: strict, exact, symmetric."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import MalformedError
from protocol.session.fingerprint import SKETCH_BYTES, distance_ppm, parse

numbers = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=64, max_size=64)


def pack(values: list[float]) -> bytes:
    return struct.pack("<64f", *values)


@given(numbers)
def test_parsing_is_exact(values: list[float]) -> None:
    assert [n / 2**149 for n in parse(pack(values))] == values


@given(st.binary(max_size=300).filter(lambda data: len(data) != SKETCH_BYTES))
def test_another_length_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(data)


@given(st.binary(min_size=SKETCH_BYTES, max_size=SKETCH_BYTES))
def test_any_bytes_of_the_right_length_parse_or_are_malformed(data: bytes) -> None:
    if all(math.isfinite(v) for v in struct.unpack("<64f", data)):
        assert distance_ppm(data, data) == 0
    else:
        with pytest.raises(MalformedError):
            distance_ppm(data, data)


@given(numbers, numbers)
def test_distance_is_symmetric_bounded_and_agrees_with_floating_point(a: list[float], b: list[float]) -> None:
    distance = distance_ppm(pack(a), pack(b))
    assert distance == distance_ppm(pack(b), pack(a))
    assert 0 <= distance <= 2_000_000
    left, right = np.array(a), np.array(b)
    longest = max(np.linalg.norm(left), np.linalg.norm(right))
    if longest > 0:
        assert distance == pytest.approx(1e6 * np.linalg.norm(left - right) / longest, rel=1e-6, abs=1.1)


def test_zero_matches_zero_and_nothing_else() -> None:
    zero = bytes(SKETCH_BYTES)
    smallest = pack([2.0**-149] + [0.0] * 63)
    assert distance_ppm(zero, zero) == 0
    assert distance_ppm(zero, smallest) == 1_000_000


def test_it_is_rounded_down() -> None:
    assert distance_ppm(pack([1024.0] * 64), pack([1025.0] * 64)) == 975  # 1 / 1025
