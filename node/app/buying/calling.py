"""What the answer to a request is held to: JSON by a schema, or calls of tools, as the model writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from node.app.buying.grammars import grammar_text, of_schema, schema_text
from node.gateway import ToolStyle, Wanted
from protocol.errors import ConfigurationError

__all__ = ["grammar_wanted"]

NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
"""The schema of a tool that says nothing of its parameters."""
WRITTEN = {
    ToolStyle.TAGGED: ("arguments", '"<tool_call>\\n" call "\\n</tool_call>"', "{}", "\\n"),
    ToolStyle.LISTED: ("arguments", "call", '"[" {} "]"', ", "),
    ToolStyle.BARE: ("parameters", "call", "{}", "; "),
}
"""By how a model writes its calls: the key of their arguments, how one is set, how all are, and what stands between."""


def grammar_wanted(wanted: Wanted, style: ToolStyle | None) -> bytes:
    """The grammar's text; empty where the answer is held to nothing. Raises ConfigurationError (``grammar``).

    Args:
        style: how the model writes calls of tools; None where none were offered.
    """
    if wanted.schema is not None:
        return of_schema(wanted.schema)
    return b"" if style is None or not wanted.called else _of_calls(wanted.called, style, once=wanted.once)


def _of_calls(tools: Sequence[Mapping[str, Any]], style: ToolStyle, *, once: bool) -> bytes:
    """One call or more. Each schema stands by itself, since what it refers to is within it."""
    key, one, all_of_them, between = WRITTEN[style]
    calls = "one" if once else f'one ("{between}" one)*'
    lines = [f"start: {all_of_them.format(calls)}", f"one: {one}"]
    lines.append("call: " + " | ".join(f"call_{number}" for number in range(len(tools))))
    for number, tool in enumerate(tools):
        name = tool["function"]["name"]
        begin = json.dumps(f'{{"name": "{name}", "{key}": ')
        lines.append(f'call_{number}: {begin} given_{number} "}}"')
        lines.append(f"given_{number}: %json {_arguments(name, tool['function'].get('parameters'))}")
    return grammar_text("\n".join((*lines, "")).encode())


def _arguments(name: str, schema: object) -> str:
    """The schema of a tool's arguments: whatever else it says, they are an object."""
    given = {"type": "object", **schema} if isinstance(schema, dict) else schema
    text = schema_text(NO_ARGUMENTS if given is None else given)
    if isinstance(given, dict) and given["type"] != "object":
        raise ConfigurationError(
            f"the parameters of the tool {name!r} have a type that is not 'object'", code="grammar"
        )
    return text
