"""The quantizer: held against a second one in exact fractions, its vectors, and its bounds."""

from __future__ import annotations

import hashlib
import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import InvalidError
from protocol.models.quantizer import GROUP, from_int4, from_int8, to_int4, to_int8

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "quantizer.json").read_text())


def rounded(value: Fraction) -> np.float32:
    """To the nearest single, ties to even, by comparing neighbours."""
    near = np.float32(float(value))
    around = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    return min(around, key=lambda each: (abs(Fraction(float(each)) - value), int(each.view(np.uint32)) & 1))


def nearest(value: np.float32) -> int:
    exact = Fraction(float(value))
    low = exact.numerator // exact.denominator
    return min((low, low + 1), key=lambda each: (abs(each - exact), each & 1))


def quotient(one: np.float32, other: np.float32) -> np.float32:
    return rounded(Fraction(float(one)) / Fraction(float(other)))


def shortened(value: np.float32) -> np.float32:
    """The nearest number with eight significant bits, ties to even."""
    if value == 0:
        return value
    exact = Fraction(float(value))
    step = Fraction(2) ** (math.frexp(abs(float(value)))[1] - 8)
    low = exact // step
    count = min((low, low + 1), key=lambda each: (abs(each * step - exact), each & 1))
    return np.float32(float(count * step))


numbers = st.floats(-4, 4, width=32, allow_subnormal=False)


@given(st.lists(numbers, min_size=GROUP, max_size=GROUP))
@settings(max_examples=at_length(30))
def test_it_is_what_exact_arithmetic_says(row: list[float]) -> None:
    weight = np.array([row], np.float32)
    whole, scales = to_int8(weight)
    largest = max(map(abs, weight[0]))
    scale = quotient(largest, np.float32(127)) if largest else np.float32(1)
    scale = scale if scale else np.float32(1)
    assert scales[0] == scale
    assert whole[0].tolist() == [max(-127, min(127, nearest(quotient(each, scale)))) for each in weight[0]]
    packed, groups = to_int4(weight)
    extreme = max(weight[0], key=abs)
    scale = shortened(quotient(extreme, np.float32(-8))) or np.float32(1)
    assert groups[0, 0] == scale
    halves = [(int(byte) & 15, int(byte) >> 4) for byte in packed[0]]
    expected = [max(-8, min(7, nearest(quotient(each, scale)))) for each in weight[0]]
    assert [each - 8 for pair in halves for each in pair] == expected
    assert np.abs(from_int4(packed, groups) - weight).max() <= abs(groups[0, 0]) * (1 + 8 / 256)
    assert np.abs(from_int8(whole, scales) - weight).max() <= scales[0]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda each: each["name"])
def test_the_vectors_hold(vector: dict[str, str]) -> None:
    weight = np.frombuffer(bytes.fromhex(vector["weight"]), "<f4").reshape(-1, vector["inputs"])
    for bits, make in (("int8", to_int8), ("int4", to_int4)):
        whole, scales = make(weight)
        assert (whole.tobytes().hex(), scales.astype("<f4").tobytes().hex()) == (
            vector[bits]["numbers"],
            vector[bits]["scales"],
        )
        back = (from_int8 if bits == "int8" else from_int4)(whole, scales)
        assert hashlib.sha256(back.astype("<f4").tobytes()).hexdigest() == vector[bits]["weight_sha256"]


def test_what_cannot_be_quantized_is_refused() -> None:
    for value in (np.nan, np.inf):
        weight = np.full((1, GROUP), value, np.float32)
        for make in (to_int8, to_int4):
            with pytest.raises(InvalidError, match="not finite"):
                make(weight)
    with pytest.raises(InvalidError, match="groups of 32"):
        to_int4(np.ones((1, GROUP + 1), np.float32))
    zeros = np.zeros((2, GROUP), np.float32)
    assert from_int8(*to_int8(zeros)).any() == from_int4(*to_int4(zeros)).any() == False  # noqa: E712
