"""Random draws that depend on the seed and on what they are for, never on the order in which they are made.

So two runs that differ in one setting see the same weather, the same arrivals and the same providers, and adding a
demand class leaves the draws of the others alone.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["draws_for"]


def draws_for(seed: int, *purpose: str) -> np.random.Generator:
    """A Philox generator of its own for this seed and purpose."""
    digest = hashlib.sha256("\0".join(purpose).encode()).digest()
    key = tuple(int.from_bytes(digest[start : start + 4], "big") for start in range(0, 16, 4))
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(seed, spawn_key=key)))
