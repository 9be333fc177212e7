"""What a process holds and does not need: free memory that the C library keeps, and code that ran at the start."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["give_back", "share_arenas"]

_ARENA_MAX = -8
"""`M_ARENA_MAX` of glibc."""
_DONTNEED = 4
"""`MADV_DONTNEED` of Linux."""
_MAPPING = re.compile(r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) (?P<access>\S{4}) \S+ \S+ \d+\s*(?P<file>/.*)?")
ARENAS = 2
"""For the event loop, and for whoever computes: of a node's dozen threads only these allocate much."""


def share_arenas() -> None:
    """From now on threads share few arenas, so that what one has freed another one uses. Before threads begin."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Give the system back what is free, and code that may not run again, after much was loaded. Some milliseconds.

    A library of operators reads most of its code once, to say what there is: 70 MB that nothing calls afterwards. What
    is called again comes back from the file, or from what other processes hold of it.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.malloc_trim(0)
        for start, end in _unchanged_code():
            library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def _unchanged_code() -> Iterator[tuple[int, int]]:
    """Where this process has files' code as the files have it: nothing is lost where that is taken away."""
    code: tuple[int, int] | None = None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if (mapping := _MAPPING.match(line)) is not None:
            is_code = mapping["access"] == "r-xp" and mapping["file"]
            code = (int(mapping["start"], 16), int(mapping["end"], 16)) if is_code else None
        elif code is not None and line.startswith("Anonymous:"):
            if int(line.split()[1]) == 0:
                yield code
            code = None
