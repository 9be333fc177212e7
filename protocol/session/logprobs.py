"""Log probabilities that the last leg says beside each token that it draws, and signs for with it.

Of the model's own logits, before anything is done to them: how they are computed is in docs/spec/audit.md, clause F12;
where they travel, in docs/spec/session.md, clause N9.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from protocol.errors import DishonestError

__all__ = [
    "MAX_TOP",
    "MOST_BYTES",
    "MOST_MILLIONTHS",
    "LogProb",
    "check_said",
    "pack_said",
    "said_bytes",
    "unpack_said",
]

MAX_TOP = 20
"""Tokens that are named besides the one that was drawn, at most."""
MOST_MILLIONTHS = 2**32 - 1
"""What is less likely than e to the minus 4,294 says this."""
_ENTRY = struct.Struct("<II")
MOST_BYTES = _ENTRY.size * (1 + MAX_TOP)
"""Of what is said of one token."""


class LogProb(NamedTuple):
    """How likely one token was."""

    token: int
    """Its id."""
    millionths: int
    """Of the negative natural logarithm of its probability."""

    @property
    def logarithm(self) -> float:
        """Of its probability."""
        return -self.millionths / 1_000_000


def said_bytes(top: int | None) -> int:
    """Bytes for each generated token, where terms ask for so many of the likeliest; 0 for None."""
    return 0 if top is None else _ENTRY.size * (1 + top)


def pack_said(said: Iterable[LogProb]) -> bytes:
    """What is said of one token as it is sent and hashed: little-endian, 32 bits each."""
    return b"".join(_ENTRY.pack(*each) for each in said)


def unpack_said(data: bytes) -> tuple[LogProb, ...]:
    """The drawn token first, then the likeliest. `data` is a whole number of entries."""
    return tuple(LogProb(*each) for each in _ENTRY.iter_unpack(data))


def check_said(data: bytes, *, token: int, top: int | None) -> None:
    """Hold what is said of one token against clause N9.

    Args:
        token: the one that was drawn.

    Raises DishonestError.
    """
    if len(data) != said_bytes(top):
        raise DishonestError(f"{len(data)} bytes of log probabilities of a token, not {said_bytes(top)}")
    if not data:
        return
    drawn, *likeliest = unpack_said(data)
    if drawn.token != token:
        raise DishonestError("log probabilities of another token than the one that was drawn")
    if len({each.token for each in likeliest}) != len(likeliest):
        raise DishonestError("a token is named twice among the likeliest")
    if any(after.millionths < before.millionths for before, after in pairwise(likeliest)):
        raise DishonestError("the likeliest tokens do not stand in their order")
    named = next((each for each in likeliest if each.token == token), None)
    if named is not None and named != drawn:
        raise DishonestError("two log probabilities of one token")
    if named is None and likeliest and drawn.millionths < likeliest[-1].millionths:
        raise DishonestError("the token that was drawn is likelier than those that are named, and not among them")
