"""Which window of which leg is re-executed, and what the comparison means.

Commit before the draw: the receipts stand in a voucher that was settled in a checkpoint; the draw follows from that
checkpoint's root, which no provider knew when it signed.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from protocol.codec import Message, message
from protocol.errors import MalformedError
from protocol.ids import U8, U32

__all__ = ["Draw", "Verdict", "draw"]


@message()
class Draw(Message):
    """What an auditor looks at."""

    window: U32
    """Index of the window, from 0."""
    leg: U8
    """Index of the leg, from 0."""


class Verdict(StrEnum):
    """What a re-execution found."""

    MATCH = "match"
    """The signed sketch is the model's, within the tolerance for its precision."""
    MISMATCH = "mismatch"
    """It is not: the leg ran something else, or on other input."""


def draw(seed: bytes, session: bytes, windows: int, legs: int) -> Draw:
    """The window and the leg that `seed` picks, each equally likely to within 2**-100.

    Raises:
        MalformedError: there is nothing to draw from.
    """
    if windows < 1 or legs < 1:
        raise MalformedError("a job without receipts cannot be audited")
    number = int.from_bytes(hashlib.sha256(b"joulemesh draw\n" + seed + session).digest(), "big")
    return Draw(window=number % windows, leg=number // windows % legs)
