"""Requests read strictly: bounded JSON, and parameters taken one by one, so that none is passed over in silence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from node.gateway.refusals import ApiError, invalid, unsupported
from protocol.encoding.strict_json import require_shallow
from protocol.errors import MalformedError

__all__ = ["Parameters", "parse_body"]

MAX_DEPTH = 48
"""Brackets that are open at once: a tool's schema has some."""
MAX_DIGITS = 40
"""Of one number."""


def parse_body(data: bytes) -> dict[str, Any]:
    """The JSON object of a request. Raises ApiError."""
    try:
        require_shallow(data, MAX_DEPTH)
        value = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_int=_number,
            parse_float=_number,
            parse_constant=_no_number,
        )
        if b"\\u" in data:  # the only way to spell half of a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except MalformedError as error:
        raise _no_json(error.message) from None
    except (ValueError, RecursionError):
        raise _no_json("the body is not JSON, or not whole") from None
    if type(value) is not dict:
        raise _no_json("the body is not a JSON object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise MalformedError("a JSON object with one key twice")
    return made


def _number(spelled: str) -> int | float:
    if len(spelled) > MAX_DIGITS:
        raise MalformedError(f"a number with more than {MAX_DIGITS} digits")
    value = float(spelled)
    if not math.isfinite(value):
        raise MalformedError("a number that is too large")
    return int(spelled) if spelled.lstrip("-").isdigit() else value


def _no_number(_spelled: str) -> NoReturn:
    raise MalformedError("NaN and infinity are no JSON")


def _no_json(message: str) -> ApiError:
    return invalid(None, message, code="invalid_json")


class Parameters:
    """The parameters of one request. What null stands at counts as left out.

    Whoever has taken all that it knows calls `require_all_taken`, which refuses the rest by name.
    """

    def __init__(self, values: Mapping[str, Any], within: str = "") -> None:
        self._left = {name: value for name, value in values.items() if value is not None}
        self._within = within

    def name(self, parameter: str) -> str:
        """As the caller knows it."""
        return f"{self._within}.{parameter}" if self._within else parameter

    def has(self, name: str) -> bool:
        """Whether it is given, and was not taken yet."""
        return name in self._left

    def take(self, name: str) -> Any:
        """As it came; None where it is left out."""
        return self._left.pop(name, None)

    def text(self, name: str, *, most: int = 1 << 16) -> str | None:
        """Text of at most so many characters. Raises ApiError."""
        value = self.take(name)
        if value is not None and (not isinstance(value, str) or len(value) > most):
            raise invalid(self.name(name), f"{self.name(name)} is text of at most {most} characters")
        return value

    def whole(self, name: str, low: int, high: int) -> int | None:
        """A whole number within bounds. Raises ApiError."""
        value = self.take(name)
        if value is not None and (type(value) is not int or not low <= value <= high):
            raise invalid(self.name(name), f"{self.name(name)} is a whole number from {low} to {high}")
        return value

    def scaled(self, name: str, low: float, high: float, scale: int) -> int | None:
        """A number from `low` to `high`, times `scale` and rounded. Raises ApiError."""
        value = self.take(name)
        if value is None:
            return None
        try:
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InvalidOperation
            return round(Decimal(repr(value)) * scale)
        except InvalidOperation:
            raise invalid(self.name(name), f"{self.name(name)} is a number from {low} to {high}") from None

    def truth(self, name: str) -> bool:
        """False where it is left out. Raises ApiError."""
        value = self.take(name)
        if value is not None and type(value) is not bool:
            raise invalid(self.name(name), f"{self.name(name)} is true or false")
        return bool(value)

    def within(self, name: str) -> Parameters:
        """An object of parameters; without any where it is left out. Raises ApiError."""
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise invalid(self.name(name), f"{self.name(name)} is an object")
        return Parameters(value or {}, self.name(name))

    def refuse(self, name: str, *neutral: object) -> None:
        """Take a parameter that nothing here can do, unless it says what holds anyway. Raises ApiError."""
        value = self.take(name)
        if value is not None and value not in neutral:
            raise unsupported(self.name(name))

    def require_all_taken(self) -> None:
        """Raises ApiError for the first that nobody knows."""
        for name in sorted(self._left):
            shown = self.name(name[:64])
            raise unsupported(shown, f"there is no parameter {shown!r} here")
