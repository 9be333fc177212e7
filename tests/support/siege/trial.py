"""What is tried once and must be survived: full disks, read-only folders, forks, clocks, files that mean harm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from siege.field import Field

__all__ = ["TRIALS", "Bench", "Broken", "CannotBeTried", "Trial", "load", "trial"]

_MODULES = ("model_files", "disks", "forks")


class Broken(Exception):
    """What did not hold, in words."""


class CannotBeTried(Exception):
    """What this machine does not allow."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a trial is made with."""

    folder: Path
    """Its own."""
    field: Field
    """A network that several trials share: one that breaks it comes last."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Something that is tried once; `act` raises `Broken`."""

    name: str
    about: str
    act: Callable[[Bench], Awaitable[None]]


TRIALS: dict[str, Trial] = {}
"""By name, in the order in which they are run."""


def trial(act: Callable[[Bench], Awaitable[None]]) -> None:
    """Put a coroutine function on the list, under its own name and with the first line of its docstring."""
    name = act.__name__.replace("_", "-")
    TRIALS[name] = Trial(name, (act.__doc__ or "").partition("\n")[0], act)


def load() -> None:
    """Fill `TRIALS`."""
    for name in _MODULES:
        import_module(f"siege.trials.{name}")
