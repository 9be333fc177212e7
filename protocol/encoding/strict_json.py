"""JSON read strictly: one spelling that two readers cannot understand differently (docs/spec/wire.md, clause W13).

Python's reader takes the last of two equal keys, makes floats of some numbers, guesses UTF-16, takes NaN, and recurses
as deep as the text is nested. One in another language does otherwise, and the two would say yes to different things.
Nothing here knows a layout: which keys there are is for the caller, who asks with `exact_keys` and `int_text`.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from protocol.errors import MalformedError

__all__ = ["MAX_NUMBER", "exact_keys", "int_text", "parse_object", "require_shallow"]

MAX_NUMBER = 2**53 - 1
"""Largest JSON number: any reader holds it exactly. What may be larger is written as text, see `int_text`."""

_NUMBER = re.compile("0|[1-9][0-9]{0,15}")
_INT_TEXT = re.compile("0|[1-9][0-9]{0,18}")
_INT_TEXT_LIMIT = 1 << 63
_MARK = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
"""A whole string, or one bracket. A string that never ends is matched too: the search goes over each byte once."""


def parse_object(data: bytes, *, limit: int, depth: int) -> dict[str, Any]:
    """The JSON object that `data` spells, its values text, whole numbers, true, false, null, lists and objects.

    Args:
        limit: most bytes.
        depth: most brackets that are open at once; 1 for an object of plain values.

    Raises MalformedError for anything longer or deeper, and for what is not UTF-8, a key twice in one object, half of a
    surrogate pair, a number with a sign, fraction or exponent or above `MAX_NUMBER`, NaN and infinity.
    """
    if len(data) > limit:
        raise MalformedError(f"JSON of {len(data)} bytes where {limit} are allowed")
    require_shallow(data, depth)
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_int=_number,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        if b"\\u" in data:  # the only way to spell half of a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise MalformedError("this is not JSON, or not whole") from None
    if type(value) is not dict:
        raise MalformedError("not a JSON object")
    return value


def require_shallow(data: bytes, most: int) -> None:
    """Python's reader recurses, and runs out of stack: the depth is counted before it begins. Raises MalformedError."""
    depth = 0
    for mark in _MARK.finditer(data):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(mark.group(), 0)
        if depth > most:
            raise MalformedError(f"JSON that is nested more than {most} deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise MalformedError("a JSON object with one key twice")
    return made


def _number(spelled: str) -> int:
    if not _NUMBER.fullmatch(spelled) or int(spelled) > MAX_NUMBER:
        _refuse_number(spelled)
    return int(spelled)


def _refuse_number(spelled: str) -> NoReturn:
    raise MalformedError(f"{spelled[:40]} is not a whole number from 0 to 2^53-1")


def exact_keys(value: object, *names: str) -> dict[str, Any]:
    """`value`, which must be an object with these keys and no other. Raises MalformedError."""
    if not isinstance(value, dict):
        raise MalformedError(f"expected an object with {', '.join(names)}")
    if value.keys() != set(names):
        missing, unknown = sorted(set(names) - value.keys()), sorted(value.keys() - set(names))
        wrong = f"lacks {', '.join(missing)}" if missing else f"has an unknown {unknown[0][:40]!r}"
        raise MalformedError(f"an object that {wrong}")
    return value


def int_text(value: object) -> int:
    """The whole number below 2**63 that a JSON string writes in decimal digits, in its one spelling.

    Raises MalformedError.
    """
    if not isinstance(value, str) or not _INT_TEXT.fullmatch(value) or int(value) >= _INT_TEXT_LIMIT:
        raise MalformedError(f"{str(value)[:40]!r} is not the text of a whole number from 0 to 2^63-1")
    return int(value)
