"""How a fingerprint is made: as its description says, whatever the pieces, and sensitive to order and scale."""

from __future__ import annotations

import hashlib
import math
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.engine.fingerprint import Sketcher, sketch
from protocol.fingerprint import SKETCH_BYTES, distance_ppm, parse

HIDDEN = 96
ROWS = np.random.default_rng(3).standard_normal((40, HIDDEN)).astype(np.float32)


def described(rows: np.ndarray) -> bytes:
    """Steps 1 to 5 of the description, one number at a time."""
    sums = [0.0] * 64
    for r, row in enumerate(rows.tolist()):
        rms = math.sqrt(sum(x * x for x in row) / len(row))
        for d, x in enumerate(row):
            h = hashlib.sha256(b"joulemesh sketch\n" + struct.pack("<I", d)).digest()
            sign = 1 if h[1] % 2 == 0 else -1
            sums[(h[0] % 64 + r % 64) % 64] += sign * x / (math.sqrt(rms) or 1.0)
    return struct.pack("<64e", *(s / math.sqrt(max(1, len(rows))) for s in sums))


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], ROWS * 1e-3, np.repeat(ROWS, 4, axis=0), ROWS * 0])
def test_it_is_made_as_described(rows: np.ndarray) -> None:
    assert distance_ppm(sketch(rows), described(rows)) < 50  # a last bit of a half may round the other way


@given(st.lists(st.integers(0, 40), max_size=6))
def test_the_pieces_do_not_matter(cuts: list[int]) -> None:
    sketcher = Sketcher()
    edges = [0, *sorted(cuts), 40]
    for start, end in pairwise(edges):
        sketcher.add(ROWS[start:end])
    assert distance_ppm(sketcher.digest(), sketch(ROWS)) < 50


def test_nothing_has_a_fingerprint_of_zeros() -> None:
    assert Sketcher().digest() == bytes(SKETCH_BYTES)


def test_order_scale_and_any_row_show() -> None:
    whole = sketch(ROWS)
    swapped = ROWS.copy()
    swapped[[3, 9]] = swapped[[9, 3]]
    without = np.delete(ROWS, 5, axis=0)
    one_off = ROWS.copy()
    one_off[7] += np.random.default_rng(4).standard_normal(HIDDEN).astype(np.float32) * 0.1
    for other in (swapped, without, one_off, -ROWS, ROWS * np.float32(1.01)):
        assert distance_ppm(whole, sketch(other)) > 3000


def test_one_row_of_huge_norm_does_not_drown_the_others() -> None:
    rows = ROWS.copy()
    rows[0] *= 1000
    altered = rows.copy()
    altered[20] = ROWS[21]
    assert distance_ppm(sketch(rows), sketch(altered)) > 20_000


@pytest.mark.parametrize("magnitude", [1e-30, 1e30])
def test_extreme_rows_still_give_a_fingerprint_that_parses(magnitude: float) -> None:
    assert len(parse(sketch(ROWS * np.float32(magnitude)))) == 64
