"""The part of Ethereum's contract ABI that the settlement contract uses: from the JSON that its compiler wrote, or from
signatures in text.

https://docs.soliditylang.org/en/latest/abi-spec.html. Values are plain: int, bytes (addresses have 20), str, and
sequences for arrays and structs. Bytes that are read may come from anybody: what is made of them is bounded by their
length. They may be spelled in more than one way; who needs one spelling encodes again and compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.errors import MalformedError
from protocol.identity.ids import keccak256

__all__ = ["Abi", "AbiType", "decode_all", "encode_all", "parse_type", "types_of"]

WORD = 32


class _Data:
    """Bytes that values are read from, and how many values there may still be: each takes a word or two."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = 2 * (len(data) // WORD) + 1

    def read(self, at: int, length: int) -> bytes:
        self._left -= 1
        if at + length > len(self._data) or self._left < 0:
            raise MalformedError("data of a contract that ends too soon")
        return self._data[at : at + length]

    def number(self, at: int) -> int:
        return int.from_bytes(self.read(at, WORD), "big")

    def count(self, at: int) -> int:
        count = self.number(at)
        if count > self._left:
            raise MalformedError("an array that is longer than what holds it")
        return count


@dataclass(frozen=True, slots=True)
class AbiType:
    """One type: a word, bytes of any length, an array, or a struct."""

    name: str
    """As it stands in a signature: ``uint64``, ``(address,uint64)[]``."""
    inner: AbiType | None = None
    """Of an array."""
    parts: tuple[AbiType, ...] = ()
    """Of a struct."""

    @property
    def dynamic(self) -> bool:
        """Whether its place holds an offset to it."""
        return self.inner is not None or self.name in ("string", "bytes") or any(part.dynamic for part in self.parts)

    @property
    def width(self) -> int:
        """Bytes that it takes in its place."""
        return WORD if self.dynamic or not self.parts else sum(part.width for part in self.parts)

    def encode(self, value: Any) -> bytes:
        """The bytes of `value`. Raises OverflowError for a number beyond a word."""
        if self.inner is not None:
            return len(value).to_bytes(WORD, "big") + encode_all([self.inner] * len(value), value)
        if self.parts:
            return encode_all(self.parts, value)
        if self.dynamic:
            data = value.encode() if isinstance(value, str) else value
            return len(data).to_bytes(WORD, "big") + data + bytes(-len(data) % WORD)
        if self.name.startswith("bytes"):
            return bytes(value).ljust(WORD, b"\0")
        return bytes(value).rjust(WORD, b"\0") if self.name == "address" else int(value).to_bytes(WORD, "big")

    def decode(self, data: bytes, at: int = 0) -> Any:
        """The value that stands at `at`. Raises MalformedError."""
        return self.read(_Data(data), at)

    def read(self, data: _Data, at: int) -> Any:
        """The value that stands at `at` of what is being read. Raises MalformedError."""
        if self.inner is not None:
            return _read_all([self.inner] * data.count(at), data, at + WORD)
        if self.parts:
            return _read_all(self.parts, data, at)
        if self.dynamic:
            held = data.read(at + WORD, data.number(at))
            return held.decode(errors="replace") if self.name == "string" else held
        word = data.read(at, WORD)
        if self.name == "address":
            return word[12:]
        if self.name.startswith("bytes"):
            return word[: int(self.name[5:])]
        return bool(word[31]) if self.name == "bool" else int.from_bytes(word, "big")


def encode_all(types: Sequence[AbiType], values: Sequence[Any]) -> bytes:
    """Values one after the other, as a function's arguments stand. Raises OverflowError for a number beyond a word."""
    heads, tails, at = [], [], sum(each.width for each in types)
    for each, value in zip(types, values, strict=True):
        encoded = each.encode(value)
        if each.dynamic:
            heads.append(at.to_bytes(WORD, "big"))
            tails.append(encoded)
            at += len(encoded)
        else:
            heads.append(encoded)
    return b"".join(heads + tails)


def decode_all(types: Sequence[AbiType], data: bytes) -> tuple[Any, ...]:
    """Values that stand one after the other. Raises MalformedError."""
    return _read_all(types, _Data(data), 0)


