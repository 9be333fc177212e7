"""The quantizer: which whole numbers and scales stand for a weight (docs/spec/quantization.md).

Every step is one IEEE 754 operation in single precision, or one rounding to bf16, to nearest, ties to even: whoever
quantizes the same weights gets the same files, and whoever computes with them the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from protocol.errors import InvalidError

__all__ = ["GROUP", "Packed", "Scales", "Weight", "from_int4", "from_int8", "to_int4", "to_int8"]

GROUP = 32
"""Neighbouring inputs of one output that share a scale in int4."""

Weight = np.ndarray[Any, np.dtype[np.float32]]
"""``[outputs, inputs]``."""
Packed = np.ndarray[Any, np.dtype[Any]]
"""Whole numbers, as they are stored."""
Scales = np.ndarray[Any, np.dtype[np.float32]]


def to_int8(weight: Weight) -> tuple[Packed, Scales]:
    """int8 ``[outputs, inputs]`` from -127 to 127, and a scale for each output (clause Q1)."""
    _require_finite(weight)
    scales = np.abs(weight).max(axis=1) / np.float32(127)
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    return np.clip(np.rint(weight / scales[:, None]), -127, 127).astype(np.int8), scales


def from_int8(numbers: Packed, scales: Scales) -> Weight:
    """The weight that is computed with (clause Q2)."""
    return numbers.astype(np.float32) * scales[:, None]


def to_int4(weight: Weight) -> tuple[Packed, Scales]:
    """Pairs of numbers from -8 to 7 ``[outputs, inputs / 2]`` as bytes, and scales ``[outputs, groups]`` (Q3).

    The scales are bf16's, so what a number stands for has eleven significant bits at most.
    """
    _require_finite(weight)
    outputs, inputs = weight.shape
    if inputs % GROUP:
        raise InvalidError(f"{inputs} inputs are no whole number of groups of {GROUP}")
    groups = weight.reshape(outputs, inputs // GROUP, GROUP)
    largest = np.abs(groups).argmax(axis=2)  # the first of equals
    extreme = np.take_along_axis(groups, largest[:, :, None], axis=2)[:, :, 0]
    scales = _short((extreme / np.float32(-8)).astype(np.float32))
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    numbers = np.clip(np.rint(groups / scales[:, :, None]), -8, 7).astype(np.int8).reshape(outputs, inputs)
    raised = (numbers + 8).astype(np.uint8)
    return raised[:, 0::2] | (raised[:, 1::2] << 4), scales


def from_int4(packed: Packed, scales: Scales) -> Weight:
    """The weight that is computed with (clause Q4)."""
    outputs, half = packed.shape
    numbers = np.empty((outputs, 2 * half), np.float32)
    numbers[:, 0::2] = (packed & 15).astype(np.float32) - np.float32(8)
    numbers[:, 1::2] = (packed >> 4).astype(np.float32) - np.float32(8)
    return (numbers.reshape(outputs, -1, GROUP) * scales[:, :, None]).reshape(outputs, 2 * half)


def _short(scales: Scales) -> Scales:
    """The nearest numbers with eight significant bits, ties to even: those of bf16."""
    bits = np.ascontiguousarray(scales).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(
        np.float32
    )


def _require_finite(weight: Weight) -> None:
    if not np.isfinite(weight).all():
        raise InvalidError("the weights hold a number that is not finite")
