"""What a client asks a model: one question, the turns of a conversation, or text to go on from. Values only.

All that can be known to be wrong without a model is refused here, before anybody is asked for anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from protocol.encoding.strict_json import require_shallow
from protocol.errors import ConfigurationError, MalformedError

__all__ = ["MAX_PROMPT_BYTES", "ROLES", "TOOL", "ChatMessage", "Prompt", "load_messages"]

ROLES = ("system", "user", "assistant")
TOOL = "tool"
"""The role of what a tool said, where a model calls tools."""
MAX_PROMPT_BYTES = 4 * 1024 * 1024
"""More than any context holds, over all turns together."""
MAX_MESSAGES = 4096
MAX_DEPTH = 8
"""Brackets that are open at once in a file of messages."""

_EXAMPLE = 'such as [{"role": "user", "content": "What is 17 + 25?"}]'


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str
    """One of `ROLES`, or `TOOL`."""
    content: str
    more: tuple[tuple[str, Any], ...] = ()
    """What templates that know tools are told besides, such as ``tool_calls``."""

    def to_template(self) -> Mapping[str, Any]:
        """As templates take it."""
        return {"role": self.role, "content": self.content, **dict(self.more)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Turns for the model's chat template, or raw text: one of the two.

    Raises:
        ConfigurationError: nothing is asked, or something that no model can answer.
    """

    messages: tuple[ChatMessage, ...] = ()
    """The system's word first, if there is one; the user's last."""
    raw: str | None = None
    """Text that is encoded as it is, whatever template the model has."""

    @classmethod
    def question(cls, text: str, *, system: str | None = None) -> Prompt:
        """One question, and perhaps how to answer. A model without a chat template goes on from its text."""
        before = () if system is None else (ChatMessage("system", system),)
        return cls(messages=(*before, ChatMessage("user", text)))

    def __post_init__(self) -> None:
        texts = [each.content for each in self.messages] if self.raw is None else [self.raw]
        if bool(self.messages) == (self.raw is not None):
            raise _wrong("nothing is asked" if self.raw is None else "both turns and raw text are given")
        if sum(map(_size, texts)) > MAX_PROMPT_BYTES:
            raise _wrong(f"the prompt has more than {MAX_PROMPT_BYTES} bytes", hint="shorten it")
        for number, message in enumerate(self.messages, 1):
            _check_turn(number, message)
        if not texts[-1].strip() and not (self.messages and self.messages[-1].more):
            raise _wrong("the prompt is empty", hint="write something to ask")
        if self.messages and self.messages[-1].role not in ("user", TOOL):
            raise _wrong(f"the last message is the {self.messages[-1].role}'s", hint="end with what the user asks")

    @property
    def shown(self) -> str:
        """The question, for people."""
        return self.messages[-1].content if self.raw is None else self.raw

    @property
    def plain(self) -> str | None:
        """The text to go on from where there is no template; None for turns that only a template can write."""
        if self.raw is not None:
            return self.raw
        return self.messages[0].content if len(self.messages) == 1 else None


def load_messages(data: bytes) -> tuple[ChatMessage, ...]:
    """The turns in a JSON file's bytes: a list of ``{"role": ..., "content": ...}``. Raises ConfigurationError."""
    if len(data) > MAX_PROMPT_BYTES:
        raise _wrong(f"the messages have more than {MAX_PROMPT_BYTES} bytes", hint="shorten them")
    try:
        require_shallow(data, MAX_DEPTH)
        value = json.loads(data.decode())
    except (ValueError, MalformedError) as error:
        raise _wrong(f"the messages are not JSON: {error}", hint=f"give a list of messages, {_EXAMPLE}") from None
    if not isinstance(value, list) or not value:
        raise _wrong("the messages are not a list of messages", hint=f"give a list, {_EXAMPLE}")
    if len(value) > MAX_MESSAGES:
        raise _wrong(f"{len(value)} messages; the most are {MAX_MESSAGES}", hint="shorten the conversation")
    return tuple(_message(number, each) for number, each in enumerate(value, 1))


def _message(number: int, value: object) -> ChatMessage:
    if not isinstance(value, dict) or set(value) != {"role", "content"}:
        raise _wrong(f"message {number} is not a role and a content", hint=f"give both and no more, {_EXAMPLE}")
    role, content = value["role"], value["content"]
    if not isinstance(role, str) or not isinstance(content, str):
        raise _wrong(f"message {number}: role and content are not both text", hint=_EXAMPLE)
    if role not in ROLES:
        raise _unknown_role(number, role)
    return ChatMessage(role, content)


def _unknown_role(number: int, role: str) -> ConfigurationError:
    return _wrong(f"message {number} has the role {role[:40]!r}", hint=f"roles are {', '.join(ROLES)}")


def _check_turn(number: int, message: ChatMessage) -> None:
    if message.role not in (*ROLES, TOOL):
        raise _unknown_role(number, message.role)
    if message.role == "system" and number > 1:
        raise _wrong(f"message {number} is the system's", hint="only the first message may be the system's")
    if not message.content.strip() and not message.more:
        raise _wrong(f"message {number} ({message.role}) is empty", hint="write something, or leave it out")


def _size(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise _wrong("the prompt is not valid Unicode", hint="give it in UTF-8") from None


def _wrong(message: str, *, hint: str = "write something to ask") -> ConfigurationError:
    return ConfigurationError(message, code="prompt", hint=hint)
