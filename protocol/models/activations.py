"""How activations travel and are judged: the one table that knows what ``fp32`` or ``bf16`` means.

A job's terms name one type; frames, commitments and tolerances all follow from it. Rows are fp32 arrays on both sides
of the wire; a narrower type rounds on the way out and widens on the way in, so both neighbours hold the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from protocol.errors import MalformedError

__all__ = ["FORMATS", "ActivationFormat", "ActivationType", "Rows", "Tolerance", "from_wire", "to_wire"]

Rows = np.ndarray[Any, np.dtype[np.float32]]
"""``[positions, hidden_size]``."""


class ActivationType(StrEnum):
    """The number format of rows between legs."""

    FP32 = "fp32"
    """IEEE 754 single precision."""
    BF16 = "bf16"
    """The upper half of an fp32 number, rounded to nearest even: what a bf16 model's rows are to begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far honest computations of the same tokens may be apart: measured, with a margin (docs/spec/audit.md)."""

    distance_ppm: int
    """Of two sketches, in millionths, where nothing entered the leg but what is known exactly."""
    gain: int
    """By how much honest blocks may enlarge, in sketch distance, what entered them changed."""
    margin: int
    """By how much the logit of a token drawn may lie below the best one, in millionths."""
    margin_gain: int
    """What each millionth of sketch distance in the input may add to that."""


@dataclass(frozen=True, slots=True)
class ActivationFormat:
    """What follows from a type."""

    item_bytes: int
    """Bytes of one number on the wire, little-endian."""
    tolerance: Tolerance | None
    """What an audit allows; None where it has not been measured: no audit."""
    encode: Callable[[Rows], bytes]
    decode: Callable[[bytes], Rows]


def _encode_fp32(rows: Rows) -> bytes:
    return np.ascontiguousarray(rows, dtype="<f4").tobytes()


def _decode_fp32(data: bytes) -> Rows:
    return np.frombuffer(data, dtype="<f4")


def _encode_bf16(rows: Rows) -> bytes:
    bits = np.ascontiguousarray(rows, dtype="<f4").view("<u4")
    # To nearest, ties to even; a NaN stays one whatever its payload is (the engine refuses it anyway).
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(rows), 0x7FC0, rounded).astype("<u2").tobytes()


def _decode_bf16(data: bytes) -> Rows:
    return (np.frombuffer(data, dtype="<u2").astype("<u4") << 16).view("<f4")


_FP32 = Tolerance(distance_ppm=20, gain=100, margin=1000, margin_gain=2000)

FORMATS: dict[ActivationType, ActivationFormat] = {
    ActivationType.FP32: ActivationFormat(4, _FP32, _encode_fp32, _decode_fp32),
    ActivationType.BF16: ActivationFormat(2, None, _encode_bf16, _decode_bf16),
}


def to_wire(kind: ActivationType, rows: Rows) -> bytes:
    """Rows as they are sent and committed to."""
    return FORMATS[kind].encode(rows)


def from_wire(kind: ActivationType, data: bytes, width: int) -> Rows:
    """``[positions, width]`` rows. Raises MalformedError where the bytes are no whole number of rows."""
    row_bytes = FORMATS[kind].item_bytes * width
    if len(data) % row_bytes:
        raise MalformedError(f"{len(data)} bytes are no whole number of {kind} rows of {width}")
    return FORMATS[kind].decode(data).reshape(-1, width)
