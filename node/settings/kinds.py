"""The kinds of value that a setting may have: how each is read, bounded and written back.

`parse` takes what TOML gives (text, integers, `Decimal` for fractions, lists) or the text of a variable or flag, and
returns what the configuration holds: fractions become integers of a smaller unit. It raises `ValueError`, to which the
reader adds which setting it was. `show` writes the TOML literal that `parse` reads back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, ClassVar, Protocol

from protocol.session.shaping_bounds import MAX_BIASES

__all__ = [
    "AUTO",
    "Biases",
    "Choice",
    "Fixed",
    "Folder",
    "Kind",
    "Layers",
    "MeterUnit",
    "Span",
    "Text",
    "Whole",
    "items_of",
    "text_of",
]


AUTO = "auto"
"""In the place of blocks: those that the market lacks most."""
METER_UNITS = ("W", "kW", "mW", "J", "mJ", "kJ", "MJ", "Wh", "mWh", "kWh", "Wmin")
"""As `node.energy` knows them."""


class Kind(Protocol):
    """One kind of value."""

    @property
    def metavar(self) -> str:
        """What ``--help`` shows in the place of the value."""

    def parse(self, raw: Any) -> Any:
        """The value. Raises ValueError, whose text says what is wrong."""

    def show(self, value: Any) -> str:
        """The TOML literal of a value."""

    @property
    def bounds(self) -> str:
        """Unit and bounds in a few words; empty where `metavar` says enough."""

    def describe(self) -> str:
        """What may be written, for people."""


def text_of(raw: Any) -> str:
    """What was given, without space around it. Raises ValueError for what is no text, or has control characters."""
    if not isinstance(raw, str):
        raise ValueError(f"{raw!r} is not text")
    if not raw.isprintable():
        raise ValueError(f"{raw!r} has control characters")
    return raw.strip()


@dataclass(frozen=True, slots=True)
class Text:
    """Text that may have to match a pattern."""

    what: str
    metavar: str = "TEXT"
    bounds: ClassVar[str] = ""
    pattern: str = ".+"

    def parse(self, raw: Any) -> str:
        text = text_of(raw)
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"{text!r} is not {self.what}")
        return text

    def show(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def describe(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    options: tuple[str, ...]
    metavar: str = "WORD"

    def parse(self, raw: Any) -> str:
        text = text_of(raw).lower()
        if text not in self.options:
            raise ValueError(f"{text!r} is none of {', '.join(self.options)}")
        return text

    def show(self, value: Any) -> str:
        return json.dumps(value)

    @property
    def bounds(self) -> str:
        return self.describe()

    def describe(self) -> str:
        return "one of " + ", ".join(self.options)


@dataclass(frozen=True, slots=True)
class MeterUnit:
    """What a meter's number is in. Capitals matter: MJ is not mJ."""

    metavar: str = "UNIT"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> str:
        text = text_of(raw)
        if text not in METER_UNITS:
            raise ValueError(f"{text!r} is none of {', '.join(METER_UNITS)}")
        return text

    def show(self, value: Any) -> str:
        return json.dumps(value)

    def describe(self) -> str:
        return "one of " + ", ".join(METER_UNITS)


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    unit: str
    low: int
    high: int
    metavar: str = "INTEGER"

    def parse(self, raw: Any) -> int:
        if isinstance(raw, str) and re.fullmatch(r"[+-]?\d{1,20}", raw.strip()):
            raw = int(raw)
        if type(raw) is not int:
            raise ValueError(f"{str(raw)!r} is not a whole number")
        if not self.low <= raw <= self.high:
            raise ValueError(f"{raw} {self.unit} is outside {self.low} to {self.high}")
        return raw

    def show(self, value: Any) -> str:
        return str(value)

    @property
    def bounds(self) -> str:
        return f"{self.unit}, {self.low} to {self.high}"

    def describe(self) -> str:
        return f"a whole number ({self.unit}) from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Fixed:
    """A decimal number, held as an integer of ``1 / 10**places`` units so that nothing is rounded."""

    unit: str
    places: int
    low: str
    high: str
    metavar: str = "NUMBER"

    def parse(self, raw: Any) -> int:
        try:
            if isinstance(raw, bool):
                raise InvalidOperation
            number = Decimal(raw.strip() if isinstance(raw, str) else raw)
        except (InvalidOperation, TypeError, ValueError):
            raise ValueError(f"{str(raw)!r} is not a number") from None
        if not number.is_finite() or not Decimal(self.low) <= number <= Decimal(self.high):
            raise ValueError(f"{raw} {self.unit} is outside {self.low} to {self.high}")
        scaled = number.scaleb(self.places)
        if scaled != scaled.to_integral_value():
            raise ValueError(f"{raw} has more than {self.places} decimals")
        return int(scaled)

    def show(self, value: Any) -> str:
        text = f"{Decimal(value).scaleb(-self.places):f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    @property
    def bounds(self) -> str:
        return f"{self.unit}, {self.low} to {self.high}"

    def describe(self) -> str:
        return f"a number ({self.unit}) from {self.low} to {self.high}, with at most {self.places} decimals"


