"""What a process hears from its peers and its ledger, and when it loses them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level

__all__ = [
    "CheckpointNotCompared",
    "LedgerBack",
    "LedgerContradiction",
    "LedgerForked",
    "LedgerLost",
    "Namesakes",
    "NetworkBack",
    "NetworkLost",
    "OfferRefused",
    "PeerUnreached",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerUnreached(Event):
    """A peer did not answer."""

    name: ClassVar[str] = "peer not reached"
    peer: str
    """Its multiaddr, or its id."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"the peer {self.peer} is not reached: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Namesakes(Event):
    """Other models are on offer under the name of the one that is used."""

    name: ClassVar[str] = "other models of that name"
    model: str
    """The name."""
    root: str
    """Beginning of the root that is used, in hex."""
    others: tuple[str, ...]
    """Beginnings of some of the other roots, in hex."""
    count: int
    """How many others there are."""

    def sentence(self) -> str:
        found = ", ".join(self.others) + (" and others" if self.count > len(self.others) else "")
        return f"{self.model} means {self.root} here; {found} have that name, too (--model ROOT takes another one)"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLost(Event):
    """The last connection to a peer is gone: nobody hears this node's offers."""

    name: ClassVar[str] = "network lost"
    level: ClassVar[Level] = Level.WARNING

    def sentence(self) -> str:
        return "no peer is connected any more; trying to reach the known ones again"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkBack(Event):
    """There are peers again."""

    name: ClassVar[str] = "network back"
    peers: int
    """How many are connected."""

    def sentence(self) -> str:
        return f"back on the network: {self.peers} peer{'' if self.peers == 1 else 's'} connected"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLost(Event):
    """The ledger stopped answering. Told once, until it is back."""

    name: ClassVar[str] = "ledger lost"
    level: ClassVar[Level] = Level.WARNING
    url: str
    """Of the ledger."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"the ledger {self.url} does not answer ({self.reason}); what was earned is kept and redeemed later"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerBack(Event):
    """The ledger answers again."""

    name: ClassVar[str] = "ledger back"
    url: str
    """Of the ledger."""
    seconds: float
    """How long it was away."""

    def sentence(self) -> str:
        return f"the ledger {self.url} answers again, after {self.seconds:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerContradiction(Event):
    """The ledger signed a checkpoint that it does not show to be of its log. Nobody else can be convinced of it yet."""

    name: ClassVar[str] = "ledger contradicts itself"
    level: ClassVar[Level] = Level.ERROR
    reason: str
    """For people; it may come from a peer."""
    note: str
    """The signed checkpoint that does not fit, whole: keep it."""

    def sentence(self) -> str:
        return f"THE LEDGER CONTRADICTS ITSELF: {self.reason}; keep this event as evidence (--json shows it whole)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerForked(Event):
    """The ledger has provably signed two histories: nothing new is begun there, what was begun is ended."""

    name: ClassVar[str] = "ledger forked"
    level: ClassVar[Level] = Level.ERROR
    reason: str
    """Which two checkpoints."""
    proof: str
    """The file that proves it to anybody; empty where it could not be written."""

    def sentence(self) -> str:
        where = f"the proof is in {self.proof}" if self.proof else "the proof could not be written down"
        return f"THE LEDGER HAS TWO HISTORIES, so nothing new is begun there: {self.reason}; {where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointNotCompared(Event):
    """A checkpoint from a peer could not be held against what the ledger shows here."""

    name: ClassVar[str] = "checkpoint not compared"
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"a checkpoint from a peer could not be compared: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRefused(Event):
    """An offer from the network is not valid, and counts for nothing."""

    name: ClassVar[str] = "offer refused"
    level: ClassVar[Level] = Level.DEBUG
    code: str
    """The refusal's code."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        return f"refused an offer from the network: {self.reason} [{self.code}]"