def _read_all(types: Sequence[AbiType], data: _Data, start: int) -> tuple[Any, ...]:
    values, at = [], start
    for each in types:
        values.append(each.read(data, start + data.number(at) if each.dynamic else at))
        at += each.width
    return tuple(values)


def parse_type(said: Mapping[str, Any]) -> AbiType:
    """A type from the compiler's JSON."""
    name: str = said["type"]
    if name.endswith("[]"):
        inner = parse_type({**said, "type": name[:-2]})
        return AbiType(f"{inner.name}[]", inner=inner)
    if name == "tuple":
        parts = tuple(parse_type(each) for each in said["components"])
        return AbiType(f"({','.join(part.name for part in parts)})", parts=parts)
    return AbiType(name)


def types_of(signature: str) -> tuple[AbiType, ...]:
    """The types in a signature, ``name(type,type)``; a struct is written as its types in brackets."""
    found = parse_type(_said(signature[signature.index("(") :]))
    return found.parts


def _said(text: str) -> dict[str, Any]:
    """A type in text as the compiler's JSON says it."""
    if not text.startswith("("):
        return {"type": text}
    end = text.rindex(")")
    parts, depth, start = [], 0, 1
    for at in range(1, end + 1):
        depth += (text[at] == "(") - (text[at] == ")" and at < end)
        if at == end or (text[at] == "," and depth == 0):
            parts.append(text[start:at])
            start = at + 1
    return {"type": "tuple" + text[end + 1 :], "components": [_said(part) for part in parts if part]}


class Abi:
    """A contract's functions, events and errors."""

    def __init__(self, items: Sequence[Mapping[str, Any]]) -> None:
        self._calls: dict[str, tuple[bytes, tuple[AbiType, ...], tuple[AbiType, ...]]] = {}
        self._events: dict[bytes, tuple[str, tuple[AbiType, ...], tuple[AbiType, ...]]] = {}
        self._errors: dict[bytes, str] = {}
        self._constructor: tuple[AbiType, ...] = ()
        for item in items:
            inputs = tuple(parse_type(each) for each in item["inputs"])
            if item["type"] == "constructor":
                self._constructor = inputs
                continue
            digest = keccak256(f"{item['name']}({','.join(each.name for each in inputs)})".encode())
            if item["type"] == "function":
                outputs = tuple(parse_type(each) for each in item["outputs"])
                self._calls[item["name"]] = (digest[:4], inputs, outputs)
            elif item["type"] == "error":
                self._errors[digest[:4]] = item["name"]
            elif item["type"] == "event":
                marked = [(parse_type(each), each["indexed"]) for each in item["inputs"]]
                topics = tuple(each for each, indexed in marked if indexed)
                self._events[digest] = (item["name"], topics, tuple(each for each, indexed in marked if not indexed))

    def call(self, name: str, *values: Any) -> bytes:
        """The data of a transaction, or of a question, to a function."""
        selector, inputs, _ = self._calls[name]
        return selector + encode_all(inputs, values)

    def creation(self, *values: Any) -> bytes:
        """What stands after a contract's code where it is made."""
        return encode_all(self._constructor, values)

    def result(self, name: str, data: bytes) -> tuple[Any, ...]:
        """What a function has answered. Raises MalformedError."""
        return decode_all(self._calls[name][2], data)

    def topic(self, name: str) -> bytes:
        """The first topic of an event's log entries."""
        return next(topic for topic, (each, _, _) in self._events.items() if each == name)

    def event(self, topics: Sequence[bytes], data: bytes) -> tuple[str, tuple[Any, ...]] | None:
        """The name of an event and its values, those that are indexed first; None for one that is not declared here."""
        known = self._events.get(topics[0]) if topics else None
        if known is None:
            return None
        name, indexed, rest = known
        firsts = tuple(each.decode(topic) for each, topic in zip(indexed, topics[1:], strict=True))
        return name, firsts + decode_all(rest, data)

    def error(self, data: bytes) -> str:
        """The name of the error that a revert's data says; empty where it is none of this contract's."""
        return self._errors.get(data[:4], "")
