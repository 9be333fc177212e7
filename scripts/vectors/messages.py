"""Write tests/vectors/messages.json: every message by itself, and bytes that are none (docs/spec/wire.md, W1 to W4)."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from protocol.encoding.codec import Message, MessageShape, encode, fields_to_wire, shapes
from protocol.encoding.fields import (
    BoolShape,
    BytesShape,
    EnumShape,
    ListShape,
    OptionalShape,
    Shape,
    TextShape,
    UintShape,
)
from protocol.geography.blocs import BLOCS_NOW
from protocol.identity.ids import BlockSpan, ModelFile
from protocol.policy.corridors import Corridor
from protocol.policy.denials import Denial, DenialKind
from protocol.policy.policy import Policy
from protocol.policy.trust import Anchor
from protocol.session.frames import Joining, Probe
from scripts.gen_messages import Found, modules

FILE = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "messages.json"
ABOUT = (
    "Every message that travels, by its own clauses alone, down to the bytes; written by scripts/vectors/messages.py. "
    "`bytes` decode to `fields`, and these encode to them again: byte strings are hexadecimal, numbers decimal text. "
    "What is in `malformed` is refused by whoever expects a message of that kind, under the bound of W3."
)
LONGEST = 300
"""Bytes of the longest byte string in an example: enough for a header of two bytes of length."""
OWN = {
    BlockSpan: {"start": 0, "end": 1},
    Anchor: {"place": "FR"},
    Corridor: {"source": "FR", "to": "EU"},
    Denial: {"what": DenialKind.PLACE, "value": "FR"},
    Policy: {"blocs": BLOCS_NOW, "origin": "FR", "allow": ("EU", "CH"), "deny": ("DE-BE",)},
    Joining: {"base": 2, "start": 1, "onward": 0},
    ModelFile: {"name": "config.json"},
}
"""Fields that are bound by one another, or by more than their shape."""


@functools.cache
def kinds() -> list[type[Message]]:
    """What travels by itself, by name."""
    found = Found.among(each for each in modules() if each.__name__.startswith("protocol."))
    return sorted((each for each in found.messages if each.kind), key=lambda cls: cls.kind)


def example(cls: type[Message], *, full: bool) -> Message:
    """One with every field at its least; or full: at its most, with what may be left out."""
    own = OWN.get(cls, {})
    return cls(**{name: own[name] if name in own else value(shape, full=full) for name, shape in shapes(cls)})


def value(shape: Shape, *, full: bool) -> Any:
    """The least that a field of this shape holds, or nearly the most."""
    match shape:
        case UintShape():
            return shape.uint.limit - 1 if full else 0
        case BytesShape():
            high = shape.size.low if shape.size.high is None else shape.size.high
            length = min(high, max(shape.size.low, LONGEST)) if full else shape.size.low
            return bytes(n % 256 for n in range(length))
        case TextShape():
            return "\u00e9" * (min(shape.size.high, 40) // 2) if full else ""
        case BoolShape():
            return full
        case EnumShape():
            return list(shape.enum)[-1 if full else 0]
        case OptionalShape():
            return value(shape.inner, full=True) if full else None
        case ListShape():
            return tuple(value(shape.inner, full=full) for _ in range(max(shape.count.low, int(full))))
        case MessageShape():
            return example(shape.cls, full=full)
    raise TypeError(f"no example of {shape}")


def beyond(shape: Shape) -> list[tuple[str, Any]]:
    """Wire forms that a field of this shape does not have, and what is wrong with them."""
    match shape:
        case UintShape():
            return [("above its bound", shape.uint.limit), ("a number below 0", -1), ("true for a number", True)]
        case BytesShape():
            return beyond_bytes(shape.size.low, shape.size.low if shape.size.high is None else shape.size.high)
        case TextShape():
            return [("a byte too long", "x" * (shape.size.high + 1)), ("bytes for text", b"x")]
        case BoolShape():
            return [("a number for a bool", 1)]
        case EnumShape():
            return [("another value", "other")]
        case ListShape():
            return [("nil for a list", None)] + [("an item too few", [])] * bool(shape.count.low)
        case OptionalShape():
            return [each for each in beyond(shape.inner) if each[1] is not None]
    return [("nil for a message", None)]


def beyond_bytes(low: int, high: int) -> list[tuple[str, Any]]:
    """Bytes of lengths that are not within these; none where they would be long."""
    long = [("a byte too long", bytes(high + 1))] if high <= LONGEST else []
    return long + ([("a byte too short", bytes(low - 1))] if low else [])


def fields(message: Message) -> dict[str, Any]:
    """As JSON, for a reader without this codec."""
    return {name: plain(getattr(message, name)) for name, _ in shapes(type(message))}


def plain(value: Any) -> Any:
    """As JSON: bytes in hexadecimal, numbers as text."""
    if isinstance(value, Message):
        return fields(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return str(value) if type(value) is int else value


def malformed(message: Message) -> Iterator[dict[str, str]]:
    """One neighbour of this message for each way in which one of its fields can be wrong."""
    wire = [message.kind, *fields_to_wire(message)]
    for place, (name, shape) in enumerate(shapes(type(message)), 1):
        for what, wrong in beyond(shape):
            changed = [*wire[:place], wrong, *wire[place + 1 :]]
            yield lie(message.kind, f"{name}: {what}", msgpack.packb(changed, use_bin_type=True))
    yield lie(message.kind, "a field too many", msgpack.packb([*wire, 0], use_bin_type=True))
    yield lie(message.kind, "a field too few", msgpack.packb(wire[:-1], use_bin_type=True))


def lie(kind: str, what: str, data: bytes) -> dict[str, str]:
    """One entry of `malformed`."""
    return {"kind": kind, "what": what, "bytes": data.hex()}


def encodings() -> list[dict[str, str]]:
    """Bytes that say the same as those of a message, or nearly, and are not its own."""
    probe = encode(Probe(session=bytes(32), number=7))
    head, session = probe[:9], probe[9:43]
    wrong = {
        "a longer form of a number": head + session + b"\xcc\x07",
        "eight bytes for a number": head + session + b"\xcf" + bytes(7) + b"\x07",
        "a signed number": head + session + b"\xd0\x07",
        "a float": head + session + b"\xca\x40\xe0\x00\x00",
        "a number as text": head + session + b"\xa17",
        "an extension": head + session + b"\xd4\x01\x07",
        "a longer header of bytes": head + b"\xc5\x00\x20" + session[2:] + b"\x07",
        "text for bytes": head + b"\xd9\x20" + session[2:] + b"\x07",
        "a longer header of text": b"\x93\xd9\x07" + probe[2:],
        "the kind as bytes": b"\x93\xc4\x07" + probe[2:],
        "a longer header of the list": b"\xdc\x00\x03" + probe[1:],
        "a map": b"\x83" + probe[1:],
        "another version": probe.replace(b"probe/2", b"probe/9"),
        "another case": probe.replace(b"probe/2", b"Probe/2"),
        "a byte more": probe + b"\x00",
        "a byte less": probe[:-1],
        "twice": probe * 2,
        "nothing": b"",
        "an empty list": b"\x90",
        "nil": b"\xc0",
        "a list that says it is endless": b"\xdd\xff\xff\xff\xff",
        "lists in one another": b"\x91" * 512,
    }
    return [lie(Probe.kind, what, data) for what, data in wrong.items()]


def build() -> dict[str, Any]:
    """The whole file."""
    examples = [example(cls, full=full) for cls in kinds() for full in (False, True)]
    return {
        "about": ABOUT,
        "messages": [{"kind": each.kind, "fields": fields(each), "bytes": encode(each).hex()} for each in examples],
        "malformed": encodings() + [each for cls in kinds() for each in malformed(example(cls, full=False))],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n")
