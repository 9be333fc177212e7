"""A client's side of a job, from opening a session to what came back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level, dollars, short

__all__ = [
    "Closed",
    "DischargeRefused",
    "Healed",
    "NoWayOn",
    "Released",
    "Retrying",
    "SessionOpened",
    "Settled",
    "SignedTwice",
    "VoucherSigned",
    "WaitingForBusy",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(Event):
    """Money is reserved on the ledger."""

    name: ClassVar[str] = "session opened"
    session: bytes
    """Its id on the ledger, 32 bytes."""
    reserved_micro: int
    """Micro-units over all legs: the most that the job can cost."""

    def sentence(self) -> str:
        return f"opened the session {short(self.session)}: {dollars(self.reserved_micro)} reserved"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherSigned(Event):
    """A promise to pay, newer than those before it and instead of them."""

    name: ClassVar[str] = "voucher signed"
    session: bytes
    """Its id on the ledger, 32 bytes."""
    tokens_in: int
    """Prompt tokens that it pays for, in all."""
    tokens_out: int
    """Generated tokens that it pays for, in all."""
    amount_micro: int
    """Micro-units over all legs, in all."""

    def sentence(self) -> str:
        return (
            f"signed a voucher for {self.tokens_in} prompt and {self.tokens_out} generated tokens, "
            f"{dollars(self.amount_micro)} in all (session {short(self.session)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed(Event):
    """Legs failed in mid-stream, and the answer goes on without them."""

    name: ClassVar[str] = "healed"
    level: ClassVar[Level] = Level.WARNING
    session: bytes
    """Its id on the ledger, 32 bytes."""
    legs: tuple[int, ...]
    """That are done without; none where the route was only made anew."""
    joined: tuple[int, ...]
    """Standbys that took over."""
    seconds: float
    """From the failure until the new route was taken up."""
    reason: str
    """For people; it may come from a peer."""

    def sentence(self) -> str:
        gone, joined = (" and ".join(map(str, legs)) for legs in (self.legs, self.joined))
        way = f"without leg {gone}" if self.legs else "by the same route"
        by = f", leg {joined} has taken over" if self.joined else ""
        return f"{self.reason}; after {self.seconds:.1f} s the answer goes on {way}{by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWayOn(Event):
    """A provider failed an answer, and it ends there."""

    name: ClassVar[str] = "no way on"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """For people: why it is not tried otherwise; it may come from a peer."""

    def sentence(self) -> str:
        return f"no other way is tried: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying(Event):
    """A provider refused or did not answer, and the client tries another way."""

    name: ClassVar[str] = "retrying"
    level: ClassVar[Level] = Level.WARNING
    code: str
    """Why it did not go on: the refusal's or the error's code."""
    reason: str
    """For people; it may come from a peer."""
    attempt: int
    """The one that follows, counted from 1."""
    held_micro: int
    """Micro-units that stay reserved for providers of the attempt before which gave no word."""
    held_until: int | None
    """Unix seconds when these can be had back; null where nothing is held."""

    def sentence(self) -> str:
        held = ""
        if self.held_until is not None:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.held_until))
            held = f"; {dollars(self.held_micro)} stays held until {when}"
        return f"trying another offer or route (attempt {self.attempt}): {self.reason} [{self.code}]{held}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingForBusy(Event):
    """Every route has a node that said when to come back, and the client waits for it."""

    name: ClassVar[str] = "waiting for busy nodes"
    level: ClassVar[Level] = Level.WARNING
    wait_s: int
    """Seconds until it orders."""

    def sentence(self) -> str:
        return f"the nodes for this job are busy: ordering again in {self.wait_s} s, when they said to come back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Event):
    """The last voucher stands on the ledger: providers have their money."""

    name: ClassVar[str] = "settled"
    session: bytes
    """Its id on the ledger, 32 bytes."""
    amount_micro: int
    """Micro-units over all legs."""

    def sentence(self) -> str:
        return f"settled {dollars(self.amount_micro)} (session {short(self.session)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTwice(Event):
    """A leg has signed two receipts for one window that say different things: its stake can be had for that."""

    name: ClassVar[str] = "signed twice"
    level: ClassVar[Level] = Level.ERROR
    session: bytes
    """Its id on the ledger, 32 bytes."""
    provider: str
    """Address of who has signed both."""
    leg: int
    """Its place on the route, from 0."""
    proof: str
    """The file that proves it to anybody; empty where it could not be written."""

    def sentence(self) -> str:
        kept = f"`joule ledger accuse {self.proof}` has its stake" if self.proof else "the proof could not be kept"
        return f"LEG {self.leg} HAS SIGNED TWO RECEIPTS FOR ONE WINDOW: {self.provider}; {kept}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Event):
    """What was reserved and not spent came back."""

    name: ClassVar[str] = "released"
    session: bytes
    """Its id on the ledger, 32 bytes."""
    amount_micro: int
    """Micro-units that came back."""

    def sentence(self) -> str:
        return f"had {dollars(self.amount_micro)} back (session {short(self.session)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed(Event):
    """Nothing of the session is open any more."""

    name: ClassVar[str] = "closed"
    session: bytes
    """Its id on the ledger, 32 bytes."""

    def sentence(self) -> str:
        return f"closed the session {short(self.session)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DischargeRefused(Event):
    """A leg's word that it wants no more is not valid: its share comes back only after the grace."""

    name: ClassVar[str] = "discharge refused"
    level: ClassVar[Level] = Level.WARNING
    session: bytes
    """Its id on the ledger, 32 bytes."""
    leg: int
    """Its place in the chain, from 0."""

    def sentence(self) -> str:
        return f"leg {self.leg} gave no valid discharge (session {short(self.session)}); its rest comes back later"
