"""A node's money besides its jobs: its journal, its payouts, and what a watchtower does for others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from node.events.base import Event, Level, dollars, short

__all__ = [
    "BondTooSmall",
    "JournalNotKept",
    "PaidOut",
    "PayoutFailed",
    "SettledForOthers",
    "VoucherSetAside",
    "Watching",
    "WatchtowerReady",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BondTooSmall(Event):
    """The ledger bounds what a node is paid by what it has at stake, and more than that is promised."""

    name: ClassVar[str] = "bond too small"
    level: ClassVar[Level] = Level.WARNING
    promised_micro: int
    """Micro-units of vouchers that are not settled yet."""
    bond_micro: int
    """Micro-units that the node has at stake."""
    multiple: int
    """The ledger pays so many times that within one wait of stakes."""

    def sentence(self) -> str:
        most = f"at most {dollars(self.multiple * self.bond_micro)}, {self.multiple} times what is at stake"
        return f"{dollars(self.promised_micro)} are promised, and the ledger pays {most}; `joule stake` adds to it"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalNotKept(Event):
    """What jobs earned cannot be written down; it is kept in memory, and tried again."""

    name: ClassVar[str] = "journal not kept"
    level: ClassVar[Level] = Level.WARNING
    reason: str
    """What the file or its disk says."""

    def sentence(self) -> str:
        return f"the journal of jobs is not on disk: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidOut(Event):
    """Free money went out of the ledger, to where `payout` says."""

    name: ClassVar[str] = "paid out"
    amount_micro: int
    """Micro-units."""
    to: str
    """Where it should go."""
    entry: str
    """Where the ledger has taken it down."""

    def sentence(self) -> str:
        return f"sent {dollars(self.amount_micro)} out of the ledger, to {self.to} (entry {self.entry})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutFailed(Event):
    """A payout was not taken, or got no answer; what is free then is looked up before the next try."""

    name: ClassVar[str] = "payout failed"
    level: ClassVar[Level] = Level.WARNING
    amount_micro: int
    """Micro-units."""
    code: str
    """Why, for programs."""
    reason: str
    """For people; it may come from the ledger."""

    def sentence(self) -> str:
        return f"could not send {dollars(self.amount_micro)} out of the ledger: {self.reason} [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchtowerReady(Event):
    """A watchtower has begun to watch."""

    name: ClassVar[str] = "watchtower ready"
    paths: tuple[str, ...]
    """Where it looks for vouchers."""
    address: bytes
    """Of the account that pays for what it settles."""

    def sentence(self) -> str:
        return f"the watchtower is ready: it looks in {', '.join(self.paths)}, and {short(self.address)} pays the fees"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching(Event):
    """A watchtower has looked at the vouchers that it keeps watch over, and their number has changed."""

    name: ClassVar[str] = "watching"
    vouchers: int
    """That may still be redeemed."""
    worth_micro: int
    """Micro-units that they would bring their providers now."""

    def sentence(self) -> str:
        vouchers = "1 voucher" if self.vouchers == 1 else f"{self.vouchers} vouchers"
        return f"watching {vouchers}, worth {dollars(self.worth_micro)} to others now"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledForOthers(Event):
    """A watchtower has settled a voucher that nobody else had settled in time."""

    name: ClassVar[str] = "settled for others"
    session: bytes
    """Its id on the ledger, 32 bytes."""
    amount_micro: int
    """Micro-units that its providers had by that."""
    fee_micro: int
    """Micro-units that it cost the watchtower."""
    entry: str
    """Where the ledger has taken it down."""

    def sentence(self) -> str:
        return (
            f"settled a voucher for others: {dollars(self.amount_micro)}, at a fee of {dollars(self.fee_micro)} "
            f"({short(self.session)}, entry {self.entry})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VoucherSetAside(Event):
    """A watchtower was given a voucher that the ledger will never take."""

    name: ClassVar[str] = "voucher set aside"
    level: ClassVar[Level] = Level.WARNING
    file: str
    """Where it is."""
    reason: str
    """For people; it may come from the ledger."""

    def sentence(self) -> str:
        return f"{self.file} is not watched any more: {self.reason}"
