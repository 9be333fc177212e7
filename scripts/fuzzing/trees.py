"""Spoils msgpack, JSON and safetensors by what they mean: other types, numbers past their bounds, lists grown long."""

from __future__ import annotations

import base64
import binascii
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgpack

from scripts.fuzzing.mutators import NASTY_TEXTS, raw
from scripts.fuzzing.target import Mutator

__all__ = ["changed", "in_json_text", "json_tree", "msgpack_tree", "safetensors"]

_NUMBERS = [
    0,
    1,
    -1,
    2,
    16,
    17,
    127,
    128,
    255,
    256,
    4096,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**40 - 1,
    2**40,
    2**53 - 1,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64 - 1,
    -(2**31),
    -(2**63),
    10**12,
    10**18,
]
_LENGTHS = (1, 2, 16, 32, 256, 5_000)


def changed(rng: random.Random, tree: Any, inner: Mutator) -> Any:
    """The tree with one place in it spoiled; its lists and dictionaries are changed where they are.

    Args:
        inner: spoils byte strings, which may hold messages themselves.
    """
    whole: Any = [tree]
    holder, key = whole, 0
    while isinstance(holder[key], list | dict) and holder[key] and rng.random() < 0.85:
        holder = holder[key]
        key = rng.randrange(len(holder)) if isinstance(holder, list) else rng.choice(list(holder))
    if holder is whole:
        return _other(rng, tree, inner)
    match rng.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder[key:key] = [holder[key]] * _times(rng, holder[key])
        case 1:
            holder[rng.choice(NASTY_TEXTS)] = holder[key]
        case 2 if isinstance(holder, list):
            other = rng.randrange(len(holder))
            holder[key], holder[other] = holder[other], holder[key]
        case _:
            holder[key] = _other(rng, holder[key], inner)
    return tree


def _times(rng: random.Random, value: Any) -> int:
    """How often a value may be repeated, without an input that takes longer to make than to decode."""
    is_small = not isinstance(value, list | dict) and (not isinstance(value, str | bytes) or len(value) <= 64)
    return rng.choice(_LENGTHS if is_small else (1, 2, 16))


def _other(rng: random.Random, value: Any, inner: Mutator) -> Any:
    """A value in the place of another: mostly of the same type."""
    if rng.random() < 0.25:
        return _anything(rng, value)
    match value:
        case bool():
            return not value
        case int():
            return rng.choice((value + 1, value - 1, value * 2, -value, rng.choice(_NUMBERS), rng.choice(_NUMBERS)))
        case float():
            return rng.choice((0.0, -value, value * 2, 1e308, float("inf"), float("nan"), 1e-300))
        case str():
            return _other_text(rng, value, inner)
        case bytes():
            return _other_bytes(rng, value, inner)
        case list():
            return rng.choice((value[: len(value) // 2], value * rng.choice((2, 20)), [value], []))
        case dict():
            return rng.choice(([value], {}, {**value, "a": value}))
    return _anything(rng, value)


def _other_bytes(rng: random.Random, value: bytes, inner: Mutator) -> bytes:
    if rng.random() < 0.5:
        return inner(rng, value, [value])
    return rng.choice(
        (b"", value[:-1], value + b"\0", bytes(len(value)), b"\xff" * len(value), value * 2, bytes(70_000))
    )


def _other_text(rng: random.Random, value: str, inner: Mutator) -> str:
    within = in_json_text(rng, value, inner) if rng.random() < 0.5 else None
    if within is not None:
        return within
    at = rng.randrange(len(value) + 1)
    nasty = rng.choice(NASTY_TEXTS)
    return rng.choice((nasty, value[:at] + nasty + value[at:], value[:at], value + value, value.upper(), f" {value} "))


def in_json_text(rng: random.Random, text: str, inner: Mutator) -> str | None:
    """Text that is base64 or hex, with the bytes that it writes spoiled; None for other text."""
    if len(text) < 8:
        return None
    try:
        return base64.b64encode(inner(rng, base64.b64decode(text, validate=True), [b"\0"])).decode()
    except (binascii.Error, ValueError):
        return None


def _anything(rng: random.Random, value: Any) -> Any:
    return rng.choice(
        (
            None,
            True,
            False,
            rng.choice(_NUMBERS),
            1.5,
            float("inf"),
            rng.choice(NASTY_TEXTS),
            [],
            {},
            [value],
            {"a": value},
            str(value)[:99],
        )
    )


def _deep(rng: random.Random, opening: bytes, closing: bytes, data: bytes) -> bytes:
    depth = rng.choice((2, 8, 40, 600, 1_100, 20_000))
    return opening * depth + data + closing * depth


def msgpack_tree(inner: Mutator = raw) -> Mutator:
    """Spoils a msgpack value; byte strings in it by `inner`."""

    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        choice = rng.random()
        if choice < 0.02:
            return _deep(rng, rng.choice((b"\x91", b"\x81\xa1a", b"\xdd\x00\x00\x00\x01")), b"", data)
        if choice < 0.04:  # a length without what it counts
            return rng.choice((b"\xdd", b"\xdf", b"\xdb", b"\xc6", b"\xc9")) + b"\xff\xff\xff\xff" + data
        try:
            tree = msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogatepass")
            made: bytes = msgpack.packb(changed(rng, tree, inner), unicode_errors="surrogatepass")
        except (ValueError, TypeError, OverflowError, RecursionError, msgpack.exceptions.UnpackException):
            return raw(rng, data, others)
        return made

    return mutate


_JSON_PIECES = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"0.1",
    b"1E400",
    b"9" * 5_000,
    b"1" * 400,
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\xed\xa0\x80"',
    b'"' + b"\\n" * 3_000 + b'"',
    b"[" * 5_000,
    b'{"a":' * 5_000,
    b"[" + b"[]," * 3_000 + b"[]]",
    b"{}",
    b"[]",
    b"null",
    b"01",
    b"+1",
    b'"a":1,"a":2,',
    b"//\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"]",
    b"}",
    b",",
    b":",
    b'"',
    b"\\",
]


def json_tree(inner: Mutator = raw) -> Mutator:
    """Spoils JSON: its values, and its spelling. Text that is base64 is spoiled by `inner` inside."""

    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        choice = rng.random()
        if choice < 0.25:
            at = rng.randrange(len(data) + 1)
            cut = rng.choice((0, 0, 1, 5))
            return data[:at] + rng.choice(_JSON_PIECES) + data[at + cut :]
        if choice < 0.27:
            opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
            return _deep(rng, opening, closing, data)
        try:
            tree = changed(rng, json.loads(data), inner)
            ascii_only = rng.random() < 0.5
            return json.dumps(tree, ensure_ascii=ascii_only).encode(errors="surrogatepass")
        except (ValueError, RecursionError, TypeError):
            return raw(rng, data, others)

    return mutate


def safetensors(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A safetensors file: its JSON header spoiled, and its length, which says where the header ends."""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= len(data) - 8:
        return raw(rng, data, others)
    header, tensors = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.8:
        header = _HEADER(rng, header, others)
    said = len(header)
    if rng.random() < 0.1:
        said = rng.choice((0, 1, said - 1, said + 1, 2**31, 2**40, 2**63, 2**64 - 1)) % 2**64
    tensors = tensors if rng.random() < 0.8 else tensors[: rng.randrange(len(tensors) + 1)]
    return said.to_bytes(8, "little") + header + tensors


_HEADER: Callable[[random.Random, bytes, Sequence[bytes]], bytes] = json_tree()
