"""How a fingerprint is made: to the bit as its clause says, and sensitive to order, scale and any row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_sketch import examples, philox, plain_sketch

from protocol.errors import InvalidError
from protocol.session.fingerprint import SKETCH_BYTES, distance_ppm, most_rows, parse, sketch

SEED = bytes(range(32))
WIDTH = 96
ROWS = np.random.default_rng(3).standard_normal((40, WIDTH)).astype(np.float32)
VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "sketch.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_the_vectors(vector: dict[str, object]) -> None:
    rows = np.frombuffer(bytes.fromhex("".join(vector["rows"])), dtype="<f4").reshape(-1, vector["width"])
    assert sketch(rows, bytes.fromhex(vector["seed"])).hex() == vector["sketch"]


def test_the_vectors_are_those_of_the_plain_form() -> None:
    assert {v["name"]: v["sketch"] for v in VECTORS} == {
        name: plain_sketch(rows, seed).hex() for name, (seed, rows) in examples().items()
    }


@given(st.integers(1, 130), st.integers(0, 3), st.data())
def test_it_is_to_the_bit_what_the_plain_form_says(width: int, count: int, data: st.DataObject) -> None:
    seed = data.draw(st.binary(min_size=32, max_size=32))
    size = 4 * width * count
    rows = np.frombuffer(data.draw(st.binary(min_size=size, max_size=size)), dtype="<f4").reshape(count, width)
    rows = np.where(np.isfinite(rows), rows, np.float32(0))
    assert sketch(rows, seed) == plain_sketch(rows.tolist(), seed)


def test_wide_rows_worked_on_in_parts_give_the_same() -> None:
    rows = np.random.default_rng(5).standard_normal((5, 5001)).astype(np.float32)
    assert sketch(rows, SEED) == plain_sketch(rows.tolist(), SEED)


@pytest.mark.parametrize("width", [1, 7, 64, 1000, 8192])
def test_running_sums_of_numpy_go_from_the_left_one_rounding_a_step(width: int) -> None:
    """Step 2 of the clause rests on it; `np.sum` adds pairwise and differs."""
    squares = np.random.default_rng(width).standard_normal((3, width)).astype(np.float32).astype(np.float64) ** 2
    for row, last in zip(squares, np.add.accumulate(squares, axis=1)[:, -1], strict=True):
        total = 0.0
        for square in row.tolist():
            total += square
        assert last == total


@pytest.mark.parametrize("stream", [0, 1])
def test_the_words_are_numpys_philox_with_these_counters(stream: int) -> None:
    key = np.frombuffer(SEED[:16], dtype="<u8").astype(np.uint64)
    counter = np.array([0, stream, 0, 0], dtype=np.uint64)
    words = philox(SEED, stream)
    assert np.random.Philox(key=key, counter=counter).random_raw(9).tolist() == [next(words) for _ in range(9)]


def test_nothing_has_a_fingerprint_of_zeros() -> None:
    assert sketch(ROWS[:0], SEED) == bytes(SKETCH_BYTES)
    assert sketch(ROWS[:3] * 0, SEED) == bytes(SKETCH_BYTES)


def test_memory_order_does_not_matter_and_the_rows_stay_as_they_are() -> None:
    rows = ROWS.copy()
    expected = sketch(rows, SEED)
    assert sketch(np.asfortranarray(rows), SEED) == expected
    frozen = np.frombuffer(rows.tobytes(), dtype="<f4").reshape(rows.shape)
    assert sketch(frozen, SEED) == expected
    assert np.array_equal(rows, ROWS)


def test_order_scale_seed_and_any_row_show() -> None:
    whole = sketch(ROWS, SEED)
    swapped = ROWS.copy()
    swapped[[3, 9]] = swapped[[9, 3]]
    without = np.delete(ROWS, 5, axis=0)
    one_off = ROWS.copy()
    one_off[7] += np.random.default_rng(4).standard_normal(WIDTH).astype(np.float32) * 0.1
    for other in (swapped, without, one_off, -ROWS, ROWS * np.float32(1.01)):
        assert distance_ppm(whole, sketch(other, SEED)) > 3000
    assert distance_ppm(whole, sketch(ROWS, SEED[::-1])) > 500_000


def test_one_row_of_huge_norm_does_not_drown_the_others() -> None:
    rows = ROWS.copy()
    rows[0] *= 1000
    altered = rows.copy()
    altered[20] = ROWS[21]
    assert distance_ppm(sketch(rows, SEED), sketch(altered, SEED)) > 20_000


def test_what_a_few_entries_differ_in_never_cancels() -> None:
    """Signs of a row, of a dimension and of an entry: with one bucket for a dimension it did, for every other seed."""
    rows = np.ones((16, 64), dtype=np.float32)
    for others in ([(2, 5), (9, 5)], [(2, 5), (2, 6)], [(2, 5), (2, 6), (9, 5), (9, 6)]):
        altered = rows.copy()
        for row, dimension in others:
            altered[row, dimension] = -1.0  # of the same norm
        share = np.sqrt(4 * len(others) / rows.size)
        apart = [distance_ppm(sketch(rows, bytes([i] * 32)), sketch(altered, bytes([i] * 32))) for i in range(200)]
        assert min(apart) > 300_000 * share
        assert 0.8 < np.median(apart) / (1e6 * share) < 1.2


@pytest.mark.parametrize("magnitude", [1e-30, 1e30])
def test_extreme_rows_still_give_a_fingerprint_that_parses(magnitude: float) -> None:
    assert len(parse(sketch(ROWS * np.float32(magnitude), SEED))) == 64


def test_as_many_rows_as_a_sum_of_64_bits_holds_and_no_more() -> None:
    width = 64 * 1024
    assert most_rows(width) == 256
    rows = np.zeros((256, width), dtype=np.float32)
    rows[:, ::2] = 3e38  # every entry at its bound
    assert len(parse(sketch(rows, SEED))) == 64
    with pytest.raises(InvalidError, match="too many") as error:
        sketch(np.vstack([rows, rows[:1]]), SEED)
    assert "at most 256 positions" in error.value.hint


@pytest.mark.parametrize(
    ("rows", "seed"),
    [
        (ROWS.astype(np.float64), SEED),
        (ROWS[0], SEED),
        (ROWS[:, :0], SEED),
        (ROWS, SEED[:31]),
        (np.full((1, 4), np.nan, dtype=np.float32), SEED),
        (np.full((1, 4), np.inf, dtype=np.float32), SEED),
    ],
    ids=["fp64", "one dimension", "no width", "short seed", "nan", "inf"],
)
def test_what_is_no_window_is_refused(rows: np.ndarray, seed: bytes) -> None:
    with pytest.raises(InvalidError, match=r"rows|seed"):
        sketch(rows, seed)
