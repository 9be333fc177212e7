"""What a stranger's tokenizer.json may ask the tokenizers library to do.

The library runs what the file describes, and trusts it: a few replacements in a row make gigabytes of one word, a
pattern can search for minutes, and some values end the process or raise what is no `Exception`. Here stands what the
supported models need of it, with bounds.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from protocol.errors import JoulemeshError, MalformedError, ModelError

__all__ = ["load_tokenizer", "strangers_code"]

MAX_STEPS = 16
"""Of one sequence of normalizers, pre-tokenizers, decoders or template parts. Common ones have 4."""
MAX_GROWTH = 64
"""How many times longer replacements may make a text, all together."""
MAX_PATTERN = 1_024
MAX_SPECIAL_IDS = 64

_NORMALIZERS = {"Sequence", "Replace", "Prepend", "Strip", "StripAccents", "Lowercase", "NFC", "NFD", "NFKC", "NFKD"}
_PRE_TOKENIZERS = {"Sequence", "Split", "ByteLevel", "Metaspace", "Whitespace", "WhitespaceSplit", "Digits"}
_PROCESSORS = {"Sequence", "ByteLevel", "TemplateProcessing"}
_DECODERS = {"Sequence", "Replace", "Strip", "ByteLevel", "ByteFallback", "Fuse", "Metaspace"}
_MODELS = {"BPE", "WordLevel", "Unigram"}

_ENDS_THE_PROCESS = re.compile(rb'"precompiled_charsmap"|(?<!\\)(?:\\\\)*+\\u00[4-7]')
"""A field of the normalizer that ends the process while it is read; ASCII letters as escapes, which could spell it."""
_REPEATED_GROUP = re.compile(r"(?<!\\)\)[*+{]|\\[1-9kg]")
"""What makes a search take for ever: a repeated group, a reference back. No supported model has either."""


def load_tokenizer(data: bytes) -> Tokenizer:
    """The tokenizer of a tokenizer.json. Raises MalformedError for one that cannot be read, or asks for too much."""
    if _ENDS_THE_PROCESS.search(data):
        raise MalformedError("the model's tokenizer uses a normalizer that is not supported")
    with strangers_code("the model's tokenizer cannot be read", MalformedError):
        tokenizer = Tokenizer.from_buffer(data)
        parts = [_state(part) for part in _parts(tokenizer)]
        model = type(tokenizer.model).__name__
    if model not in _MODELS:
        raise MalformedError(f"the model's tokenizer is a {model}, which is not supported")
    for part, allowed in zip(parts, (_NORMALIZERS, _PRE_TOKENIZERS, _PROCESSORS, _DECODERS), strict=True):
        if _check(part, allowed) > MAX_GROWTH:
            raise MalformedError("the model's tokenizer makes texts too long")
    tokenizer.no_truncation()  # a tokenizer may have been saved with a bound that would cut prompts short
    tokenizer.no_padding()
    return tokenizer


@contextlib.contextmanager
def strangers_code(what: str, kind: type[JoulemeshError] = ModelError) -> Iterator[None]:
    """What the library raises is a `kind` of error: bare Exceptions, and the panics of Rust, which are none."""
    try:
        yield
    except JoulemeshError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises bare Exception
        raise kind(f"{what}: {str(error)[:200]}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise kind(f"{what}: {str(error)[:200]}") from None


def _parts(tokenizer: Tokenizer) -> tuple[Any, ...]:
    return tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.post_processor, tokenizer.decoder


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


def _check(part: Any, allowed: set[str]) -> int:
    """By how much a part may make a text longer. Raises MalformedError for what is not allowed."""
    if part is None:
        return 1
    kind = part["type"]
    if kind not in allowed:
        raise MalformedError(f"the model's tokenizer uses {kind}, which is not supported")
    match part:
        case {"type": "Sequence"}:
            return _check_sequence(part, allowed)
        case {"type": "Replace", "pattern": pattern, "content": content}:
            return 1 + len(content) if _check_pattern(pattern) else -(-len(content) // len(pattern["String"])) or 1
        case {"type": "Split", "pattern": pattern}:
            _check_pattern(pattern)
        case {"type": "Prepend", "prepend": text}:
            return 1 + len(text)
        case {"type": "Strip", "start": start, "stop": stop} if max(start, stop) > MAX_STEPS:
            raise MalformedError("the model's tokenizer strips more than it may")
        case {"type": "TemplateProcessing", "single": single, "special_tokens": special}:
            _check_template(single, special)
    return 1


def _check_sequence(part: dict[str, Any], allowed: set[str]) -> int:
    (steps,) = (value for value in part.values() if isinstance(value, list))
    if len(steps) > MAX_STEPS:
        raise MalformedError(f"the model's tokenizer takes more than {MAX_STEPS} steps")
    growth = 1
    for step in steps:
        growth *= _check(step, allowed - {"Sequence"})
    return growth


def _check_pattern(pattern: dict[str, str]) -> bool:
    """Whether it is a regular expression, and not plain text. Raises MalformedError."""
    (kind, text), *_ = pattern.items()
    if not text or len(text) > MAX_PATTERN or (kind == "Regex" and _REPEATED_GROUP.search(text)):
        raise MalformedError("the model's tokenizer searches for a pattern that is not supported")
    return kind == "Regex"


def _check_template(single: list[dict[str, Any]], special: dict[str, Any]) -> None:
    texts = [step["Sequence"]["id"] for step in single if "Sequence" in step]
    ids = sum(len(token["ids"]) for token in special.values())
    if texts != ["A"] or len(single) > MAX_STEPS or ids > MAX_SPECIAL_IDS:
        raise MalformedError("the model's tokenizer adds to a prompt what is not supported")
