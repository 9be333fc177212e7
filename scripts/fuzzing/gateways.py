"""What a gateway reads: requests of programs, their headers and batches, calls that a model writes, and verdicts."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from node.gateway.batches import batch_lines
from node.gateway.limits import limits_from_headers
from node.gateway.moderation import verdict_of
from node.gateway.refusals import ApiError
from node.gateway.tools import ToolCalls, ToolStyle
from node.gateway.wanted import Wanted, read_chat, read_completion
from protocol.errors import MalformedError
from scripts.fuzzing.files import in_file
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import json_tree

__all__ = ["targets"]

_JSON: Mutator = several(json_tree(), json_tree(), raw)


def _answered(run: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """A refusal is one that can be sent."""

    def answered(data: bytes) -> None:
        try:
            run(data)
        except ApiError as error:
            refused = error
        else:
            return
        assert 400 <= refused.status < 500
        json.dumps(refused.to_json()).encode()
        raise MalformedError(refused.message)

    return answered


def _chat(data: bytes) -> None:
    _sane(read_chat(data, {}))


def _completion(data: bytes) -> None:
    _sane(read_completion(data, {}))


def _sane(wanted: Wanted) -> None:
    """It can be handed on: rendered, shown, and counted."""
    texts = [wanted.raw or "", *wanted.stop, *(turn.content for turn in wanted.messages)]
    assert sum(len(text.encode()) for text in texts) <= 4 * 4 * 1024 * 1024
    json.dumps(wanted.tools, ensure_ascii=False).encode()
    assert wanted.tool_names is not None


def _headers(data: bytes) -> None:
    parts = (line.partition(":") for line in data.decode("utf-8", "surrogateescape").split("\n"))
    limits_from_headers({name.strip(): value.strip() for name, _, value in parts}).as_policy()


def _batch(data: bytes) -> None:
    with in_file(data, "batch.jsonl") as path:
        assert batch_lines(path, "/v1/chat/completions")


def _written_calls(data: bytes) -> None:
    """By way of each style, in pieces; text and calls can be sent."""
    text = data.decode(errors="replace")
    for style in ToolStyle:
        calls = ToolCalls(style, {"look", "say"})
        said = [calls.take(text[at : at + 7]) for at in range(0, min(len(text), 700), 7)]
        rest, found = calls.take(text[700:]), calls.end()
        assert len(found[1]) <= 64
        "".join((*said, rest, found[0], *(each.arguments for each in found[1]))).encode()


def _verdict(data: bytes) -> None:
    try:
        _, reason = verdict_of(data)
    except ValueError as error:
        raise MalformedError(str(error)[:100]) from None
    reason.encode()


# Seeds


def _chats() -> list[bytes]:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "there"},
    ]
    shaped = {"repetition_penalty": 1.1, "frequency_penalty": -0.5, "presence_penalty": 2, "logit_bias": {"7": -100}}
    drawn = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "seed": 7, "n": 2, "stop": ["\n", "END"]}
    limits = {"places": "DE,FR", "max_price_in": "1.5", "class": "chat", "evidence": "proven", "edge": "never"}
    asked = {"model": "m", "messages": turns, "tools": [tool], "tool_choice": "auto", "max_tokens": 9}
    streamed = {"stream": True, "stream_options": {"include_usage": True}, "joule": limits, "user": "me"}
    return [
        json.dumps(each).encode()
        for each in ({**asked, **shaped}, {**asked, **drawn, **streamed}, {"model": "m", "messages": turns[:2]})
    ]


def _completions() -> list[bytes]:
    asked = {"model": "m", "prompt": "Mia has", "max_tokens": 9, "logprobs": 3, "logit_bias": {"1": 5.5}}
    return [json.dumps(asked).encode(), b'{"model": "m", "prompt": ["a"], "joule": {"deny": "US"}}']


def _batches() -> list[bytes]:
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}
    two = [json.dumps({**request, "custom_id": name}) for name in "ab"]
    return ["\n".join(two).encode(), two[0].encode() + b"\n\n"]


def _said_calls() -> list[bytes]:
    call = '{"name": "look", "arguments": {"at": "\\ud800"}}'
    return [
        f"Well. <tool_call>\n{call}\n</tool_call><tool_call>{call}".encode(),
        f"[TOOL_CALLS] [{call}, {call}]".encode(),
        b'{"name": "say", "parameters": {"what": "no"}}; {"name": "look", "parameters": {}}',
    ]


def _many(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """One value after the other, thousands of them."""
    piece = rng.choice(
        (b"{}", b"[]", b'{"name": "look", "arguments": {}}', b"[TOOL_CALLS]", b"<tool_call>{}", b"{", b";")
    )
    return data[: rng.randrange(len(data) + 1)] + piece * rng.choice((9, 300, 4_000, 30_000))


def targets() -> list[Target]:
    """See the module."""
    peer = (MalformedError,)
    header = b"x-joule-places: DE\nx-joule-max-price-out: 2.5\nX-Joule-Class: chat\nx-joule-edge: only"
    verdicts = [b'{"flagged": true, "reason": "no"}', b'{"results": [{"flagged": false}]}', b'{"flagged": false}']
    return [
        Target(name="gateway-chat", seeds=_chats, run=_answered(_chat), errors=peer, mutators=(_JSON,), short=400),
        Target(
            name="gateway-completion",
            seeds=_completions,
            run=_answered(_completion),
            errors=peer,
            mutators=(_JSON,),
            short=400,
        ),
        Target(
            name="gateway-headers",
            seeds=lambda: [header],
            run=_answered(_headers),
            errors=peer,
            mutators=(several(lines, raw),),
            short=400,
        ),
        Target(name="gateway-batch", seeds=_batches, run=_answered(_batch), errors=peer, mutators=(_JSON,), short=400),
        Target(
            name="gateway-tool-calls",
            seeds=_said_calls,
            run=_written_calls,
            errors=(),
            mutators=(several(_JSON, raw, _many),),
            short=400,
        ),
        Target(name="gateway-verdict", seeds=lambda: verdicts, run=_verdict, errors=peer, mutators=(_JSON,), short=400),
    ]
