"""The running loop's clock: it only rises, and says nothing about the time of day."""

from __future__ import annotations

import asyncio

__all__ = ["loop_s", "loop_us"]


def loop_s() -> float:
    """Seconds."""
    return asyncio.get_running_loop().time()


def loop_us() -> int:
    """Microseconds."""
    return int(loop_s() * 1_000_000)
