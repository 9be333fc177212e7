"""What a witness sees of the logs that it watches, and what a ledger hears from its witnesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level

__all__ = [
    "CheckpointCosigned",
    "LedgerUnwitnessed",
    "LogNotPulled",
    "WitnessBack",
    "WitnessLost",
    "WitnessReady",
    "WitnessRefused",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessReady(Event):
    """A witness serves."""

    name: ClassVar[str] = "witness ready"
    url: str
    """Where logs submit checkpoints, and people find the cosigned ones."""
    verifier_key: str
    """What its cosignatures are checked with."""
    logs: tuple[str, ...]
    """Origins of those that it watches."""

    def sentence(self) -> str:
        return f"the witness is ready at {self.url} and watches {', '.join(self.logs)}; its key is {self.verifier_key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCosigned(Event):
    """A log has grown, and the witness has cosigned its new checkpoint."""

    name: ClassVar[str] = "checkpoint cosigned"
    level: ClassVar[Level] = Level.DEBUG
    origin: str
    """The log."""
    size: int
    """Entries under the checkpoint."""

    def sentence(self) -> str:
        return f"cosigned {self.origin} with {self.size} entries"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessRefused(Event):
    """A log has signed a checkpoint that does not continue what was cosigned, or breaks the rules."""

    name: ClassVar[str] = "checkpoint refused"
    level: ClassVar[Level] = Level.ERROR
    origin: str
    """The log."""
    reason: str
    """What is wrong with it."""
    note: str
    """The signed checkpoint, whole: keep it."""

    def sentence(self) -> str:
        return f"NOT COSIGNED, {self.origin}: {self.reason}; keep this event as evidence (--json shows it whole)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNotPulled(Event):
    """A log's newest checkpoint could not be looked at; the witness tries again."""

    name: ClassVar[str] = "log not pulled"
    level: ClassVar[Level] = Level.WARNING
    origin: str
    """The log."""
    reason: str
    """For people; it may come from the log."""

    def sentence(self) -> str:
        return f"the log {self.origin} was not looked at: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerUnwitnessed(Event):
    """The ledger shows no checkpoint with the cosignatures that this node asks for: it refuses orders until it does."""

    name: ClassVar[str] = "ledger unwitnessed"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """Which are missing."""

    def sentence(self) -> str:
        return f"orders are refused for now: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessLost(Event):
    """A witness of this ledger does not cosign. Told once for each reason, until it does again."""

    name: ClassVar[str] = "witness lost"
    level: ClassVar[Level] = Level.WARNING
    witness: str
    """Its name."""
    reason: str
    """For people; it may come from the witness."""

    def sentence(self) -> str:
        return f"the witness {self.witness} does not cosign: {self.reason}; it is asked again"


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessBack(Event):
    """A witness of this ledger cosigns, for the first time or again."""

    name: ClassVar[str] = "witness back"
    witness: str
    """Its name."""
    size: int
    """Entries under the checkpoint that it has cosigned."""

    def sentence(self) -> str:
        return f"the witness {self.witness} cosigns, up to {self.size} entries"
