"""What a request for a chat or a completion wants. All that nothing here can do is refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.gateway.limits import Limits, limits_from_headers, limits_from_parameters
from node.gateway.reading import Parameters, parse_body
from node.gateway.refusals import invalid, missing, unsupported
from node.gateway.tools import ToolCall
from protocol.session.logprobs import MAX_TOP
from protocol.session.shaping_bounds import MAX_BIASES

__all__ = ["MOST_STOPS", "Turn", "Wanted", "read_chat", "read_completion"]

MOST_STOPS = 4
MOST_STOP_CHARACTERS = 512
MOST_CHOICES = 16
MOST_TOKENS = 1_000_000
MOST_MESSAGES = 4096
MOST_TEXT = 4 * 1024 * 1024
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
MOST_TOOLS = 128
TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,7}")
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str
    """``system``, ``user``, ``assistant`` or ``tool``."""
    content: str
    calls: tuple[ToolCall, ...] = ()
    """Of tools, by the assistant."""
    answers: str = ""
    """The call that a tool's word is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One request. What is None is as the gateway's settings say."""

    model: str
    """A name, or the beginning of a root."""
    messages: tuple[Turn, ...] = ()
    raw: str | None = None
    """Text to go on from, instead of messages."""
    most: int | None = None
    """Generated tokens at most."""
    temperature_milli: int | None = None
    top_p_ppm: int | None = None
    """Only the likeliest tokens, that have so many millionths of the probability together."""
    top_k: int | None = None
    """Only so many of the likeliest tokens; 0 for any number."""
    repetition_milli: int | None = None
    """Thousandths by which logits of tokens in the prompt or the answer are divided, negative ones multiplied."""
    frequency_milli: int | None = None
    """Thousandths of a logit that a token loses for each time that it is in the answer."""
    presence_milli: int | None = None
    """Thousandths of a logit that tokens in the answer lose."""
    biases: tuple[tuple[int, int], ...] | None = None
    """Token ids, and thousandths that are added to their logits."""
    logprobs: int | None = None
    """So many of the likeliest tokens are named in the place of each token, beside its own log probability; None for
    nothing of that."""
    seed: int | None = None
    """None for another draw each time."""
    stop: tuple[str, ...] = ()
    """The answer ends before the first of these."""
    choices: int = 1
    echo: bool = False
    """Whether the text to go on from comes first."""
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends in its usage."""
    limits: Limits = field(default_factory=Limits)
    tools: tuple[Mapping[str, Any], ...] = ()
    """That the model may call, as templates take them."""
    called: tuple[Mapping[str, Any], ...] = ()
    """Those of them that the answer is a call of; none where the model calls what it wants to."""
    once: bool = False
    """Whether there is one call, and no more."""
    schema: Mapping[str, Any] | None = None
    """A JSON Schema that the answer is held to; None for none."""

    @property
    def tool_names(self) -> frozenset[str]:
        return frozenset(each["function"]["name"] for each in self.tools)

    @property
    def held_by(self) -> str:
        """The parameter that the answer is held to something by, if it is."""
        return "tools" if self.called else "response_format"

    @property
    def is_chat(self) -> bool:
        return self.raw is None


def read_chat(body: bytes, headers: Mapping[str, str]) -> Wanted:
    """The body of `/v1/chat/completions`. Raises ApiError."""
    given = Parameters(parse_body(body))
    turns = _turns(given.take("messages"))
    most, most_too = given.whole("max_completion_tokens", 1, MOST_TOKENS), given.whole("max_tokens", 1, MOST_TOKENS)
    logprobs = _chat_logprobs(given)
    tools, called, once = _calling(given)
    if tools and logprobs is not None:
        raise unsupported("logprobs", "logprobs and tools exclude each other: calls are no text of the answer")
    given.refuse("functions", [])
    given.refuse("function_call", "none", "auto")
    schema = _schema(given.take("response_format"))
    if schema is not None and tools:
        raise unsupported("response_format", "an answer that is held to a schema calls no tools: leave one of them out")
    given.refuse("modalities", ["text"])
    given.refuse("prediction")
    given.refuse("audio")
    given.refuse("reasoning_effort", "none")
    given.refuse("verbosity", "medium")
    given.refuse("web_search_options")
    most = most_too if most is None else most
    calling = {"tools": tools, "called": called, "once": once}
    return _rest(given, headers, messages=turns, logprobs=logprobs, schema=schema, most=most, **calling)


