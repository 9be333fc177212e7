"""Hypothesis strategies for every wire message, derived from the same declarations that the codec uses."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from hypothesis import strategies as st

import protocol
from protocol.encoding.codec import Message, MessageShape, shapes
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
from protocol.errors import InvalidError
from protocol.geography.blocs import BLOCS_NOW
from protocol.identity.ids import MAX_BLOCKS
from protocol.policy.denials import DenialKind

for _module in pkgutil.walk_packages(protocol.__path__, "protocol."):
    importlib.import_module(_module.name)


def wire_messages() -> list[type[Message]]:
    """Every message that travels by itself, in order of kind."""
    found = [cls for cls in _below(Message) if cls.kind and cls.__module__.startswith("protocol.")]
    return sorted(found, key=lambda cls: cls.kind)


def typed_messages() -> list[type[Message]]:
    """Every message that is declared as typed data, in order of name."""
    found = [cls for cls in _below(Message) if cls.typed and cls.__module__.startswith("protocol.")]
    return sorted(found, key=lambda cls: cls.__name__)


def _below(cls: type[Message]) -> list[type[Message]]:
    return [each for direct in cls.__subclasses__() for each in (direct, *_below(direct))]


def _texts(most: int) -> st.SearchStrategy[str]:
    letters = st.characters(categories=["L", "N", "P"], max_codepoint=0x2FF)
    return st.text(letters, max_size=most // 2)


def _in_order(files: Any) -> tuple[Any, ...]:
    by_name = {file.name: file for file in files}
    return tuple(by_name[name] for name in sorted(by_name))


def of_shape(shape: Shape) -> st.SearchStrategy[Any]:
    """Values that fit one field."""
    match shape:
        case UintShape():
            return st.integers(0, shape.uint.limit - 1)
        case BytesShape():
            high = shape.size.low if shape.size.high is None else min(shape.size.high, shape.size.low + 64)
            return st.binary(min_size=shape.size.low, max_size=high)
        case TextShape():
            return _texts(min(shape.size.high, 32))
        case BoolShape():
            return st.booleans()
        case EnumShape():
            return st.sampled_from(list(shape.enum))
        case OptionalShape():
            return st.none() | of_shape(shape.inner)
        case ListShape():
            most = min(shape.count.high, shape.count.low + 3)
            return st.lists(of_shape(shape.inner), min_size=shape.count.low, max_size=most).map(tuple)
        case MessageShape():
            return arbitrary(shape.cls)
    raise TypeError(f"no strategy for {shape}")


def arbitrary(cls: type[Message]) -> st.SearchStrategy[Any]:
    """Messages of one class; values that its own rules refuse are left out."""
    fields = {name: of_shape(shape) for name, shape in shapes(cls)}

    def build(values: dict[str, Any]) -> Message | None:
        try:
            return cls(**values)
        except InvalidError:
            return None

    if "start" in fields and "end" in fields:  # a span: the end is above the start
        return st.tuples(st.integers(0, MAX_BLOCKS - 96), st.integers(1, 96)).map(
            lambda p: cls(start=p[0], end=p[0] + p[1])
        )
    if "allow" in fields:  # a policy: jurisdictions that exist
        fields["allow"] = fields["deny"] = st.lists(st.sampled_from(["DE", "FR", "EU"]), max_size=3).map(tuple)
        fields["blocs"], fields["origin"] = st.just(BLOCS_NOW), st.sampled_from(["DE", "FR-75"])
    if {"source", "to"} <= fields.keys():  # a corridor
        fields["source"] = fields["to"] = st.sampled_from(["DE", "EU"])
    if "inside_m" in fields:  # an anchor
        fields["place"] = st.sampled_from(["DE", "FR-75"])
    if "what" in fields:  # a denial
        fields["what"], fields["value"] = st.just(DenialKind.PLACE), st.sampled_from(["DE", "EU"])
    if "files" in fields:  # a manifest: names in order, each once
        fields["files"] = fields["files"].map(_in_order)
    return st.fixed_dictionaries(fields).map(build).filter(lambda value: value is not None)
