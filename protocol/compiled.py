"""Functions that the fields of a message class spell out, as `dataclasses` spells out its ``__init__``.

What the codec does to every message that passes is the same for all of a class. So it is written down once as one
expression, and costs no call for each field. The expressions are made of shapes alone: nothing that came from outside
is in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Names", "function"]


class Names:
    """What an expression refers to."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {"__builtins__": {}}
        for each in (all, int, len, list, str, bool, bytes, tuple, type):
            self._known[each.__name__] = each

    def of(self, thing: Any) -> str:
        """A name for a value."""
        name = f"_{len(self._known)}"
        self._known[name] = thing
        return name

    @property
    def known(self) -> dict[str, Any]:
        """By name."""
        return self._known


def function(argument: str, expression: str, names: Names) -> Callable[[Any], Any]:
    """The function of one argument that an expression says."""
    made: Callable[[Any], Any] = eval(f"lambda {argument}: {expression}", names.known)  # noqa: S307 - of shapes alone
    return made
