"""How much a test tries: a part of it each time, all of it in `make soak`."""

from __future__ import annotations

import os

__all__ = ["SOAK", "at_length"]

SOAK = "SOAK" in os.environ
"""Whether everything is tried at length."""
PART = 3
FEWEST = 8


def at_length(count: int) -> int:
    """So many tries in the soak; a third of them, of more than a few, otherwise."""
    return count if SOAK else max(count // PART, min(count, FEWEST))
