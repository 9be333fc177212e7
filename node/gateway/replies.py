"""Answers as OpenAI's API spells them: whole, or in chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from node.gateway.answering import OfferedModel
from node.gateway.saying import Piece, Said, chat_logprobs, completion_logprobs
from node.gateway.tools import ToolCall

__all__ = ["DONE", "Choice", "Reply", "Usage", "event", "model_list"]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, over all its choices."""

    tokens_in: int
    """Prompt tokens, which are counted once."""
    tokens_held: int
    tokens_out: int

    def to_json(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.tokens_in,
            "completion_tokens": self.tokens_out,
            "total_tokens": self.tokens_in + self.tokens_out,
            "prompt_tokens_details": {"cached_tokens": self.tokens_held},
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole answer."""

    index: int
    text: str
    finished: str
    calls: tuple[ToolCall, ...] = ()
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """How one request is answered.

    Args:
        identity: of the request: hex digits.
        created: Unix seconds.
        says: whether log probabilities were asked for.
    """

    identity: str
    model: str
    created: int
    is_chat: bool
    include_usage: bool = False
    says: bool = False

    def whole(self, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """The body where nothing is streamed."""
        shown = [
            {**self._whole(choice), "index": choice.index, "logprobs": self._logprobs(choice.said)}
            for choice in choices
        ]
        return {**self._head("chat.completion"), "choices": shown, "usage": usage.to_json()}

    def _whole(self, choice: Choice) -> dict[str, Any]:
        if not self.is_chat:
            return {"text": choice.text, "finish_reason": choice.finished}
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if choice.calls:
            message["tool_calls"] = [call.to_json() for call in choice.calls]
            message["content"] = choice.text or None
        return {"message": message, "finish_reason": choice.finished}

    def _logprobs(self, said: Sequence[Said]) -> dict[str, Any] | None:
        if not self.says:
            return None
        return chat_logprobs(said) if self.is_chat else completion_logprobs(said)

    def first(self, index: int) -> bytes:
        """A chunk that says who speaks; empty for a completion."""
        return self._chunk(index, {"role": "assistant", "content": ""}, None) if self.is_chat else b""

    def piece(self, index: int, piece: Piece) -> bytes:
        """A chunk of an answer."""
        if self.is_chat:
            return self._chunk(index, {"content": piece.text}, None, piece.said)
        return self._text(index, piece.text, None, piece.said)

    def calls(self, index: int, calls: Sequence[ToolCall]) -> bytes:
        """A chunk with all calls of tools; empty where there are none."""
        shown = [{"index": number, **call.to_json()} for number, call in enumerate(calls)]
        return self._chunk(index, {"tool_calls": shown}, None) if calls else b""

    def last(self, index: int, finished: str) -> bytes:
        """The chunk that says why an answer ended."""
        return self._chunk(index, {}, finished) if self.is_chat else self._text(index, "", finished)

    def usage(self, usage: Usage) -> bytes:
        """The chunk that a stream ends in where the caller wants to know; empty where not."""
        body = {**self._head("chat.completion.chunk"), "choices": [], "usage": usage.to_json()}
        return event(body) if self.include_usage else b""

    def _chunk(self, index: int, delta: dict[str, Any], finished: str | None, said: Sequence[Said] = ()) -> bytes:
        logprobs = self._logprobs(said) if said else None
        return self._event({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finished})

    def _text(self, index: int, text: str, finished: str | None, said: Sequence[Said] = ()) -> bytes:
        logprobs = self._logprobs(said) if said else None
        return self._event({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finished})

    def _event(self, choice: dict[str, Any]) -> bytes:
        usage = {"usage": None} if self.include_usage else {}
        return event({**self._head("chat.completion.chunk"), "choices": [choice], **usage})

    def _head(self, kind: str) -> dict[str, Any]:
        prefix, kind = ("chatcmpl", kind) if self.is_chat else ("cmpl", "text_completion")
        return {"id": f"{prefix}-{self.identity}", "object": kind, "created": self.created, "model": self.model}


def event(body: dict[str, Any]) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def model_list(models: Sequence[OfferedModel]) -> dict[str, Any]:
    """The body of `/v1/models`: a name where one model has it, a root where several do."""
    names = [each.name for each in models]
    return {
        "object": "list",
        "data": [_model(each, each.name if names.count(each.name) == 1 else each.root) for each in models],
    }


def _model(model: OfferedModel, identity: str) -> dict[str, Any]:
    return {
        "id": identity,
        "object": "model",
        "created": model.heard_at,
        "owned_by": "joulemesh",
        "joule": {
            "name": model.name,
            "root": model.root,
            "license": model.license or None,
            "precision": model.precision,
            **_where(model),
            "elsewhere": list(map(_where, model.elsewhere)),
        },
    }


def _where(model: OfferedModel) -> dict[str, Any]:
    """What a model is at one market."""
    joules = model.millijoules_per_token
    return {
        "market": model.market,
        "places": list(model.places),
        "price_in": _dollars(model.price_in_micro),
        "price_out": _dollars(model.price_out_micro),
        "joules_per_token": None if joules is None else joules / 1000,
    }


def _dollars(micro: int) -> str:
    """Per million tokens, exactly."""
    return f"{micro // 1_000_000}.{micro % 1_000_000:06d}"
