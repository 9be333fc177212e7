"""Canonical bytes for every message: bounded, strict, deterministic.

A message is a frozen dataclass whose annotations say all there is to check: sizes of integers, lengths of
bytes, text and lists. From them this module derives validation (when a message is built), encoding and decoding.

On the wire a message is one msgpack array ``[kind, field, field, ...]`` in field order; a message inside another
omits its kind. `decode` accepts exactly the bytes that `encode` would make: after building the message it encodes
it again and compares, so two different byte strings never mean the same message (docs/spec/wire.md, clause W1).

It does no signing and knows no message by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform

import msgpack

from protocol.errors import InvalidError, MalformedError
from protocol.text import is_plain_text

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


@dataclass(frozen=True, slots=True)
class Uint:
    """An unsigned integer of `bits`, at most `most`; values stay below 2**63 so that SQL and numpy hold them exactly.

    `bits` is its type where it is signed as typed data. `most` is what no sender may go beyond, so that whatever is
    counted, allocated or looped over because of a message has a bound that the message does not set.
    """

    bits: int
    most: int | None = None

    @property
    def limit(self) -> int:
        """The least number that is too large."""
        widest = 1 << min(self.bits, 63)
        return widest if self.most is None else min(widest, self.most + 1)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of `low` to `high` length (exactly `low` when `high` is not given)."""

    low: int
    high: int | None = None


@dataclass(frozen=True, slots=True)
class TextSize:
    """Text of at most `high` bytes in UTF-8."""

    high: int


@dataclass(frozen=True, slots=True)
class Count:
    """A list of `low` to `high` items."""

    low: int
    high: int


class Shape:
    """How one annotated type is checked, encoded and decoded. Each check raises `InvalidError`."""

    def check(self, value: Any) -> None:
        raise TypeError(f"{type(self).__name__} does not check values")

    def to_wire(self, value: Any) -> Any:
        return value

    def from_wire(self, raw: Any) -> Any:
        return raw


@dataclass(frozen=True, slots=True)
class UintShape(Shape):
    uint: Uint

    def check(self, value: Any) -> None:
        if type(value) is not int:
            raise InvalidError(f"expected an integer, got {type(value).__name__}")
        if not 0 <= value < self.uint.limit:
            bits = min(self.uint.bits, 63)
            raise InvalidError(f"{value} is outside 0..{f'2^{bits}-1' if self.uint.most is None else self.uint.most}")


@dataclass(frozen=True, slots=True)
class BytesShape(Shape):
    size: Size

    def check(self, value: Any) -> None:
        if type(value) is not bytes:
            raise InvalidError(f"expected bytes, got {type(value).__name__}")
        high = self.size.low if self.size.high is None else self.size.high
        if not self.size.low <= len(value) <= high:
            raise InvalidError(f"{len(value)} bytes where {self.size.low} to {high} are allowed")


@dataclass(frozen=True, slots=True)
class TextShape(Shape):
    size: TextSize

    def check(self, value: Any) -> None:
        if type(value) is not str:
            raise InvalidError(f"expected text, got {type(value).__name__}")
        try:
            length = len(value.encode())
        except UnicodeEncodeError:
            raise InvalidError("text that is not valid Unicode") from None
        if length > self.size.high:
            raise InvalidError(f"text of {length} bytes where {self.size.high} are allowed")
        if not is_plain_text(value):
            raise InvalidError("text with a character that no message may hold")


