"""What strangers say to a libp2p port, and what it costs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["HALF_NOISE", "descriptors"]

HALF_NOISE = b"\x13/multistream/1.0.0\n\x07/noise\n\x00\x20" + bytes(range(32))
"""The first message of a Noise handshake; the second, which costs the other side its signature, is not answered."""


def descriptors() -> int:
    """Open in this process."""
    return len(list(Path("/proc/self/fd").iterdir()))
