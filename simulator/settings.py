"""Strict reading of a TOML table into a frozen dataclass: every key known, typed and within its bounds, or an error.

Numbers with a fraction are read as decimals and kept as integers of a fixed unit (0.08 dollars are 80,000
micro-units), so what a researcher types is exactly what the kernels calculate with. Knows nothing of the market.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from protocol.errors import ConfigurationError

__all__ = ["choice", "decimal", "flag", "pair", "read_named", "read_table", "text", "unknown_key", "whole", "words"]

Reader = Callable[[Any, str], Any]
T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_REQUIRED: Any = dataclasses.MISSING


def whole(low: int, high: int, default: Any = _REQUIRED) -> Any:
    """A field that holds an integer in ``low..high``."""

    def read(value: Any, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigurationError(f"{key} = {value!r}: must be a whole number", hint=f"from {low} to {high}")
        _check_bounds(value, key, low, high, str)
        return value

    return _setting(read, default, bounds=(low, high))


def decimal(scale: int, low: str, high: str, default: Any = _REQUIRED) -> Any:
    """A field that holds ``number * scale`` as an integer; bounds and default are written in the TOML's own unit."""
    lowest, highest = int(Decimal(low) * scale), int(Decimal(high) * scale)

    def read(value: Any, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            raise ConfigurationError(f"{key} = {value!r}: must be a number", hint=f"from {low} to {high}")
        number = Decimal(value)
        if not number.is_finite():
            raise ConfigurationError(f"{key} = {value}: must be a finite number", hint=f"from {low} to {high}")
        scaled = number * scale
        _check_bounds(scaled, key, lowest, highest, lambda bound: f"{Decimal(bound) / scale:f}")
        if scaled != scaled.to_integral_value():
            raise ConfigurationError(f"{key} = {value}: finer than 1/{scale}", hint=f"round it to 1/{scale}")
        return int(scaled)

    given = default if default is _REQUIRED else int(Decimal(default) * scale)
    return _setting(read, given, bounds=(lowest, highest), scale=scale)


def text(default: Any = _REQUIRED) -> Any:
    """A field that holds a line or paragraph of text."""
    return _setting(_read_text, default)


def choice(options: Iterable[str], default: Any = _REQUIRED) -> Any:
    """A field that holds one of a few words."""
    known = tuple(options)

    def read(value: Any, key: str) -> str:
        if value not in known:
            raise ConfigurationError(f"{key} = {value!r} is not known", hint="one of: " + ", ".join(known))
        return str(value)

    return _setting(read, default, options=known)


def flag(default: bool) -> Any:
    """A field that holds true or false."""

    def read(value: Any, key: str) -> bool:
        if not isinstance(value, bool):
            raise ConfigurationError(f"{key} = {value!r}: must be true or false", hint="without quotes")
        return value

    return _setting(read, default, options=("true", "false"))


def pair(low: int, high: int) -> Any:
    """A field that holds a list of two rising whole numbers, or nothing."""

    def read(value: Any, key: str) -> tuple[int, ...]:
        if not isinstance(value, list) or len(value) != 2 or any(type(each) is not int for each in value):
            raise ConfigurationError(f"{key} must be two whole numbers", hint="like [0, 40]")
        for each in value:
            _check_bounds(each, key, low, high, str)
        if value[0] >= value[1]:
            raise ConfigurationError(f"{key} must rise", hint="like [0, 40]")
        return tuple(value)

    return _setting(read, (), bounds=(low, high))


def words(default: tuple[str, ...] = ()) -> Any:
    """A field that holds a list of different words, kept sorted."""

    def read(value: Any, key: str) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise ConfigurationError(f"{key} must be a list of words", hint='like ["IS", "NO"]')
        if len(set(value)) != len(value):
            raise ConfigurationError(f"{key} names something twice", hint="leave the second one out")
        return tuple(sorted(value))

    return _setting(read, default)


def read_table(kind: type[T], table: Any, where: str) -> T:
    """A `kind` from one TOML table.

    Raises:
        ConfigurationError: a key is unknown (the nearest known one is in the hint), missing, ill-typed or out of range.
    """
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where} must be a table", hint=f"write [{where}]")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # T is a dataclass
    for key in table:
        if key not in fields:
            raise unknown_key(f"{where}.{key}", key, fields)
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = field.metadata["read"](table[name], f"{where}.{name}")
        elif field.default is _REQUIRED:
            raise ConfigurationError(f"{where}.{name} is missing", hint=f"add it under [{where}]")
    return kind(**values)


def read_named(kind: type[T], tables: Any, where: str, *, least: int = 1) -> dict[str, T]:
    """One `kind` for each sub-table of `tables`, by name; at least `least` of them."""
    if tables is None and not least:
        return {}
    if not isinstance(tables, Mapping) or len(tables) < least:
        raise ConfigurationError(f"no {where} is given", hint=f"add a table [{where}.NAME]")
    for name in tables:
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{where}.{name!r} is not a name", hint="letters, digits, - _ . and at most 40")
    return {name: read_table(kind, table, f"{where}.{name}") for name, table in tables.items()}


def unknown_key(path: str, key: str, known: Iterable[str]) -> ConfigurationError:
    """The error for a key that does not exist, with the nearest one that does."""
    names = list(known)
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "known here: " + ", ".join(names)
    return ConfigurationError(f"unknown key {path}", hint=hint)


def _setting(read: Reader, default: Any, **about: Any) -> Any:
    """A field; its metadata also holds what may be in it: `bounds` in the integer's own unit, or `options`."""
    if default is _REQUIRED:
        return dataclasses.field(metadata={"read": read, **about})
    return dataclasses.field(default=default, metadata={"read": read, **about})


def _read_text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{key} must be text", hint='put it in "quotes"')
    return " ".join(value.split())


def _check_bounds(value: Any, key: str, low: int, high: int, show: Callable[[int], str]) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"{key} is out of range", hint=f"from {show(low)} to {show(high)}")
