"""The fingerprint of a window's activations, and how far two of them are apart.

A fingerprint is 64 fp32 numbers, little-endian: sums of all numbers in a window's rows, each with random signs from a
seed that nobody knew while the rows were made (docs/spec/audit.md, clause F1). Two fingerprints of the same bytes under
one seed are equal to the bit on every machine: all roundings are prescribed, and what is summed in any order is
integers. Those of rows that were computed again, in another batch or in one prefill, differ in their last bits, so
equality is a distance below a tolerance, computed exactly (clause F6).

It does not say who lied, and draws no seeds.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from protocol.errors import InvalidError, MalformedError

__all__ = [
    "NUMBERS",
    "SEED_BYTES",
    "SKETCH_BYTES",
    "distance_ppm",
    "most_rows",
    "parse",
    "sketch",
]

NUMBERS = 64
"""Numbers in a fingerprint."""

SKETCH_BYTES = 4 * NUMBERS
"""Its length on the wire."""

SEED_BYTES = 32
"""Length of the seed of a window (`protocol.session.draws`)."""

_UNITS = 1 << 22  # of a scaled entry
_LARGEST = float(1 << 16)  # of a scaled entry; so 38 bits and a sign in all
_SMALLEST = 149  # every finite fp32 number is a multiple of 2**-149
_MOST_ENTRIES = 1 << 24  # of 38 bits each in one 64-bit sum, with a bit for the sign and one to spare
_MILLION = 1_000_000

# Rows and dimensions multiplied at a time: sums of 2**8 * 2**38 are exact in double precision in any order, and
# products of this size stay in the calling thread.
_ROWS, _DIMENSIONS = 16, 256
_CACHED = 1 << 15  # numbers scaled at a time

_Rows = np.ndarray[Any, np.dtype[np.float32]]
_Signs = np.ndarray[Any, np.dtype[np.int8]]
_Floats = np.ndarray[Any, np.dtype[np.float64]]
_Integers = np.ndarray[Any, np.dtype[np.int64]]


def most_rows(width: int) -> int:
    """Rows of `width` numbers that one fingerprint can be taken of; no sum of theirs leaves 64 bits."""
    return _MOST_ENTRIES // width


def sketch(rows: _Rows, seed: bytes) -> bytes:
    """The fingerprint of a window: 256 bytes, the same on every machine (docs/spec/audit.md, clause F1).

    Args:
        rows: fp32, ``[n, width]``, all finite, in order of position; none at all gives zeros.
        seed: 32 bytes.

    Raises:
        InvalidError: rows of another type or shape, not finite, or more than `most_rows` of them; or another length of
            the seed.
    """
    if rows.ndim != 2 or rows.dtype != np.float32 or rows.shape[1] == 0:
        raise InvalidError(f"rows of {rows.dtype} {list(rows.shape)}, not fp32 [n, width]")
    if len(seed) != SEED_BYTES:
        raise InvalidError(f"a seed of {len(seed)} bytes, not {SEED_BYTES}")
    count, width = rows.shape
    if count == 0:
        return bytes(SKETCH_BYTES)
    if count > most_rows(width):
        raise InvalidError(
            f"{count} rows of {width} numbers are too many for one fingerprint",
            hint=f"use windows of at most {most_rows(width)} positions",
        )
    numbers = _sums(rows, seed).astype(np.float64) / (_UNITS * math.sqrt(count * width))
    return bytes(numbers.astype("<f4").tobytes())


def _sums(rows: _Rows, seed: bytes) -> _Integers:
    """The 64 sums of clause F1, step 3."""
    count, width = rows.shape
    padded = -(-width // _DIMENSIONS) * _DIMENSIONS
    of_dimensions = np.zeros((padded, NUMBERS))
    of_dimensions[:width] = _signs(seed, 0, width, NUMBERS)
    of_dimensions = of_dimensions.reshape(-1, _DIMENSIONS, NUMBERS)
    of_rows = _signs(seed, 1, count, NUMBERS).astype(np.int64)
    of_entries = _signs(seed, 2, count, width)
    sums = np.zeros(NUMBERS, dtype=np.int64)
    step = max(1, _CACHED // width)
    for start in range(0, count, _ROWS):
        some = slice(start, min(start + _ROWS, count))
        entries = np.zeros((some.stop - start, padded))
        entries[:, :width] = of_entries[some]
        for at in range(start, some.stop, step):
            entries[at - start : at - start + step, :width] *= _scaled(rows[at : min(at + step, some.stop)])
        parts = entries.reshape(some.stop - start, -1, _DIMENSIONS).transpose(1, 0, 2) @ of_dimensions
        sums += (parts.astype(np.int64).sum(axis=0) * of_rows[some]).sum(axis=0)
    return sums


def _scaled(rows: _Rows) -> _Floats:
    """Each row divided by the root of its root mean square, in units of 2**-22: integers, as doubles."""
    exact = rows.astype(np.float64)
    # Added up from the left, one rounding a step: `np.sum` adds in an order of its own.
    squares = np.add.accumulate(exact * exact, axis=1)[:, -1:]
    if not np.isfinite(squares).all():
        raise InvalidError("rows with a number that is not finite")
    rms = np.sqrt(squares / rows.shape[1])
    exact /= np.sqrt(np.where(rms > 0, rms, 1.0))
    np.clip(exact, -_LARGEST, _LARGEST, out=exact)
    exact *= _UNITS
    return np.rint(exact, out=exact)


def _signs(seed: bytes, stream: int, count: int, width: int) -> _Signs:
    """``[count, width]`` of +1 and -1: minus where the bit is set, in whole words a row, lowest bit first.

    The words are those of Philox 4x64-10 from the block with counter (1, stream, 0, 0); numpy counts up before each.
    """
    key = np.array([int.from_bytes(seed[at : at + 8], "little") for at in (0, 8)], dtype=np.uint64)
    philox = np.random.Philox(key=key, counter=np.array([0, stream, 0, 0], dtype=np.uint64))
    words = philox.random_raw(count * -(-width // 64)).astype("<u8", copy=False)
    bits = np.unpackbits(words.view(np.uint8).reshape(count, -1), axis=1, count=width, bitorder="little")
    return 1 - 2 * bits.view(np.int8)


def parse(sketch: bytes) -> tuple[int, ...]:
    """The 64 numbers in units of 2**-149, exactly. Raises MalformedError for another length or a number not finite."""
    if len(sketch) != SKETCH_BYTES:
        raise MalformedError(f"a fingerprint of {len(sketch)} bytes, not {SKETCH_BYTES}")
    values = struct.unpack(f"<{NUMBERS}f", sketch)
    if not all(map(math.isfinite, values)):
        raise MalformedError("a fingerprint with a number that is not finite")
    return tuple(int(math.ldexp(value, _SMALLEST)) for value in values)


def distance_ppm(a: bytes, b: bytes) -> int:
    """Euclidean distance relative to the longer of the two, in millionths, rounded down; 0 to 2,000,000.

    Raises:
        MalformedError: one of them is no fingerprint.
    """
    left, right = parse(a), parse(b)
    length = max(sum(x * x for x in left), sum(x * x for x in right))
    if length == 0:
        return 0
    apart = sum((x - y) ** 2 for x, y in zip(left, right, strict=True))
    return math.isqrt(_MILLION * _MILLION * apart // length)
