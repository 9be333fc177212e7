"""A mapping that forgets its oldest keys: what may be remembered, but not without a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Recent"]

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Holds the `limit` keys that were put last."""

    __slots__ = ("_limit", "_values")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: dict[Key, Value] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._values)

    def get(self, key: Key) -> Value | None:
        """What was put under `key`, as long as it is remembered."""
        return self._values.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Remember, as the newest; the oldest goes where there are too many."""
        self._values.pop(key, None)
        self._values[key] = value
        if len(self._values) > self._limit:
            del self._values[next(iter(self._values))]

    def pop(self, key: Key) -> Value | None:
        """Forget a key."""
        return self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
