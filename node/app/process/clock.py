"""The one clock of a process."""

from __future__ import annotations

import time

__all__ = ["clock"]


def clock() -> int:
    """Unix seconds."""
    return int(time.time())
