"""How many descriptors this process may hold: raised at its start, and shared out from there."""

from __future__ import annotations

import resource

__all__ = ["MOST_DESCRIPTORS", "raise_file_limit"]

MOST_DESCRIPTORS = 65_536
"""More are of no use to one process here, and an unlimited number would be shared out as if it cost nothing."""


def raise_file_limit() -> int:
    """Raise the soft limit on descriptors as far as the hard one allows; how many there may be now.

    Whoever listens derives from it how many connections it takes, so that files and databases still open when every
    place is taken. Again does nothing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):  # a system may allow less than the hard limit says
            return soft
    return most
