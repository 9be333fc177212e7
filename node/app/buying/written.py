"""What a caller asks, as the text and the token ids that it is to a model."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from node.app.models.dialogue import plain_turns
from node.app.models.obtaining import Text
from node.app.models.prompt import TOOL, ChatMessage, Prompt
from node.gateway import ToolStyle, Turn, Wanted, style_of
from protocol.errors import ConfigurationError

__all__ = ["Written", "write"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A prompt as text."""

    prompt: Prompt
    text: str
    """As the model is given it."""
    special: bool
    """Whether the tokens that the model wants around a prompt are written in it: by a chat template."""
    tool_style: ToolStyle | None
    """How the model writes calls of tools; None where none were offered."""

    def ids(self, text: Text) -> list[int]:
        """Its token ids. Raises ModelError."""
        return text.encode_on(self.text) if self.special else text.encode(self.text)


async def write(wanted: Wanted, text: Text) -> Written:
    """The prompt of a request, through the model's chat template where it has one.

    Raises:
        ConfigurationError: the template refuses the messages, or knows no tools.
        ModelError: it does not work.
    """
    if wanted.raw is not None:
        return Written(prompt=Prompt(raw=wanted.raw), text=wanted.raw, special=False, tool_style=None)
    prompt = Prompt(messages=tuple(map(_message, wanted.messages)))
    template = text.template()
    style = None if template is None else style_of(template.source)
    if wanted.tools and style is None:
        raise ConfigurationError("this model's chat template tells it of no tools", code="tools")
    if template is None:
        written = plain_turns(prompt.messages)
    else:
        written = await asyncio.to_thread(template.render, prompt.messages, wanted.tools)
    tool_style = style if wanted.tools else None
    return Written(prompt=prompt, text=written, special=template is not None, tool_style=tool_style)


def _message(turn: Turn) -> ChatMessage:
    """As a template takes it: arguments as objects, since templates write them as JSON."""
    more: list[tuple[str, Any]] = []
    if turn.calls:
        calls = [each.to_json() for each in turn.calls]
        for each in calls:
            with suppress(ValueError):
                each["function"]["arguments"] = json.loads(each["function"]["arguments"])
        more.append(("tool_calls", calls))
    if turn.role == TOOL:
        more.append(("tool_call_id", turn.answers))
    return ChatMessage(turn.role, turn.content, tuple(more))
