"""Random draws that depend on the seed and on what they are for, never on the order in which they are made.

So two runs that differ in one setting see the same weather, the same arrivals and the same sites, adding a demand class
leaves the draws of the others alone, and one more site keeps the lots of those before it.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

__all__ = ["Floats", "Lots", "draws_for"]

Floats = np.ndarray[Any, np.dtype[np.float64]]


def draws_for(seed: int, *purpose: str) -> np.random.Generator:
    """A Philox generator of its own for this seed and purpose."""
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose)))


class Lots:
    """One lot in [0, 1) for each member of some groups, drawn anew for each day; each group has its own stream."""

    def __init__(self, seed: int, purpose: str, groups: list[tuple[str, int]]) -> None:
        self._streams = [(_key(seed, (purpose, name)), count) for name, count in groups]

    def of(self, day: int) -> Floats:
        """Of all members, group after group; `day` is at least -2**31."""
        return self.many(day, 1)[:, 0]

    def many(self, day: int, each: int) -> Floats:
        """(members, each)"""
        drawn = [
            np.random.Generator(np.random.Philox(key=key, counter=(day + 2**31) << 192)).random((count, each))
            for key, count in self._streams
        ]
        return np.concatenate(drawn)


def _key(seed: int, purpose: tuple[str, ...]) -> int:
    words = "\0".join((str(seed), *purpose)).encode()
    return int.from_bytes(hashlib.sha256(words).digest()[:16], "big")
