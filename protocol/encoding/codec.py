"""Canonical bytes for every message: bounded, strict, deterministic.

A message is a frozen dataclass whose annotations say all there is to check: sizes of integers, lengths of
bytes, text and lists. From them this module derives validation (when a message is built), encoding and decoding.

On the wire a message is one msgpack array ``[kind, field, field, ...]`` in field order; a message inside another
omits its kind. `decode` accepts exactly the bytes that `encode` would make: after building the message it encodes
it again and compares, so two different byte strings never mean the same message (docs/spec/wire.md, clause W1).

It does no signing and knows no message by name.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform

import msgpack

from protocol.encoding.compiled import Names, function, with_quick_init
from protocol.encoding.fields import (
    BoolShape,
    BytesShape,
    Count,
    EnumShape,
    ListShape,
    OptionalShape,
    Shape,
    Size,
    TextShape,
    TextSize,
    Uint,
    UintShape,
)
from protocol.errors import InvalidError, MalformedError

__all__ = [
    "Count",
    "Message",
    "Size",
    "TextSize",
    "Uint",
    "decode",
    "encode",
    "fields_to_wire",
    "message",
    "once_per_class",
    "shape_of",
    "shapes",
]

MAX_MESSAGE_BYTES = 64 * 1024
"""Bound on any encoded message, checked before a byte is decoded."""
_SPARE = 8
"""Items beyond the longest list that are read all the same, to say what is wrong."""


@dataclass(frozen=True, slots=True)
class MessageShape(Shape):
    cls: type[Message]

    def check(self, value: Any) -> None:
        if type(value) is not self.cls:
            raise InvalidError(f"expected {self.cls.__name__}, got {type(value).__name__}")

    def to_wire(self, value: Any) -> Any:
        return fields_to_wire(value)

    def from_wire(self, raw: Any) -> Any:
        return _build(self.cls, raw)

    def fits(self, value: str, names: Names) -> str:
        return f"type({value}) is {names.of(self.cls)}"

    def packed(self, value: str, names: Names) -> str:
        return f"{names.of(_packer(self.cls))}({value})"

    def built(self, raw: str, names: Names) -> str:
        return f"{names.of(_builder(self.cls))}({raw})"

    @property
    def widest(self) -> int:
        return _widest(self.cls)


def shape_of(annotation: Any) -> Shape:
    """The shape of one field annotation. Raises TypeError for an annotation that this codec does not know."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _annotated_shape(*typing.get_args(annotation)[:2])
    if origin in (types.UnionType, typing.Union):
        inner, nothing = typing.get_args(annotation)
        if nothing is types.NoneType:
            return OptionalShape(shape_of(inner))
    if isinstance(annotation, type):
        if issubclass(annotation, Message):
            return MessageShape(annotation)
        if issubclass(annotation, StrEnum):
            return EnumShape(annotation)
        if annotation is bool:
            return BoolShape()
    raise TypeError(f"no wire shape for {annotation!r}")


def _annotated_shape(base: Any, bound: Any) -> Shape:
    match bound:
        case Uint():
            return UintShape(bound)
        case Size():
            return BytesShape(bound)
        case TextSize():
            return TextShape(bound)
        case Count():
            return ListShape(shape_of(typing.get_args(base)[0]), bound)
    raise TypeError(f"no wire shape for {base!r} with {bound!r}")


class Message:
    """Base of every wire message. Its subclasses are declared with `@message`, and are checked when built.

    A value that does not fit raises `InvalidError`: here nobody knows yet who made it.
    """

    __slots__ = ()
    kind: ClassVar[str] = ""
    typed: ClassVar[bool] = False
    typed_as: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if _tester(type(self))(self):
            return
        for name, shape in shapes(type(self)):
            try:
                shape.check(getattr(self, name))
            except InvalidError as error:
                raise InvalidError(f"{type(self).__name__}.{name}: {error.message}") from None

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed, checked like any other."""
        return dataclasses.replace(self, **changes)  # type: ignore[type-var]


M = TypeVar("M", bound=Message)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def message(kind: str = "", *, typed: bool = False, typed_as: str = "") -> Callable[[type[M]], type[M]]:
    """Declare a message: a frozen, slotted, keyword-only dataclass whose `kind` names it and its version on the wire.

    A message without a kind can only travel inside another one. One that is `typed` may be signed or hashed as
    EIP-712 typed data, whose type is named `typed_as`, by default like the class.
    """

    def declare(cls: type[M]) -> type[M]:
        made = with_quick_init(dataclass(frozen=True, slots=True, kw_only=True)(cls))
        made.kind, made.typed, made.typed_as = kind, typed, typed_as or cls.__name__
        return made

    return declare


T = TypeVar("T")


def once_per_class(compute: Callable[[type[Message]], T]) -> Callable[[type[Message]], T]:
    """Remember what `compute` says of each message class."""
    known: dict[type, T] = {}

    @functools.wraps(compute)
    def remembered(cls: type[Message]) -> T:
        try:
            return known[cls]
        except KeyError:
            return known.setdefault(cls, compute(cls))

    return remembered


@once_per_class
def shapes(cls: type[Message]) -> tuple[tuple[str, Shape], ...]:
    """Name and shape of each field, in wire order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple((field.name, shape_of(hints[field.name])) for field in dataclasses.fields(cls))  # type: ignore[arg-type]


