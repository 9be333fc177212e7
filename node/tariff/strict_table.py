"""A table of a TOML file read strictly: each key once and of its kind, and none that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from node.settings.kinds import Kind
from protocol.errors import ConfigurationError

__all__ = ["StrictTable"]

T = TypeVar("T")


class StrictTable:
    """Hands out the values of a table by key; `close` says which are left.

    Args:
        values: as TOML gives them.
        where: the table and its file, for people.
    """

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = values
        self._asked: set[str] = set()
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def take(self, key: str, kind: Kind) -> Any:
        """A value that has to be there. Raises ConfigurationError, which names key and table."""
        self._asked.add(key)
        if key not in self._values:
            raise ConfigurationError(f"{key} is missing {self.where}", hint=f"it takes {kind.describe()}")
        try:
            return kind.parse(self._values[key])
        except ValueError as error:
            raise ConfigurationError(f"{key} {self.where}: {error}", hint=f"it takes {kind.describe()}") from None

    def get(self, key: str, kind: Kind, default: T) -> Any | T:
        """A value, or the default. Raises ConfigurationError."""
        self._asked.add(key)
        return self.take(key, kind) if key in self._values else default

    def raw(self, key: str, default: Any = None) -> Any:
        """A value as TOML gives it, for a key with a shape of its own."""
        self._asked.add(key)
        return self._values.get(key, default)

    def table(self, key: str) -> StrictTable | None:
        """A table within; None where there is none. Raises ConfigurationError for anything else."""
        found = self.raw(key)
        if found is None:
            return None
        if not isinstance(found, dict):
            self.refuse(key, "it is a table", f"write [{key}]")
        return StrictTable(found, self.where.replace("at the top of", f"in [{key}] of"))

    def tables(self, key: str, most: int) -> list[StrictTable]:
        """The tables of a list. Raises ConfigurationError."""
        found = self.raw(key, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found) or len(found) > most:
            self.refuse(key, f"it is a list of at most {most} tables", f"write [[{key}]]")
        return [
            StrictTable(each, self.where.replace("at the top of", f"in [[{key}]] number {number} of"))
            for number, each in enumerate(found, 1)
        ]

    def checked(self, key: str, make: Callable[[Any], T], takes: str) -> T:
        """What `make` makes of a value. Raises ConfigurationError where that raises ValueError or TypeError."""
        value = self.raw(key)
        if value is None:
            raise ConfigurationError(f"{key} is missing {self.where}", hint=f"it takes {takes}")
        try:
            return make(value)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{key} {self.where}: {error}", hint=f"it takes {takes}") from None

    def refuse(self, key: str, why: str, hint: str) -> NoReturn:
        """Raises ConfigurationError about a key."""
        raise ConfigurationError(f"{key} {self.where}: {why}", hint=hint)

    def close(self) -> None:
        """Raises ConfigurationError for a key that nobody asked for."""
        for key in self._values.keys() - self._asked:
            near = difflib.get_close_matches(key, self._asked, 1)
            hint = f"did you mean {near[0]}?" if near else f"its keys are {', '.join(sorted(self._asked))}"
            raise ConfigurationError(f"unknown key {key!r} {self.where}", hint=hint)
