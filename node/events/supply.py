"""A provider's power: what it costs, whether its feeds are read, and when work is held back for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level, dollars

__all__ = [
    "EnergyPriceChanged",
    "FeedNotRead",
    "FeedRead",
    "SignalNotRead",
    "TariffRead",
    "TariffRefused",
    "WorkHeldBack",
    "WorkResumed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPriceChanged(Event):
    """From now on power costs something else here."""

    name: ClassVar[str] = "energy price changed"
    micro_per_kwh: int
    """Micro-units per kWh, with all that comes on top."""
    source: str
    """``table``, ``feed``, ``stale`` or ``fallback``."""

    def sentence(self) -> str:
        return f"power costs {dollars(self.micro_per_kwh)} per kWh now ({self.source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedNotRead(Event):
    """A feed of the tariff cannot be read; what it said before counts for a while, then the fallback."""

    name: ClassVar[str] = "feed not read"
    level: ClassVar[Level] = Level.WARNING
    of: str
    """``price``, ``pue`` or ``carbon``."""
    code: str
    """Why, for programs."""
    reason: str
    """For people; some of it may come from the feed."""
    source: str
    """What counts now: ``feed`` as long as it has said enough, then ``stale``, then ``fallback``."""

    def sentence(self) -> str:
        return f"cannot read the feed of {self.of}: {self.reason}; what counts now: {self.source}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRead(Event):
    """After `FeedNotRead`: the feed is read again."""

    name: ClassVar[str] = "feed read again"
    of: str
    """``price``, ``pue`` or ``carbon``."""

    def sentence(self) -> str:
        return f"the feed of {self.of} is read again"


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffRefused(Event):
    """The tariff file has changed, and is wrong: what it said before still counts."""

    name: ClassVar[str] = "tariff refused"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """Which key is wrong, and how."""
    hint: str
    """What to do."""

    def sentence(self) -> str:
        return f"the tariff file is not taken over: {self.reason} ({self.hint})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffRead(Event):
    """After `TariffRefused`: the tariff file makes sense again, and counts."""

    name: ClassVar[str] = "tariff read again"

    def sentence(self) -> str:
        return "the tariff file is taken over"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalNotRead(Event):
    """The curtailment signal cannot be read; the last one counts until it ends."""

    name: ClassVar[str] = "signal not read"
    level: ClassVar[Level] = Level.WARNING
    code: str
    """Why, for programs."""
    reason: str
    """For people."""

    def sentence(self) -> str:
        return f"cannot read the curtailment signal: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkHeldBack(Event):
    """The node takes less work, or none, because of its power."""

    name: ClassVar[str] = "work held back"
    level: ClassVar[Level] = Level.WARNING
    how: str
    """``shed``: no batch work; ``drain``: no offer is out, and what runs ends; ``paused``: nothing runs any more."""
    reason: str
    """For people."""
    jobs: int
    """That run."""

    def sentence(self) -> str:
        done = {"shed": "takes no batch work", "drain": "takes no work, and ends what runs", "paused": "is paused"}
        return f"this node {done.get(self.how, self.how)}: {self.reason}; {self.jobs} jobs run"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkResumed(Event):
    """After `WorkHeldBack`: the node takes every job again."""

    name: ClassVar[str] = "work resumed"

    def sentence(self) -> str:
        return "this node takes every job again"
