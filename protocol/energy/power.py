"""What hardware can draw at most, and so how many joules anybody can have spent (docs/spec/market.md, clause M14).

Generous on purpose: it is to catch what cannot be, not what is wasteful. A figure within the bound is not thereby true.
"""

from __future__ import annotations

__all__ = ["JOB_SLACK_US", "most_millijoules", "most_per_token"]

MACHINE_W = 500
"""Watts of a machine besides its devices: what a meter at the socket sees of a processor of one core, too."""
DEVICE_W = {"cpu": 50, "cuda": 2000, "rocm": 2000, "apple": 500, "other": 2000}
"""Watts of one device by its kind, for a processor of one core; some twice what the hungriest draw."""
MOST_DEVICES = 1024
"""A machine that says that it has more counts as one with so many."""
TOKEN_TIMES = 10
"""A token may take so many times as long as it does in a session alone."""
TOKEN_SLACK_US = 10_000
"""Granted on top of a token's time: what is measured of short work is coarse."""
JOB_SLACK_US = 10_000_000
"""Granted on top of a job's time: clocks differ, and meters tell late."""


def most_millijoules(device: str, count: int, us: int) -> int:
    """The most that a machine of so many devices (`offer.HardwareKind`) can draw in so many microseconds."""
    watts = MACHINE_W + DEVICE_W[device] * min(count, MOST_DEVICES)
    return watts * us // 1000


def most_per_token(device: str, count: int, us: int) -> int:
    """The most for one token that takes so many microseconds in a session alone; it takes no more among others."""
    return most_millijoules(device, count, TOKEN_TIMES * us + TOKEN_SLACK_US)
