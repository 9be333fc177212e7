"""Tools: what a model may call, as its template tells it; and its calls, read from what it writes.

No standard says how a model writes a call. Three ways cover the templates in use: a tag around each, a list after a
mark, and bare JSON. What cannot be read as calls of tools that were offered is text like any other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import Any

__all__ = ["ToolCall", "ToolCalls", "ToolStyle", "style_of"]

MOST_CALLS = 64


class ToolStyle(StrEnum):
    """How a model writes its calls."""

    TAGGED = "<tool_call>"
    LISTED = "[TOOL_CALLS]"
    BARE = "<|python_tag|>"
    """An object, perhaps after this mark."""


def style_of(template: str) -> ToolStyle | None:
    """That of a chat template; None for one that tells of no tools."""
    if "tools" not in template:
        return None
    return next((style for style in (ToolStyle.TAGGED, ToolStyle.LISTED) if style in template), ToolStyle.BARE)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call."""

    id: str
    name: str
    arguments: str
    """JSON."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in a message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class ToolCalls:
    """An answer's text goes in piece by piece: what is no call comes out, calls are there at the end.

    Args:
        names: of the tools that were offered.
    """

    def __init__(self, style: ToolStyle, names: Collection[str]) -> None:
        self._style = style
        self._names = names
        self._text = ""
        """What may be calls, or their beginning."""
        self._begun = False
        """Whether text was handed out."""
        self._calling = False

    def take(self, piece: str) -> str:
        """What is text for certain."""
        self._text += piece
        if self._calling:
            return ""
        if not self._begun and self._style is not ToolStyle.TAGGED:
            start = self._text.lstrip()
            if not start:
                return ""
            self._calling = start[0] in "{["
        place = self._text.find(self._style)
        if self._calling or place >= 0:
            self._calling, place = True, max(place, 0)
        else:
            place = len(self._text) - self._maybe()
        said, self._text = self._text[:place], self._text[place:]
        self._begun = self._begun or bool(said)
        return said

    def _maybe(self) -> int:
        """Characters at the end that the mark may begin with."""
        return next((n for n in range(len(self._style) - 1, 0, -1) if self._text.endswith(self._style[:n])), 0)

    def end(self) -> tuple[str, tuple[ToolCall, ...]]:
        """Text that was kept back, and the calls: one of both at most."""
        found = tuple(_read(self._text, self._style, self._names)) if self._calling else ()
        return ("", found) if found else (self._text, ())


def _read(text: str, style: ToolStyle, names: Collection[str]) -> Iterator[ToolCall]:
    """However long the text is, no more is looked at than so many values, and marks."""
    parts = text.split(style, MOST_CALLS)
    for value in islice(_values(parts if style is not ToolStyle.TAGGED else parts[1:]), MOST_CALLS):
        match value:
            case {"name": str(name), "arguments": Mapping() | str() as given} if name in names:
                yield _call(name, given)
            case {"name": str(name), "parameters": Mapping() as given} if name in names:
                yield _call(name, given)


def _values(parts: Iterable[str]) -> Iterator[Any]:
    for part in parts:
        rest = part.strip(" \n;")
        while rest[:1] in ("{", "["):
            try:
                value, end = json.JSONDecoder().raw_decode(rest)
            except (ValueError, RecursionError):
                break
            yield from value if isinstance(value, list) else [value]
            rest = rest[end:].strip(" \n;")


def _call(name: str, given: Mapping[str, Any] | str) -> ToolCall:
    arguments = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    arguments = arguments.encode(errors="replace").decode()  # half of a surrogate pair can be spelled, and not sent
    return ToolCall(f"call_{secrets.token_hex(12)}", name, arguments)
