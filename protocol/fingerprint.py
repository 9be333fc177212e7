"""When two fingerprints of the same window's activations count as equal.

A fingerprint is 64 IEEE 754 half-precision numbers, little-endian: a signed count-sketch of the rows that left a leg
in one window (docs/spec/audit.md, clause F1; `node.engine.fingerprint` makes it). Sums of activations computed in
another batch or in one prefill differ in their last bits, so equality is a distance below a tolerance. The rule is
exact: a half is an integer multiple of 2**-24, and the distance is computed in integers (clause F2).

It does not say who lied, and draws no windows.
"""

from __future__ import annotations

import math
import struct

from protocol.errors import MalformedError

__all__ = ["BUCKETS", "FP32_TOLERANCE_PPM", "SKETCH_BYTES", "distance_ppm", "matches", "parse"]

BUCKETS = 64
"""Numbers in a fingerprint."""

SKETCH_BYTES = 2 * BUCKETS
"""Its length on the wire."""

FP32_TOLERANCE_PPM = 1000
"""Relative distance up to which fp32 fingerprints match.

Honest ones are at most one step of each half apart, 2**-10 of it or 977 ppm; the subtlest cheat that saves anything,
int8 weights, was measured at 1,509 and above (clause F2).
"""

_HALF_UNITS = 1 << 24  # the smallest subnormal half is 2**-24
_MILLION = 1_000_000


def parse(sketch: bytes) -> tuple[int, ...]:
    """The 64 numbers in units of 2**-24, exactly. Raises MalformedError for another length or a number not finite."""
    if len(sketch) != SKETCH_BYTES:
        raise MalformedError(f"a fingerprint of {len(sketch)} bytes, not {SKETCH_BYTES}")
    values = struct.unpack(f"<{BUCKETS}e", sketch)
    if not all(map(math.isfinite, values)):
        raise MalformedError("a fingerprint with a number that is not finite")
    return tuple(int(value * _HALF_UNITS) for value in values)


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


def matches(a: bytes, b: bytes, tolerance_ppm: int = FP32_TOLERANCE_PPM) -> bool:
    """Whether the two may come from the same computation. Raises MalformedError."""
    return distance_ppm(a, b) <= tolerance_ppm