class BoolShape(Shape):
    def check(self, value: Any) -> None:
        if type(value) is not bool:
            raise InvalidError(f"expected true or false, got {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class EnumShape(Shape):
    enum: type[StrEnum]

    def check(self, value: Any) -> None:
        if type(value) is not self.enum:
            raise InvalidError(f"expected one of {', '.join(self.enum)}")

    def to_wire(self, value: Any) -> Any:
        return str(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is str:
            with contextlib.suppress(ValueError):
                return self.enum(raw)
        raise InvalidError(f"expected one of {', '.join(self.enum)}")


@dataclass(frozen=True, slots=True)
class OptionalShape(Shape):
    inner: Shape

    def check(self, value: Any) -> None:
        if value is not None:
            self.inner.check(value)

    def to_wire(self, value: Any) -> Any:
        return None if value is None else self.inner.to_wire(value)

    def from_wire(self, raw: Any) -> Any:
        return None if raw is None else self.inner.from_wire(raw)


@dataclass(frozen=True, slots=True)
class ListShape(Shape):
    inner: Shape
    count: Count

    def check(self, value: Any) -> None:
        if type(value) is not tuple:
            raise InvalidError(f"expected a list, got {type(value).__name__}")
        self._check_count(len(value))
        for item in value:
            self.inner.check(item)

    def _check_count(self, length: int) -> None:
        if not self.count.low <= length <= self.count.high:
            raise InvalidError(f"{length} items where {self.count.low} to {self.count.high} are allowed")

    def to_wire(self, value: Any) -> Any:
        return [self.inner.to_wire(item) for item in value]

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not list:
            raise InvalidError(f"expected a list, got {type(raw).__name__}")
        self._check_count(len(raw))
        return tuple(self.inner.from_wire(item) for item in raw)


@dataclass(frozen=True, slots=True)
class MessageShape(Shape):
    cls: type[Message]

    def check(self, value: Any) -> None:
        if type(value) is not self.cls:
            raise InvalidError(f"expected {self.cls.__name__}, got {type(value).__name__}")

    def to_wire(self, value: Any) -> Any:
        return fields_to_wire(value)

    def from_wire(self, raw: Any) -> Any:
        if type(raw) is not list:
            raise InvalidError(f"expected the fields of {self.cls.__name__} as a list")
        return _build(self.cls, raw)


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

    def __post_init__(self) -> None:
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
def message(kind: str = "", *, typed: bool = False) -> Callable[[type[M]], type[M]]:
    """Declare a message: a frozen, slotted, keyword-only dataclass whose `kind` names it and its version on the wire.

    A message without a kind can only travel inside another one. One that is `typed` may be signed or hashed as
    EIP-712 typed data.
    """

    def declare(cls: type[M]) -> type[M]:
        made = dataclass(frozen=True, slots=True, kw_only=True)(cls)
        made.kind, made.typed = kind, typed
        return made

    return declare


T = TypeVar("T")


def once_per_class(compute: Callable[[type[Message]], T]) -> Callable[[type[Message]], T]:
    """Remember what `compute` says of each message class."""
    known: dict[type, T] = {}

    @functools.wraps(compute)
    def remembered(cls: type[Message]) -> T:
        if cls not in known:
            known[cls] = compute(cls)
        return known[cls]

    return remembered


@once_per_class
def shapes(cls: type[Message]) -> tuple[tuple[str, Shape], ...]:
    """Name and shape of each field, in wire order."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple((field.name, shape_of(hints[field.name])) for field in dataclasses.fields(cls))  # type: ignore[arg-type]


def fields_to_wire(value: Message) -> list[Any]:
    """The message's fields as msgpack-ready values, without its kind."""
    return [shape.to_wire(getattr(value, name)) for name, shape in shapes(type(value))]


def _build(cls: type[M], raw: list[Any]) -> M:
    expected = shapes(cls)
    if len(raw) != len(expected):
        raise InvalidError(f"{cls.__name__} has {len(expected)} fields, got {len(raw)}")
    values = {}
    for (name, shape), item in zip(expected, raw, strict=True):
        try:
            values[name] = shape.from_wire(item)
        except InvalidError as error:
            raise InvalidError(f"{cls.__name__}.{name}: {error.message}") from None
    return cls(**values)


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
    if len(data) > limit:
        raise MalformedError(f"message of {len(data)} bytes where {limit} are allowed")
    try:
        raw = msgpack.unpackb(data, raw=False, strict_map_key=True, use_list=True, ext_hook=_refuse_extension)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError) as error:
        raise MalformedError(f"not one msgpack value: {type(error).__name__}") from None
    if type(raw) is not list or not raw or type(raw[0]) is not str:
        raise MalformedError("not a message: expected a list that begins with a kind")
    for cls in accepted:
        if cls.kind == raw[0]:
            try:
                decoded = _build(cls, raw[1:])
            except InvalidError as error:
                raise error.by_peer() from None
            if encode(decoded) != data:
                raise MalformedError(f"{cls.__name__} is not canonically encoded")
            return decoded
    raise MalformedError(f"unexpected message kind {raw[0][:40]!r}")


def _refuse_extension(code: int, data: bytes) -> None:
    raise ValueError("msgpack extension types are not part of the protocol")
