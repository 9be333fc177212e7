"""What a ledger remembers, and what one operation changes of it: accounts, sessions, rules, drafts and outcomes.

Money: an account has free micro-units; an open session holds for each leg what it can still be paid.
``deposits - withdrawals == free + held`` after every operation (docs/spec/settlement.md, clause L1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from protocol.eip712 import Domain
from protocol.errors import RuleError
from protocol.ids import Address, SessionId, checksum_address
from protocol.messages import Session
from protocol.operations import LogEntry
from protocol.units import format_micro

__all__ = ["MAX_MONEY", "Account", "Books", "Draft", "Lookup", "Outcome", "Rules", "SessionRecord", "require_positive"]

MAX_MONEY = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Account:
    """What one address has."""

    free: int = 0
    """Micro-units that its owner can spend."""
    nonce: int = 0
    """Last operation number used."""


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What the ledger remembers of a session."""

    session: Session
    settled: tuple[int, ...]
    """Micro-units paid to each leg; each only rises."""
    ceilings: tuple[int, ...]
    """Micro-units that each leg can be paid at most; each only falls, and never below what is settled."""

    @property
    def reserved(self) -> int:
        """Micro-units still held for its legs."""
        return sum(self.ceilings) - sum(self.settled)

    @property
    def closed(self) -> bool:
        """Whether nothing is held any more, so that no operation can change it."""
        return self.reserved == 0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the genesis entry fixed."""

    operator: Address
    verifier_key: str
    grace_s: int
    faucet_limit: int
    fee: int
    """Micro-units for an operation."""


class Lookup(Protocol):
    """The state as the rules look into it."""

    @property
    def rules(self) -> Rules | None:
        """None before genesis."""

    def account(self, address: bytes) -> Account:
        """An account; the empty one where none is known."""

    def session(self, session: bytes) -> SessionRecord | None:
        """A session that was opened, closed ones included."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one accepted operation changes."""

    entry: LogEntry
    """The log entry to append."""
    accounts: dict[Address, Account]
    sessions: dict[SessionId, SessionRecord]
    rules: Rules | None


@dataclass(slots=True)
class Books:
    """A state held in dictionaries: for replay, for tests, and as the ledger's working copy."""

    rules: Rules | None = None
    accounts: dict[Address, Account] = field(default_factory=dict)
    sessions: dict[SessionId, SessionRecord] = field(default_factory=dict)

    def account(self, address: bytes) -> Account:
        return self.accounts.get(Address(address), Account())

    def session(self, session: bytes) -> SessionRecord | None:
        return self.sessions.get(SessionId(session))

    def record(self, outcome: Outcome) -> None:
        """Make an outcome part of the state."""
        self.rules = outcome.rules
        self.accounts.update(outcome.accounts)
        self.sessions.update(outcome.sessions)

    def total(self) -> int:
        """All micro-units in the ledger: free ones and held ones."""
        held = sum(record.reserved for record in self.sessions.values())
        return held + sum(account.free for account in self.accounts.values())


@dataclass(slots=True)
class Draft:
    """The changes of one operation while its rule runs; falls through to the state for what it has not changed."""

    state: Lookup
    domain: Domain
    actor: Address
    now: int
    rules: Rules | None
    accounts: dict[Address, Account] = field(default_factory=dict)
    sessions: dict[SessionId, SessionRecord] = field(default_factory=dict)

    def account(self, address: bytes) -> Account:
        return self.accounts.get(Address(address)) or self.state.account(address)

    def session(self, session: bytes) -> SessionRecord:
        """An open session. Raises RuleError."""
        record = self.sessions.get(SessionId(session)) or self.state.session(session)
        if record is None:
            raise RuleError("no such session on this ledger", code="unknown-session")
        if record.closed:
            raise RuleError("the session is closed", code="closed")
        return record

    @property
    def grace_s(self) -> int:
        return 0 if self.rules is None else self.rules.grace_s

    def credit(self, address: bytes, amount: int) -> None:
        account = self.account(address)
        if account.free + amount > MAX_MONEY:
            raise RuleError(f"{checksum_address(address)} would hold more than a ledger can count", code="overflow")
        self.accounts[Address(address)] = Account(account.free + amount, account.nonce)

    def debit(self, address: bytes, amount: int) -> None:
        account = self.account(address)
        if account.free < amount:
            missing = format_micro(amount - account.free)
            raise RuleError(
                f"balance too low: {format_micro(amount)} needed, {format_micro(account.free)} free, {missing} missing",
                code="balance",
                hint="deposit the missing amount, or lower the price cap or the number of tokens",
            )
        self.accounts[Address(address)] = Account(account.free - amount, account.nonce)


def require_positive(amount: int) -> None:
    """Raises RuleError for an amount of zero."""
    if amount == 0:
        raise RuleError("the amount is zero", code="amount")
