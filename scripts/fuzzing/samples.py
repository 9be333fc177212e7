"""Valid messages to begin with: those of the vectors in tests/vectors, and made ones where the vectors have none."""

from __future__ import annotations

import importlib
import json
import pkgutil
import random
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import protocol
from node.pipeline.vouchers import StoredVoucher
from protocol.encoding.codec import Message, MessageShape, decode, encode, shapes
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
from protocol.errors import InvalidError, JoulemeshError
from protocol.identity.signing import Envelope
from scripts.fuzzing.mutators import raw

__all__ = ["VECTORS", "found_in_vectors", "job_vectors", "messages_of", "refilled", "wire_messages"]

VECTORS = Path(__file__).resolve().parents[2] / "tests" / "vectors"
_ATTEMPTS = 400


@cache
def wire_messages() -> list[type[Message]]:
    """Every message that travels, or is kept, by itself; in order of kind."""
    for module in pkgutil.walk_packages(protocol.__path__, "protocol."):
        importlib.import_module(module.name)
    found = [cls for cls in _below(Message) if cls.kind and cls.__module__.startswith("protocol.")]
    return sorted([*found, StoredVoucher], key=lambda cls: cls.kind)


def _below(cls: type[Message]) -> list[type[Message]]:
    return [each for direct in cls.__subclasses__() for each in (direct, *_below(direct))]


@cache
def job_vectors() -> dict[str, Any]:
    """tests/vectors/job.json."""
    loaded: dict[str, Any] = json.loads((VECTORS / "job.json").read_text())
    return loaded


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each)
        case dict():
            for each in value.values():
                yield from _texts(each)


@cache
def found_in_vectors() -> dict[str, tuple[bytes, ...]]:
    """The messages in the vectors and stored files, by kind; envelopes, and what is in them and in others, too."""
    kinds = wire_messages()
    found: dict[str, list[bytes]] = {cls.kind: [] for cls in kinds}
    waiting = [path.read_bytes() for path in sorted((VECTORS / "stored").glob("*.voucher"))]
    for name in ("job.json", "settlement.json"):
        for text in _texts(json.loads((VECTORS / name).read_text())):
            try:
                waiting.append(bytes.fromhex(text))
            except ValueError:
                continue
    for data in waiting:
        try:
            value: Message = decode(data, *kinds)
        except JoulemeshError:
            continue
        found[value.kind].append(data)
        if isinstance(value, Envelope):
            waiting.append(value.body)
        within = (getattr(value, name) for name, _ in shapes(type(value)))
        waiting += [encode(each) for each in within if isinstance(each, Message) and each.kind]
    return {kind: tuple(dict.fromkeys(each))[:12] for kind, each in found.items()}


def messages_of(cls: type[Message]) -> list[bytes]:
    """Valid bytes of one kind."""
    kept = list(found_in_vectors().get(cls.kind, ()))
    rng = random.Random(cls.kind)
    for _ in range(_ATTEMPTS):
        if len(kept) >= 4:
            break
        made = _made(cls, rng)
        if made is not None:
            kept.append(encode(made))
    return kept


def refilled(rng: random.Random, data: bytes, _others: Sequence[bytes]) -> bytes:
    """A message with one field, perhaps of a message within it, filled anew: what comes after the codec is reached."""
    try:
        value: Any = decode(data, *wire_messages())
        return encode(_refilled(value, rng))
    except JoulemeshError:
        return raw(rng, data, _others)


def _refilled(value: Any, rng: random.Random) -> Any:
    name, shape = rng.choice(shapes(type(value)))
    old = getattr(value, name)
    if isinstance(old, Message) and rng.random() < 0.8:
        return value.replace(**{name: _refilled(old, rng)})
    if isinstance(old, tuple) and old and isinstance(old[0], Message) and rng.random() < 0.8:
        at = rng.randrange(len(old))
        return value.replace(**{name: (*old[:at], _refilled(old[at], rng), *old[at + 1 :])})
    if type(old) is int and rng.random() < 0.6:
        return value.replace(**{name: max(0, old + rng.choice((-1, 1, 7, old)))})
    return value.replace(**{name: _value(shape, rng)})


def _made(cls: type[Message], rng: random.Random) -> Any:
    try:
        return cls(**{name: _value(shape, rng) for name, shape in shapes(cls)})
    except InvalidError:
        return None


def _value(shape: Shape, rng: random.Random) -> Any:
    match shape:
        case UintShape():
            return rng.choice((0, 1, rng.randrange(min(shape.uint.limit, 64)), shape.uint.limit - 1))
        case BytesShape():
            low, high = shape.size.low, shape.size.low if shape.size.high is None else shape.size.high
            return rng.randbytes(rng.choice((low, min(high, low + 40))))
        case TextShape():
            return rng.choice(("", "a", "DE", "FR"))[: shape.size.high]
        case BoolShape():
            return rng.random() < 0.5
        case EnumShape():
            return rng.choice(list(shape.enum))
        case OptionalShape():
            return None if rng.random() < 0.5 else _value(shape.inner, rng)
        case ListShape():
            count = min(shape.count.high, shape.count.low + rng.randrange(3))
            return tuple(_value(shape.inner, rng) for _ in range(count))
        case MessageShape():
            return next((made for _ in range(20) if (made := _made(shape.cls, rng)) is not None), None)
    raise TypeError(f"no sample of {shape}")
