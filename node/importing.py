"""Imports of what is large, without the garbage collector.

What a model's libraries consist of, half a million objects, lives as long as the process. The collector goes through it
again and again while it is imported, and later now and then, when everything else waits for a third of a second.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["importing"]


@contextmanager
def importing() -> Iterator[None]:
    """While the block runs nothing is collected, and what there is at its end never will be."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
