"""A fingerprint of the rows that leave a span in one window: 128 bytes, whatever the width and the number of rows.

A signed count-sketch (docs/spec/audit.md, clause F1), which anyone can compute again from the rows:

1. Row r of the window (0, 1, ...) is divided by the square root of its root mean square. That keeps one row of huge
   norm, as trained models have at their first token, from drowning the others, and still shows a scaled output.
2. Dimension d has the bucket ``h[0] % 64`` and the sign ``+1 if h[1] is even else -1``,
   where ``h = SHA-256(b"joulemesh sketch\\n" || d as 4 bytes little-endian)``.
3. A row's entries, times their signs, are added up by bucket; the 64 sums are rotated upwards by ``r % 64`` places, so
   that rows in another order have another fingerprint.
4. The rotated sums of all rows are added and divided by the square root of the number of rows.
5. The 64 numbers are rounded to half precision, little-endian, and held within its finite range.

`protocol.fingerprint` says when two of them match.
"""

from __future__ import annotations

import functools
import hashlib

import numpy as np

from node.ports import Activations
from protocol.fingerprint import BUCKETS

__all__ = ["Sketcher", "sketch"]

LARGEST_HALF = 65504.0

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class Sketcher:
    """Takes in a window's rows as they pass, in pieces of any size."""

    def __init__(self) -> None:
        self._sums: Floats = np.zeros(BUCKETS)
        self._rows = 0

    def add(self, rows: Activations) -> None:
        """Take in the next rows, ``[n, hidden_size]``."""
        exact = rows.astype(np.float64)
        rms = np.sqrt(np.mean(exact * exact, axis=1, keepdims=True))
        exact /= np.sqrt(np.where(rms > 0, rms, 1.0))
        sums = exact @ _signs_by_bucket(rows.shape[1])
        for row in sums:
            self._sums += np.roll(row, self._rows % BUCKETS)
            self._rows += 1

    def digest(self) -> bytes:
        """The fingerprint of the rows so far; of no rows, zeros."""
        mean = self._sums / np.sqrt(max(1, self._rows))
        return bytes(np.clip(mean, -LARGEST_HALF, LARGEST_HALF).astype("<f2").tobytes())


def sketch(rows: Activations) -> bytes:
    """The fingerprint of a whole window."""
    sketcher = Sketcher()
    sketcher.add(rows)
    return sketcher.digest()


@functools.cache
def _signs_by_bucket(hidden_size: int) -> Floats:
    """``[hidden_size, 64]``: each dimension's sign, in the column of its bucket."""
    table = np.zeros((hidden_size, BUCKETS))
    for dimension in range(hidden_size):
        digest = hashlib.sha256(b"joulemesh sketch\n" + dimension.to_bytes(4, "little")).digest()
        table[dimension, digest[0] % BUCKETS] = 1.0 if digest[1] % 2 == 0 else -1.0
    return table
