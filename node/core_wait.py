"""How long a thread has waited for a core while it had something to compute."""

from __future__ import annotations

from pathlib import Path

__all__ = ["core_wait_ns"]

_FIGURES = Path("/proc/thread-self/schedstat")


def core_wait_ns() -> int:
    """Of the calling thread, in nanoseconds since it began; 0 where the system does not tell."""
    try:
        return int(_FIGURES.read_bytes().split()[1])
    except OSError:
        return 0
