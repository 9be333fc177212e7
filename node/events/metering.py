"""A node's meter of energy: that it fails, works again, or is not its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level

__all__ = ["EnergyNotKept", "MeterFailed", "MeterNotShared", "MeterReadAgain", "MeterShared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFailed(Event):
    """The meter cannot be read, or says what cannot be; figures are those of before until it can be believed again."""

    name: ClassVar[str] = "meter failed"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """For people; it may come from the meter."""
    hint: str
    """What to look at; may be empty."""

    def sentence(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.reason}{hint}; until it works again receipts go by the figures of before, as a model"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterReadAgain(Event):
    """The meter works again."""

    name: ClassVar[str] = "meter read again"
    meter: str
    """What is read."""

    def sentence(self) -> str:
        return f"{self.meter} works again: receipts go by what it measures"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterShared(Event):
    """Other nodes of this machine read the same counter, more or fewer than before."""

    name: ClassVar[str] = "meter shared"
    meter: str
    """What is read."""
    nodes: int
    """That have their part of it, this one included."""

    def sentence(self) -> str:
        if self.nodes == 1:
            return f"{self.meter} is this node's alone"
        return f"{self.nodes} nodes share {self.meter}: each counts its part, by the time that it computes"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterNotShared(Event):
    """Nodes of this machine that read the same counter cannot know of each other."""

    name: ClassVar[str] = "meter not shared"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """Why, for people."""

    def sentence(self) -> str:
        return f"{self.reason}: if another node reads the same meter, both count all of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyNotKept(Event):
    """What the meter says cannot be written down for `joule energy`."""

    name: ClassVar[str] = "energy not kept"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """Why, for people."""

    def sentence(self) -> str:
        return f"{self.reason}: joule energy shows nothing new until the node is started again"
