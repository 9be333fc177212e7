"""Functions that the fields of a message class spell out, as `dataclasses` spells out its ``__init__``.

What the codec does to every message that passes is the same for all of a class. So it is written down once as one
expression, and costs no call for each field. The expressions are made of shapes alone: nothing that came from outside
is in them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Names", "function", "with_quick_init"]

T = TypeVar("T")


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


def with_quick_init(cls: type[T]) -> type[T]:
    """A frozen dataclass with slots, whose ``__init__`` fills the slots themselves.

    The one that `dataclasses` makes calls ``object.__setattr__`` for each field, which first looks through the class's
    ancestors: most of the time that it took to build a message went there.
    """
    names, parameters, steps = Names(), ["self"], list[str]()
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    if any(field.kw_only for field in fields):
        parameters.append("*")
    for field in fields:
        given = field.name
        if field.default is not dataclasses.MISSING:
            given += f"={names.of(field.default)}"
        parameters.append(given)
        steps.append(f"{names.of(getattr(cls, field.name).__set__)}(self, {field.name})")
    if hasattr(cls, "__post_init__"):
        steps.append("self.__post_init__()")
    source = f"lambda {', '.join(parameters)}: ({', '.join(steps)},) and None"
    made = eval(source, names.known)  # noqa: S307 - of the class's own declaration alone
    made.__name__, made.__qualname__, made.__module__ = "__init__", f"{cls.__qualname__}.__init__", cls.__module__
    cls.__init__ = made  # type: ignore[method-assign]
    return cls
