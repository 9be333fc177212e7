"""TOML from files that somebody else may have written: bounded before Python's reader sees it.

That reader recurses as deep as lists and tables are nested, takes quadratic time for keys of many parts, and turns down
long numbers with an error of another kind. Which keys there are is for the caller.
"""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from typing import Any

from protocol.errors import InvalidError

__all__ = ["MAX_TOML_BYTES", "parse_toml"]

MAX_TOML_BYTES = 64 * 1024
"""Ten times the longest file that we write ourselves."""
MAX_DEPTH = 8
"""Brackets that are open at once."""
MAX_PARTS = 8
"""Parts of a dotted key."""

_MARK = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:""")?' + r"|'''(?:[^']|'(?!''))*+(?:''')?"
    r'|"(?:[^"\\\n]|\\.)*+"?' + r"|'[^'\n]*+'?|\#[^\n]*+|[\[\]{}.,=\n]",
    re.DOTALL,
)
"""A whole string or comment, or one mark. What never ends is matched too: the search goes over each character once."""


def parse_toml(text: str) -> dict[str, Any]:
    """What TOML says, fractions as `Decimal`. Raises InvalidError, whose text says what is wrong."""
    if len(text) > MAX_TOML_BYTES:
        raise InvalidError(f"it has more than {MAX_TOML_BYTES} characters")
    _require_plain(text)
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:  # also for a number of thousands of digits
        raise InvalidError(str(error)) from None
    except ArithmeticError:
        raise InvalidError("it has a number with an exponent beyond any") from None


def _require_plain(text: str) -> None:
    depth = dots = 0
    for mark in _MARK.finditer(text):
        match mark.group():
            case "[" | "{":
                depth, dots = depth + 1, 0
            case "]" | "}":
                depth, dots = depth - 1, 0
            case ".":
                dots += 1
            case "," | "=" | "\n":
                dots = 0
        if depth > MAX_DEPTH:
            raise InvalidError(f"it is nested more than {MAX_DEPTH} deep")
        if dots >= MAX_PARTS:
            raise InvalidError(f"it has a key of more than {MAX_PARTS} parts")
