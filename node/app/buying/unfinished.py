"""An answer that broke off, kept in a file: what a later run needs to go on from there with the same tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.buying.continuing import Earlier
from node.app.buying.grammars import held_to_text
from node.app.buying.request import Request
from node.durable import replace_file
from protocol.encoding.strict_json import exact_keys, int_text, parse_object
from protocol.errors import ConfigurationError, LocalError, MalformedError, peers_fault
from protocol.identity.ids import BlockSpan
from protocol.routing.routes import MAX_LEGS
from protocol.session.shaping import Shaping, TokenBias, begun_with, held_to
from protocol.session.terms import SamplingTerms

__all__ = ["Unfinished", "dump_unfinished", "keep_unfinished", "load_unfinished"]

FORMAT = "joulemesh-unfinished/1"
ABOUT = "An answer that broke off. Go on with: joule run --resume FILE"
MAX_BYTES = 16 * 1024 * 1024
MAX_TOKEN_ID = 2**32 - 1
_DEPTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What was asked, and how far the answer came."""

    model: bytes
    """Root."""
    question: str
    """For people."""
    prompt: tuple[int, ...]
    """Token ids, as they were asked."""
    answer: tuple[int, ...]
    """Token ids that came, at least one."""
    most: int
    """Generated tokens at most, those that came included."""
    sampling: SamplingTerms
    grammar: bytes = b""
    """Text of what the answer is held to; empty for nothing."""
    earlier: Earlier
    """The session that broke off."""

    def request(self) -> Request:
        """What is still wanted: tokens are drawn by position, so they are those that would have come."""
        sampling = held_to_text(self.sampling, self.grammar)
        return Request(
            prompt=(*self.prompt, *self.answer),
            model=self.model.hex(),
            most=self.most - len(self.answer),
            sampling=sampling.replace(shaping=begun_with(sampling.shaping, len(self.answer))),
            grammar=self.grammar,
            earlier=self.earlier,
        )


def dump_unfinished(unfinished: Unfinished) -> bytes:
    """What the file has."""
    value = {
        "format": FORMAT,
        "about": ABOUT,
        "model": unfinished.model.hex(),
        "question": unfinished.question,
        "prompt": list(unfinished.prompt),
        "answer": list(unfinished.answer),
        "most": unfinished.most,
        "temperature_milli": unfinished.sampling.temperature_milli,
        "seed": str(unfinished.sampling.seed),
        "top_p_ppm": unfinished.sampling.top_p_ppm,
        "top_k": unfinished.sampling.top_k,
        "shaping": _dumped(unfinished.sampling.shaping),
        "logprobs": unfinished.sampling.logprobs,
        "grammar": unfinished.grammar.decode() or None,
        "session": unfinished.earlier.session.hex(),
        "proven": unfinished.earlier.proven,
        "legs": [[key.hex(), span.start, span.end] for key, span in unfinished.earlier.legs],
    }
    return json.dumps(value).encode() + b"\n"


def keep_unfinished(unfinished: Unfinished, file: Path) -> None:
    """Write it to a file. Raises LocalError."""
    try:
        replace_file(file, dump_unfinished(unfinished))
    except OSError as error:
        raise LocalError(f"cannot write {file}: {error.strerror}") from None


def load_unfinished(data: bytes) -> Unfinished:
    """An answer that broke off, from a file's bytes. Raises ConfigurationError."""
    try:
        with peers_fault():
            return _parsed(data)
    except MalformedError as error:
        raise ConfigurationError(
            f"this is no answer that broke off: {error.message}",
            code="unfinished",
            hint="give --resume the file that a run named when it could not finish",
        ) from None


def _parsed(data: bytes) -> Unfinished:
    value = exact_keys(
        parse_object(data, limit=MAX_BYTES, depth=_DEPTH),
        *("format", "about", "model", "question", "prompt", "answer", "most", "temperature_milli", "seed", "session"),
        *("top_p_ppm", "top_k", "shaping", "logprobs", "grammar", "proven", "legs"),
    )
    if value["format"] != FORMAT or value["about"] != ABOUT:
        raise MalformedError("it is of another format")
    prompt, answer = _ids(value["prompt"]), _ids(value["answer"])
    if not isinstance(value["question"], str) or type(value["most"]) is not int or not prompt or not answer:
        raise MalformedError("it does not say what was asked, or what came")
    if value["grammar"] is not None and not isinstance(value["grammar"], str):
        raise MalformedError("a grammar that is no text")
    if value["most"] <= len(answer):
        raise MalformedError("the answer is as long as it may be")
    if type(value["proven"]) is not int or value["proven"] > len(prompt) + len(answer):
        raise MalformedError("more positions are signed for than there are")
    return Unfinished(
        model=_bytes(value["model"], 32),
        question=value["question"],
        prompt=prompt,
        answer=answer,
        most=value["most"],
        sampling=SamplingTerms(
            temperature_milli=value["temperature_milli"],
            seed=int_text(value["seed"]),
            top_p_ppm=value["top_p_ppm"],
            top_k=value["top_k"],
            shaping=_shaping(value["shaping"]),
            logprobs=value["logprobs"],
        ),
        grammar=(value["grammar"] or "").encode(),
        earlier=Earlier(
            session=_bytes(value["session"], 32),
            tokens=(*prompt, *answer),
            proven=value["proven"],
            legs=_legs(value["legs"]),
        ),
    )


def _dumped(shaping: Shaping | None) -> list[Any] | None:
    """As terms have it. What the prompt is to it follows from the prompt, what the grammar is from that."""
    shaping = held_to(shaping, None)
    if shaping is None:
        return None
    biases = [[each.token, each.lift] for each in shaping.biases]
    return [shaping.repetition_milli, shaping.frequency, shaping.presence, biases]


def _shaping(value: Any) -> Shaping | None:
    match value:
        case None:
            return None
        case [repetition_milli, frequency, presence, [*biases]] if all(
            isinstance(each, list) and len(each) == 2 for each in biases
        ):
            return Shaping(
                repetition_milli=repetition_milli,
                frequency=frequency,
                presence=presence,
                biases=tuple(TokenBias(token=token, lift=lift) for token, lift in biases),
            )
    raise MalformedError("what is done to logits is no list of that")


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(each) is int and each <= MAX_TOKEN_ID for each in value):
        raise MalformedError("token ids that are none")
    return tuple(value)


def _bytes(value: Any, size: int) -> bytes:
    try:
        found = bytes.fromhex(value)
    except (TypeError, ValueError):
        raise MalformedError("bytes that are not hex") from None
    if found.hex() != value or len(found) != size:
        raise MalformedError("bytes of another length, or in another spelling")
    return found


def _legs(value: Any) -> tuple[tuple[bytes, BlockSpan], ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LEGS:
        raise MalformedError("legs that no route has")
    found: list[tuple[bytes, BlockSpan]] = []
    for each in value:
        if not isinstance(each, list) or [type(part) for part in each] != [str, int, int]:
            raise MalformedError("a leg without key and blocks")
        at = found[-1][1].end if found else 0
        if each[1] != at or each[2] <= at:
            raise MalformedError("legs that leave blocks out")
        found.append((_bytes(each[0], 33), BlockSpan(start=each[1], end=each[2])))
    return tuple(found)
