"""Text that came from others, made harmless for a terminal.

A terminal obeys control characters: they move the cursor, hide text, or answer on the user's behalf. Offers, refusals,
answers and error messages carry text that anyone may have written, so nothing of it is printed but through here. Each
character is judged alone, so that text which comes in pieces is as safe as text that comes whole: without its first
character, an escape sequence is plain text.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["json_text", "screen_line", "screen_text"]

_CONTROLS = "\x00-\x1f\x7f-\x9f"
_UNSEEN = "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\U000e0000-\U000e007f"
"""Separators, marks that turn the reading direction, annotations and tags: they show something else than is there."""
_LONE = "\ud800-\udfff"
"""Halves of surrogate pairs, which no encoding can write."""
_ANY = re.compile(f"[{_CONTROLS}{_UNSEEN}{_LONE}]")


def screen_text(text: str) -> str:
    """`text` as it may be shown; line breaks and tabs stay, all else that a terminal would obey is made visible."""
    return _ANY.sub(_visible, text)


def screen_line(text: str) -> str:
    """Like `screen_text`, on one line: line breaks and tabs are made visible too."""
    return screen_text(text).replace("\n", "\u240a").replace("\t", "\u2409")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON in which such characters are escaped, so that it reads back as it was.

    JSON leaves most of them as they are, and programs' output is looked at on terminals too.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    return _ANY.sub(lambda found: found[0] if found[0] == "\n" else _escaped(found[0]), text)


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if found[0] in "\n\t":
        return found[0]
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of the control character
    return "\u2421" if code == 0x7F else f"<U+{code:04X}>"


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
