"""Which text may stand in a message: a fixed set, the same for every version of Unicode and of Python.

The rule is docs/spec/wire.md, clause W2. It asks no table of characters, so that a program of this year and one of the
next judge a signed entry alike: what has no character today is allowed as what has one.
"""

from __future__ import annotations

import re

__all__ = ["REFUSED", "is_plain_text", "to_plain_text"]

REFUSED: tuple[tuple[int, int], ...] = (
    (0x0000, 0x001F),  # control characters
    (0x007F, 0x009F),
    (0x2028, 0x2029),  # line and paragraph separator
    (0x202A, 0x202E),  # embeddings, overrides and isolates: they let text look like another
    (0x2066, 0x2069),
    (0xD800, 0xDFFF),  # surrogates: half a character, which UTF-8 cannot hold
    (0xFDD0, 0xFDEF),  # noncharacters, and the last two of each plane below
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFF9, 0xFFFB),  # interlinear annotation
    *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)),
)
"""First and last of each range of code points that no text may hold."""

_REFUSED = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in REFUSED) + "]")


def is_plain_text(text: str) -> bool:
    """Whether `text` holds no code point that W2 refuses."""
    return _REFUSED.search(text) is None


def to_plain_text(text: str, most_bytes: int) -> str:
    """`text` as a message may hold it: a space for what W2 refuses, cut to at most `most_bytes` in UTF-8."""
    return _REFUSED.sub(" ", text).encode()[:most_bytes].decode(errors="ignore")
