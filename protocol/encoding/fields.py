"""What the annotation of a message's field says: how its values are checked, encoded and decoded.

Messages themselves, and the bytes that they become, are in `codec`.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from protocol.encoding.compiled import Names
from protocol.encoding.text import is_plain_text
from protocol.errors import InvalidError

__all__ = [
    "BoolShape",
    "BytesShape",
    "Count",
    "EnumShape",
    "ListShape",
    "OptionalShape",
    "Shape",
    "Size",
    "TextShape",
    "TextSize",
    "Uint",
    "UintShape",
]


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
    """How one annotated type is checked, encoded and decoded. Each check raises `InvalidError`.

    `fits`, `packed` and `built` are source for what passes: whether a value does, its wire form, and the way back. What
    they refuse or fail at is looked at again, with `check` and `from_wire`, which say why.
    """

    @property
    def widest(self) -> int:
        """The items of the longest list in a value."""
        return 0

    def check(self, value: Any) -> None:
        raise TypeError(f"{type(self).__name__} does not check values")

    def to_wire(self, value: Any) -> Any:
        return value

    def from_wire(self, raw: Any) -> Any:
        return raw

    def fits(self, value: str, names: Names) -> str:
        return f"{names.of(functools.partial(_passes, self))}({value})"

    def packed(self, value: str, names: Names) -> str:
        return value

    def built(self, raw: str, names: Names) -> str:
        return raw


def _passes(shape: Shape, value: Any) -> bool:
    try:
        shape.check(value)
    except InvalidError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class UintShape(Shape):
    uint: Uint

    def check(self, value: Any) -> None:
        if type(value) is not int:
            raise InvalidError(f"expected an integer, got {type(value).__name__}")
        if not 0 <= value < self.uint.limit:
            bits = min(self.uint.bits, 63)
            raise InvalidError(f"{value} is outside 0..{f'2^{bits}-1' if self.uint.most is None else self.uint.most}")

    def fits(self, value: str, names: Names) -> str:
        return f"type({value}) is int and 0 <= {value} < {self.uint.limit}"


@dataclass(frozen=True, slots=True)
class BytesShape(Shape):
    size: Size

    def check(self, value: Any) -> None:
        if type(value) is not bytes:
            raise InvalidError(f"expected bytes, got {type(value).__name__}")
        high = self.size.low if self.size.high is None else self.size.high
        if not self.size.low <= len(value) <= high:
            raise InvalidError(f"{len(value)} bytes where {self.size.low} to {high} are allowed")

    def fits(self, value: str, names: Names) -> str:
        high = self.size.low if self.size.high is None else self.size.high
        return f"type({value}) is bytes and {self.size.low} <= len({value}) <= {high}"


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

    def fits(self, value: str, names: Names) -> str:
        return f"type({value}) is bool"


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

    def fits(self, value: str, names: Names) -> str:
        return f"type({value}) is {names.of(self.enum)}"

    def packed(self, value: str, names: Names) -> str:
        return f"str({value})"

    def built(self, raw: str, names: Names) -> str:
        return f"{names.of({each.value: each for each in self.enum})}[{raw}]"


@dataclass(frozen=True, slots=True)
class OptionalShape(Shape):
    inner: Shape

    @property
    def widest(self) -> int:
        return self.inner.widest

    def check(self, value: Any) -> None:
        if value is not None:
            self.inner.check(value)

    def to_wire(self, value: Any) -> Any:
        return None if value is None else self.inner.to_wire(value)

    def from_wire(self, raw: Any) -> Any:
        return None if raw is None else self.inner.from_wire(raw)

    def fits(self, value: str, names: Names) -> str:
        return f"({value} is None or {self.inner.fits(value, names)})"

    def packed(self, value: str, names: Names) -> str:
        return f"(None if {value} is None else {self.inner.packed(value, names)})"

    def built(self, raw: str, names: Names) -> str:
        return f"(None if {raw} is None else {self.inner.built(raw, names)})"


@dataclass(frozen=True, slots=True)
class ListShape(Shape):
    inner: Shape
    count: Count

    @property
    def widest(self) -> int:
        return max(self.count.high, self.inner.widest)

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
        return tuple(self.inner.from_wire(item) for item in self._items(raw))

    def _items(self, raw: Any) -> list[Any]:
        if type(raw) is not list:
            raise InvalidError(f"expected a list, got {type(raw).__name__}")
        self._check_count(len(raw))
        return raw

    def fits(self, value: str, names: Names) -> str:
        some = f"type({value}) is tuple and {self.count.low} <= len({value}) <= {self.count.high}"
        return f"{some} and all([{self.inner.fits('item', names)} for item in {value}])"

    def packed(self, value: str, names: Names) -> str:
        return f"[{self.inner.packed('item', names)} for item in {value}]"

    def built(self, raw: str, names: Names) -> str:
        return f"tuple([{self.inner.built('item', names)} for item in {names.of(self._items)}({raw})])"