def read_completion(body: bytes, headers: Mapping[str, str]) -> Wanted:
    """The body of `/v1/completions`. Raises ApiError."""
    given = Parameters(parse_body(body))
    prompt = given.take("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if prompt is None:
        raise missing("prompt", "say what to go on from")
    if not isinstance(prompt, str):
        raise invalid("prompt", "prompt is one text; several of them, and token ids, are not supported here")
    if not prompt.strip() or len(prompt) > MOST_TEXT:
        raise invalid("prompt", "prompt is empty, or too long")
    most, echo = given.whole("max_tokens", 1, MOST_TOKENS), given.truth("echo")
    logprobs = given.whole("logprobs", 0, MAX_TOP)
    if echo and logprobs is not None:
        raise unsupported("logprobs", "logprobs and echo exclude each other: nobody draws the prompt")
    given.refuse("best_of", 1)
    given.refuse("suffix", "")
    return _rest(given, headers, raw=prompt, echo=echo, logprobs=logprobs, most=most)


def _chat_logprobs(given: Parameters) -> int | None:
    wanted, top = given.truth("logprobs"), given.whole("top_logprobs", 0, MAX_TOP)
    if top and not wanted:
        raise invalid("top_logprobs", "top_logprobs goes with logprobs: true")
    return (top or 0) if wanted else None


def _rest(given: Parameters, headers: Mapping[str, str], **found: Any) -> Wanted:
    """What both have in common."""
    model = given.text("model", most=256)
    if not model:
        raise missing("model", "say which model; GET /v1/models lists them")
    stream, options = given.truth("stream"), given.within("stream_options")
    include_usage = options.truth("include_usage")
    options.refuse("include_obfuscation", False, True)  # the length of what is streamed says no more than it
    options.require_all_taken()
    limits = limits_from_headers(headers).narrowed(limits_from_parameters(given.within("joule")))
    wanted = Wanted(
        model=model,
        temperature_milli=given.scaled("temperature", 0, 2, 1000),
        top_p_ppm=given.scaled("top_p", 0, 1, 1_000_000),
        top_k=_top_k(given),
        repetition_milli=given.scaled("repetition_penalty", 0.1, 10, 1000),
        frequency_milli=given.scaled("frequency_penalty", -2, 2, 1000),
        presence_milli=given.scaled("presence_penalty", -2, 2, 1000),
        biases=_biases(given.take("logit_bias")),
        seed=given.whole("seed", 0, 2**63 - 1),
        stop=_stops(given.take("stop")),
        choices=given.whole("n", 1, MOST_CHOICES) or 1,
        stream=stream,
        include_usage=include_usage,
        limits=limits,
        **found,
    )
    _refuse_what_no_draw_knows(given)
    given.require_all_taken()
    return wanted


def _refuse_what_no_draw_knows(given: Parameters) -> None:
    """Who asks does not matter to draws, and no terms have these."""
    given.refuse("min_p", 0)
    given.refuse("service_tier", "auto", "default")
    given.refuse("store", False)
    for harmless in ("user", "metadata", "safety_identifier", "prompt_cache_key"):
        given.take(harmless)


def _top_k(given: Parameters) -> int | None:
    """What others write for any number is 0 here."""
    found = given.whole("top_k", -1, 1 << 24)
    return found if found is None else max(0, found)


def _biases(value: object) -> tuple[tuple[int, int], ...] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > MAX_BIASES:
        raise invalid("logit_bias", f"logit_bias is an object with at most {MAX_BIASES} token ids")
    given = Parameters(value, "logit_bias")
    biases = {}
    for name in value:
        if not TOKEN_ID.fullmatch(name) or int(name) >= 1 << 24:
            raise invalid("logit_bias", f"logit_bias: {name[:32]!r} is no token id")
        biases[int(name)] = given.scaled(name, -100, 100, 1000) or 0
    return tuple(sorted(biases.items()))


def _stops(value: object) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > MOST_STOPS:
        raise invalid("stop", f"stop is text, or a list of at most {MOST_STOPS} texts")
    for each in stops:
        if not isinstance(each, str) or not 0 < len(each) <= MOST_STOP_CHARACTERS:
            raise invalid("stop", f"each of stop is text of 1 to {MOST_STOP_CHARACTERS} characters")
    return tuple(stops)


def _turns(value: object) -> tuple[Turn, ...]:
    if value is None:
        raise missing("messages", "say what to answer")
    if not isinstance(value, list) or not 0 < len(value) <= MOST_MESSAGES:
        raise invalid("messages", f"messages is a list of 1 to {MOST_MESSAGES} messages")
    turns = tuple(_turn(f"messages[{number}]", each) for number, each in enumerate(value))
    if sum(len(turn.content) for turn in turns) > MOST_TEXT:
        raise invalid("messages", f"the messages have more than {MOST_TEXT} characters")
    if turns[-1].role not in ("user", "tool"):
        raise invalid("messages", "the last message is the user's, or a tool's: it is what is answered")
    if any(turn.role == "system" for turn in turns[1:]):
        raise invalid("messages", "only the first message may be the system's")
    return turns


def _turn(shown: str, value: object) -> Turn:
    if not isinstance(value, dict):
        raise invalid(shown, f"{shown} is an object with a role and a content")
    given = Parameters(value, shown)
    role = given.text("role", most=32)
    if role not in ROLES:
        raise invalid(f"{shown}.role", f"{shown}.role is one of {', '.join(ROLES)}")
    calls = _calls(f"{shown}.tool_calls", given.take("tool_calls")) if role == "assistant" else ()
    answers = given.text("tool_call_id", most=128) or "" if role == "tool" else ""
    said = given.take("content")
    content = "" if said is None and calls else _content(f"{shown}.content", said)
    given.refuse("refusal")
    given.refuse("annotations", [])
    given.refuse("tool_calls", [])
    given.refuse("function_call")
    given.refuse("audio")
    given.require_all_taken()
    if not content.strip() and not calls and role != "tool":
        raise invalid(f"{shown}.content", f"{shown}.content is empty")
    return Turn(ROLES[role], content, calls, answers)


Tools = tuple[Mapping[str, Any], ...]


def _calling(given: Parameters) -> tuple[Tools, Tools, bool]:
    """The tools that the model is told of, those that it must call, and whether only once. Raises ApiError."""
    tools, choice = _tools(given.take("tools")), given.take("tool_choice")
    called: Tools = ()
    match choice:
        case None | "auto":
            pass
        case "none":
            tools = ()
        case "required":
            called = tools
        case {"type": "function", "function": {"name": str(name), **rest}, **more} if not rest and not more:
            called = tuple(each for each in tools if each["function"]["name"] == name)
        case _:
            raise unsupported("tool_choice", "tool_choice is 'auto', 'none', 'required', or names a function")
    if choice not in (None, "auto", "none") and not called:
        raise invalid("tool_choice", "tool_choice asks for a call, and that tool is not among tools")
    parallel = given.take("parallel_tool_calls")
    if parallel is not None and type(parallel) is not bool:
        raise invalid("parallel_tool_calls", "parallel_tool_calls is true or false")
    if parallel is False and tools and not called:
        raise unsupported("parallel_tool_calls", "a model that calls what it wants to calls as often as it wants to")
    return tools, called, parallel is False or isinstance(choice, dict)


def _tools(value: object) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MOST_TOOLS:
        raise invalid("tools", f"tools is a list of at most {MOST_TOOLS} tools")
    for number, each in enumerate(value):
        match each:
            case {"type": "function", "function": {"name": str(name), **_rest}} if TOOL_NAME.fullmatch(name):
                pass
            case _:
                raise unsupported(f"tools[{number}]", f"tools[{number}] is no function with a name")
    return tuple(value)


def _calls(shown: str, value: object) -> tuple[ToolCall, ...]:
    """Calls that a model made before."""
    if value is None:
        return ()
    found = []
    for each in value if isinstance(value, list) else [None]:
        match each:
            case {"id": str(identity), "function": {"name": str(name), "arguments": str(arguments)}}:
                found.append(ToolCall(identity, name, arguments))
            case _:
                raise invalid(shown, f"{shown} is a list of calls, each with an id, a name and arguments")
    return tuple(found)


def _schema(value: Any) -> Mapping[str, Any] | None:
    """What `response_format` asks for. Any schema is held to, whether it says ``strict`` or not."""
    kind = value.get("type") if isinstance(value, dict) else None
    if value is None or value == {"type": "text"}:
        return None
    if value == {"type": "json_object"}:
        return {"type": "object"}
    if kind == "json_schema" and value.keys() == {"type", "json_schema"} and isinstance(value["json_schema"], dict):
        return _named_schema(Parameters(value["json_schema"], "response_format.json_schema"))
    raise invalid(
        "response_format",
        "response_format is {'type': 'json_schema', 'json_schema': {'name': ..., 'schema': {...}}}, or its type is "
        "'json_object' or 'text'",
    )


def _named_schema(given: Parameters) -> Mapping[str, Any]:
    name, schema = given.text("name", most=64), given.take("schema")
    given.take("description")
    given.truth("strict")
    given.require_all_taken()
    if name is None or not TOOL_NAME.fullmatch(name):
        raise invalid("response_format.json_schema.name", "json_schema has a name of letters, digits, _ and -")
    if not isinstance(schema, dict):
        raise invalid("response_format.json_schema.schema", "json_schema has a schema, which is an object")
    return schema


def _content(shown: str, value: object) -> str:
    """Text, or the texts of its parts."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not value:
        raise invalid(shown, f"{shown} is text, or a list of parts of text")
    texts = []
    for part in value:
        match part:
            case {"type": "text", "text": str(text), **rest} if not rest:
                texts.append(text)
            case _:
                raise unsupported(shown, f"{shown}: only parts such as {{'type': 'text', 'text': ...}} are supported")
    return "".join(texts)
