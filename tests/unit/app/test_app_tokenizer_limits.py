"""Tokenizers of the supported models are taken; those that mean no good are refused, and never end the process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node.app.models.obtaining import Text
from protocol.errors import JoulemeshError, MalformedError

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
START = {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [],
    "special_tokens": START,
}


def replaced(what: str, by: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: what}, "content": by}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def several(kind: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: list(steps)}


def tokenizer(**parts: Any) -> bytes:
    vocabulary = {"a": 0, "<s>": 1, "b": 2, "\u2581": 3, "aa": 4}
    model = {"type": "BPE", "vocab": vocabulary, "merges": ["a a"]}
    whole = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None}
    return json.dumps({**whole, "decoder": None, "model": model, **parts}).encode()


@pytest.mark.parametrize(
    "parts",
    [
        {"pre_tokenizer": several("pretokenizers", split(LLAMA_3), BYTES), "decoder": BYTES},
        {"post_processor": several("processors", BYTES, TEMPLATE)},
        {
            "normalizer": several("normalizers", {"type": "Prepend", "prepend": "\u2581"}, replaced(" ", "\u2581")),
            "decoder": several(
                "decoders",
                replaced("\u2581", " "),
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ),
        },
    ],
    ids=["bytes", "template", "sentences"],
)
def test_supported_models_are_read(parts: dict[str, Any]) -> None:
    text = Text(tokenizer(**parts))
    assert text.encode("aab")
    assert "aa" in text.decode([4, 2])


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": several("normalizers", *[replaced("a", "a" * 10)] * 12)},
        {"decoder": several("decoders", *[replaced("a", "a" * 10)] * 12)},
        {"normalizer": replaced("", "x")},
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "//////////8="}},
        {"pre_tokenizer": split("(a+)+$")},
        {"normalizer": replaced("(a|a)*$", "x", "Regex")},
        {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
        {"decoder": {"type": "Strip", "content": "a", "start": 2**40, "stop": 0}},
        {"post_processor": TEMPLATE | {"special_tokens": {"<s>": START["<s>"] | {"ids": [1] * 1_000}}}},
        {"post_processor": TEMPLATE | {"single": [{"Sequence": {"id": "B", "type_id": 0}}]}},
        {"model": {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "u", "max_input_chars_per_word": 9}},
    ],
)
def test_what_a_stranger_may_ask_for_is_bounded(parts: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match="tokenizer"):
        Text(tokenizer(**parts))


def test_a_name_spelled_in_escapes_does_not_pass() -> None:
    hidden = tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "//////////8="})
    with pytest.raises(MalformedError):
        Text(hidden.replace(b"precompiled", rb"\u0070recompiled").replace(b"Precompiled", rb"\u0050recompiled"))


def test_what_the_library_raises_is_typed() -> None:
    text = Text(tokenizer(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "missing"}))
    with pytest.raises(JoulemeshError, match="does not work"):
        text.encode("b")
