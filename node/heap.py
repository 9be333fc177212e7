"""What the C library's allocator keeps to itself: less of it where a process has many threads that allocate little."""

from __future__ import annotations

import contextlib
import ctypes

__all__ = ["give_back", "share_arenas"]

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc."""
ARENAS = 2
"""For the event loop, and for whoever computes: of a node's dozen threads only these allocate much."""


def share_arenas() -> None:
    """From now on threads share few arenas, so that what one has freed another one uses. Before threads begin."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Give the system back what is free, after much was. Some milliseconds."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
