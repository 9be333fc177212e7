"""What a gateway does for those who ask through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level, dollars

__all__ = ["AnswerNotBooked", "GatewayReady", "MarketAway", "RequestAnswered", "RequestRefused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReady(Event):
    """A gateway serves."""

    name: ClassVar[str] = "gateway ready"
    url: str
    """What applications are given as their base URL."""
    key_needed: bool
    """Whether requests need an API key."""

    def sentence(self) -> str:
        key = "with an API key" if self.key_needed else "without an API key, for this machine alone"
        return f"the gateway is ready at {self.url}, {key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestAnswered(Event):
    """One answer is over, and paid."""

    name: ClassVar[str] = "request answered"
    receipt: str
    """Its id."""
    key: str
    """Id of the API key; empty where none is needed."""
    model: str
    """Its name."""
    made: str
    """At which market; ``here`` for what this machine made itself."""
    outcome: str
    """``stop``, ``length``, or the code of what ended it."""
    tokens_in: int
    """Prompt tokens."""
    tokens_held: int
    """Of them, those that providers still held."""
    tokens_out: int
    """Generated tokens."""
    cost_micro: int
    """Micro-units to providers and the ledger."""
    seconds: float
    """From the request until the last token."""
    first_s: float | None
    """Until the first token; null where none came."""

    def sentence(self) -> str:
        first = "no token" if self.first_s is None else f"the first after {self.first_s:.2f} s"
        return (
            f"answered {self.receipt[:12]} ({self.outcome}): {self.tokens_in} tokens in ({self.tokens_held} held), "
            f"{self.tokens_out} out in {self.seconds:.1f} s, {first}; {self.made}, {dollars(self.cost_micro)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused(Event):
    """A request got no answer."""

    name: ClassVar[str] = "request refused"
    level: ClassVar[Level] = Level.DEBUG
    request: str
    """As the answer names it, in ``x-request-id``."""
    code: str
    """For programs."""
    reason: str
    """For people."""
    status: int
    """Of HTTP."""

    def sentence(self) -> str:
        return f"refused the request {self.request} ({self.status} {self.code}): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerNotBooked(Event):
    """What an answer cost could not be settled or written down; its money stays held for its key."""

    name: ClassVar[str] = "answer not booked"
    level: ClassVar[Level] = Level.ERROR
    receipt: str
    """Its id."""
    reason: str
    """For people."""

    def sentence(self) -> str:
        return f"could not settle the answer {self.receipt[:12]}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketAway(Event):
    """A market of a gateway does not answer; the others are asked first."""

    name: ClassVar[str] = "market away"
    level: ClassVar[Level] = Level.WARNING
    market: str
    """Its name."""
    reason: str
    """For people."""

    def sentence(self) -> str:
        return f"the market {self.market} does not answer: {self.reason}"