@dataclass(frozen=True, slots=True)
class Folder:
    """A path."""

    metavar: str = "DIR"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> Path:
        text = text_of(raw)
        if not text:
            raise ValueError("the path is empty")
        try:
            return Path(text).expanduser()
        except RuntimeError:
            raise ValueError(f"{text!r} names a user who has no home directory") from None

    def show(self, value: Any) -> str:
        return json.dumps(str(value), ensure_ascii=False)

    def describe(self) -> str:
        return "a path; a relative one in a file is meant from the file's folder"


@dataclass(frozen=True, slots=True)
class Span:
    """Transformer blocks ``start:end``, the end not included; or `AUTO`, where the market says which."""

    metavar: str = "START:END|auto"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> tuple[int, int] | str:
        if text_of(raw).lower() == AUTO:
            return AUTO
        match = re.fullmatch(r"(\d{1,6}):(\d{1,6})", text_of(raw))
        if match is None:
            raise ValueError(f"{raw!r} is neither START:END nor {AUTO}")
        start, end = int(match[1]), int(match[2])
        if start >= end:
            raise ValueError(f"{raw!r} is empty: the end is one past the last block")
        return start, end

    def show(self, value: Any) -> str:
        return json.dumps(value if value == AUTO else f"{value[0]}:{value[1]}")

    def describe(self) -> str:
        return f'blocks as "START:END", counted from 0, the end not included; or {AUTO}'


@dataclass(frozen=True, slots=True)
class Layers:
    """Some layers of a model, ascending."""

    metavar: str = "NUMBERS"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> tuple[int, ...]:
        text = text_of(raw)
        if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", text.replace(" ", "")):
            raise ValueError(f"{text!r} is not a list of layers")
        layers = tuple(int(each) for each in text.split(","))
        if list(layers) != sorted(set(layers)):
            raise ValueError(f"{text!r} does not name different layers in ascending order")
        return layers

    def show(self, value: Any) -> str:
        return json.dumps(",".join(map(str, value)))

    def describe(self) -> str:
        return 'layers as "0,2,5", counted from 0, ascending'


def items_of(raw: Any) -> Sequence[str]:
    """The texts of a TOML list, a repeated flag, or text with commas. Raises ValueError."""
    if isinstance(raw, str):
        return [item.strip() for item in raw.split(",") if item.strip()]
    if isinstance(raw, (list, tuple)):
        return [part for item in raw for part in items_of(text_of(item))]
    raise ValueError(f"{raw!r} is not a list of texts")


@dataclass(frozen=True, slots=True)
class Biases:
    """What is added to the logits of tokens, in thousandths, each token once and by rising id."""

    metavar: str = "ID:NUMBER"
    bounds: ClassVar[str] = ""

    def parse(self, raw: Any) -> tuple[tuple[int, int], ...]:
        token, bias = Whole("token id", 0, (1 << 24) - 1), Fixed("of a logit", 3, "-100", "100")
        found: dict[int, int] = {}
        for item in items_of(raw):
            name, between, number = item.partition(":")
            if not between:
                raise ValueError(f"{item!r} is not a token id and a number, as 15:-100")
            if found.setdefault(token.parse(name), milli := bias.parse(number)) != milli:
                raise ValueError(f"token {name} is there twice")
        if len(found) > MAX_BIASES:
            raise ValueError(f"{len(found)} tokens, and {MAX_BIASES} are the most")
        return tuple(sorted(found.items()))

    def show(self, value: Any) -> str:
        return json.dumps([f"{token}:{Fixed('', 3, '-100', '100').show(milli)}" for token, milli in value])

    def describe(self) -> str:
        return "token ids, each with a number from -100 to 100, as 15:-100: a list in a file, commas elsewhere"
