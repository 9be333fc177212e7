"""The life of any process: how it starts, follows its settings, and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level, short

__all__ = [
    "ClockAhead",
    "ClockBehind",
    "ClockRight",
    "LedgerReady",
    "MetricsReady",
    "PeersNotKept",
    "RestartNeeded",
    "SettingsChanged",
    "SettingsRefused",
    "StandingBy",
    "Starting",
    "Stopped",
    "Stopping",
    "TookOver",
    "TracesNotSent",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Starting(Event):
    """A step of starting has begun; it may take seconds."""

    name: ClassVar[str] = "starting"
    step: str
    """What is being done, such as ``loading blocks 0:2 of joule-demo``."""

    def sentence(self) -> str:
        return f"starting: {self.step}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerReady(Event):
    """A ledger serves."""

    name: ClassVar[str] = "ledger ready"
    url: str
    """Where it serves HTTP."""
    peer: str
    """The multiaddr of its libp2p host, through which others find each other."""
    operator: bytes
    """Address of the key that signs its checkpoints."""
    verifier_key: str
    """What readers check its checkpoints with."""
    faucet: bool
    """Whether it gives away play money."""

    def sentence(self) -> str:
        money = ", with play money from its faucet" if self.faucet else ""
        return f"the ledger is ready at {self.url}, run by {short(self.operator)}{money}; peer {self.peer}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsReady(Event):
    """Figures of this process can be collected."""

    name: ClassVar[str] = "metrics ready"
    url: str
    """Where this machine finds them."""

    def sentence(self) -> str:
        return f"metrics are at {self.url}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesNotSent(Event):
    """A collector does not take traces: they are lost until it does."""

    name: ClassVar[str] = "traces not sent"
    level: ClassVar[Level] = Level.WARNING
    collector: str
    """Its host."""
    reason: str
    """For people."""

    def sentence(self) -> str:
        return f"traces are lost, {self.collector} does not take them: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingBy(Event):
    """A front end of a ledger does not write: it serves reads, and takes over when nobody writes."""

    name: ClassVar[str] = "standing by"
    writer: str
    """URL of the one that writes, as that one calls itself; empty where nobody is known to."""
    reason: str
    """Why it is not this one."""

    def sentence(self) -> str:
        writer = f"the writer is {self.writer}" if self.writer else "nobody is known to write now"
        return f"standby: reads only, {writer} ({self.reason})"


@dataclass(frozen=True, slots=True, kw_only=True)
class TookOver(Event):
    """A front end of a ledger that stood by writes from now on."""

    name: ClassVar[str] = "took over"
    size: int
    """Entries that the ledger has."""
    seconds: float
    """Since it began to stand by."""

    def sentence(self) -> str:
        return f"took over: this front end writes now, from entry {self.size} on"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeersNotKept(Event):
    """What peers did cannot be written, or read; it counts in this process alone until it can."""

    name: ClassVar[str] = "peers not kept"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """What the file or its disk says."""

    def sentence(self) -> str:
        return f"what is known of peers is not on disk: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAhead(Event):
    """The ledger's clock has jumped ahead: no operation is taken until it is right, or the operator says that it is."""

    name: ClassVar[str] = "clock ahead"
    level: ClassVar[Level] = Level.ERROR
    seconds: int
    """By how much."""

    def sentence(self) -> str:
        return (
            f"THE CLOCK IS {self.seconds} s AHEAD of what it should be: no operation is taken until it is set right, "
            "or the ledger is restarted with --accept-clock"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockBehind(Event):
    """The ledger's clock is behind its last entry, whose time goes on until the clock has caught up."""

    name: ClassVar[str] = "clock behind"
    level: ClassVar[Level] = Level.WARNING
    seconds: int
    """By how much."""

    def sentence(self) -> str:
        return (
            f"the clock is {self.seconds} s behind the last entry, whose time stands still until then: sessions that "
            "expire before it cannot be opened"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRight(Event):
    """The ledger's clock is believed again."""

    name: ClassVar[str] = "clock right"

    def sentence(self) -> str:
        return "the clock is right again: operations are taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChanged(Event):
    """Settings were read again, and some are now different."""

    name: ClassVar[str] = "settings changed"
    settings: tuple[str, ...]
    """Keys of those that changed; empty where the file says what is in force already."""

    def sentence(self) -> str:
        if not self.settings:
            return "read the settings again: nothing has changed"
        return f"read the settings again: {', '.join(self.settings)} changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartNeeded(Event):
    """Settings were read again, and some that differ count at start only."""

    name: ClassVar[str] = "restart needed"
    level: ClassVar[Level] = Level.WARNING
    settings: tuple[str, ...]
    """Keys of those that differ; what they said at start stays in force."""

    def sentence(self) -> str:
        return f"needs a restart: {', '.join(self.settings)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsRefused(Event):
    """Settings could not be read again; those before stay in force."""

    name: ClassVar[str] = "settings refused"
    level: ClassVar[Level] = Level.ERROR
    reason: str
    """What is wrong with them."""
    hint: str
    """What to do; may be empty."""

    def sentence(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"the settings stay as they were: {self.reason}{hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping(Event):
    """A signal came, and the process ends what it has begun."""

    name: ClassVar[str] = "stopping"

    def sentence(self) -> str:
        return "stopping: ending what was begun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """The last event of a process that was stopped."""

    name: ClassVar[str] = "stopped"

    def sentence(self) -> str:
        return "stopped"