@once_per_class
def _tester(cls: type[Message]) -> Callable[[Message], bool]:
    """Whether each field of a message is as its shape says."""
    names = Names()
    return function("m", " and ".join(shape.fits(f"m.{name}", names) for name, shape in shapes(cls)) or "True", names)


@once_per_class
def _packer(cls: type[Message]) -> Callable[[Message], list[Any]]:
    names = Names()
    return function("m", f"[{', '.join(shape.packed(f'm.{name}', names) for name, shape in shapes(cls))}]", names)


@once_per_class
def _builder(cls: type[Message]) -> Callable[[list[Any]], Message]:
    """A message from its fields in wire form. What it raises is no reason to tell anybody: `_build` has that."""
    names = Names()
    fields = (f"{name}={shape.built(f'raw[{at}]', names)}" for at, (name, shape) in enumerate(shapes(cls)))
    refuse = names.of(functools.partial(_build, cls))
    whole = f"type(raw) is list and len(raw) == {len(shapes(cls))}"
    return function("raw", f"{names.of(cls)}({', '.join(fields)}) if {whole} else {refuse}(raw)", names)


def fields_to_wire(value: Message) -> list[Any]:
    """The message's fields as msgpack-ready values, without its kind."""
    return _packer(type(value))(value)


def _build(cls: type[M], raw: Any) -> M:
    expected = shapes(cls)
    if type(raw) is not list:  # text and bytes have items, too
        raise InvalidError(f"expected the fields of {cls.__name__} as a list")
    if len(raw) != len(expected):
        raise InvalidError(f"{cls.__name__} has {len(expected)} fields, got {len(raw)}")
    values = {}
    for (name, shape), item in zip(expected, raw, strict=True):
        try:
            values[name] = shape.from_wire(item)
        except InvalidError as error:
            raise InvalidError(f"{cls.__name__}.{name}: {error.message}") from None
    return cls(**values)


@once_per_class
def _widest(cls: type[Message]) -> int:
    """The items of the longest list in a message of this class."""
    return max(len(shapes(cls)) + 1, *(shape.widest for _, shape in shapes(cls)), 0)


@functools.lru_cache(maxsize=1024)
def _widest_of(accepted: tuple[type[Message], ...]) -> int:
    """Of messages of any of these classes."""
    return max(map(_widest, accepted))


def encode(value: Message) -> bytes:
    """Canonical bytes of a message that has a kind."""
    if not value.kind:
        raise TypeError(f"{type(value).__name__} has no kind of its own")
    packed: bytes = msgpack.packb([value.kind, *fields_to_wire(value)], use_bin_type=True)
    return packed


def decode(data: bytes, *accepted: type[M], limit: int = MAX_MESSAGE_BYTES) -> M:
    """The one message that `data` canonically encodes, of one of the `accepted` types.

    Raises `MalformedError` for anything else: too long, trailing or truncated bytes, another kind, a field that is
    missing, ill-typed or out of bounds, or an encoding that is not the canonical one.
    """
    raw = _unpacked(data, accepted, limit)
    for cls in accepted:
        if cls.kind == raw[0]:
            decoded = _decoded(cls, raw[1:])
            # Each field's value is what was on the wire: so what was read, written again, is the message's encoding.
            if msgpack.packb(raw, use_bin_type=True) != data:
                raise MalformedError(f"{cls.__name__} is not canonically encoded")
            return decoded
    raise MalformedError(f"unexpected message kind {raw[0][:40]!r}")


def raw_fields(data: bytes, cls: type[Message]) -> list[Any]:
    """The fields, in wire form, of what says that it is a message of this class; none of them is checked.

    For whoever makes the message anew from some of them, and compares its bytes with these. Raises MalformedError.
    """
    kind, *fields = _unpacked(data, (cls,), MAX_MESSAGE_BYTES)
    if kind != cls.kind or len(fields) != len(shapes(cls)):
        raise MalformedError(f"this is no {cls.kind}")
    return fields


def _unpacked(data: bytes, accepted: tuple[type[Message], ...], limit: int) -> list[Any]:
    """A list that begins with a kind. Raises MalformedError."""
    if len(data) > limit:
        raise MalformedError(f"message of {len(data)} bytes where {limit} are allowed")
    # A list's room is taken before its items are read, at each of hundreds of levels: so none may say that it is much
    # longer than any that these messages have.
    most = _widest_of(accepted) + _SPARE
    try:
        raw = msgpack.unpackb(data, max_array_len=most, max_map_len=0, ext_hook=_refuse_extension)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise MalformedError(f"not one msgpack value: {type(error).__name__}") from None
    if type(raw) is not list or not raw or type(raw[0]) is not str:
        raise MalformedError("not a message: expected a list that begins with a kind")
    return raw


def _decoded(cls: type[M], raw: list[Any]) -> M:
    try:
        return _builder(cls)(raw)  # type: ignore[return-value]
    except (InvalidError, KeyError, TypeError):
        try:
            return _build(cls, raw)
        except InvalidError as error:
            raise error.by_peer() from None


def _refuse_extension(code: int, data: bytes) -> None:
    raise ValueError("msgpack extension types are not part of the protocol")
