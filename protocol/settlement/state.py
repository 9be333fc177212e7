"""What a ledger remembers, and what one operation changes of it: accounts, sessions, rules, drafts and outcomes.

Money: an account has free micro-units, and some at stake; an open session holds for each leg what it can still be paid.
``deposits - withdrawals == free + held + bond + unbonding + burned`` after every operation (docs/spec/settlement.md,
clause L1).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from typing import Protocol

from protocol.encoding.compiled import with_quick_init
from protocol.errors import RuleError
from protocol.identity.eip712 import Domain, Recover, recover_typed
from protocol.identity.ids import Address, SessionId, checksum_address
from protocol.session.messages import Session
from protocol.settlement.operations import AccountEffect, LogEntry
from protocol.units import format_micro

__all__ = [
    "MAX_MONEY",
    "Account",
    "Books",
    "Change",
    "Draft",
    "Lookup",
    "Outcome",
    "Rules",
    "SessionRecord",
    "account_of",
    "effect_of",
    "require_positive",
]

MAX_MONEY = 2**63 - 1


@with_quick_init
@dataclass(frozen=True, slots=True)
class Account:
    """What one address has."""

    free: int = 0
    """Micro-units that its owner can spend."""
    nonce: int = 0
    """Last operation number used."""
    bond: int = 0
    """Micro-units at stake."""
    unbonding: int = 0
    """Micro-units on their way out of the stake; a penalty still reaches them."""
    unlock_at: int = 0
    """Unix seconds from which those can be free again; 0 where there are none."""
    period: int = 0
    """The last period in which a bound by bonds was counted."""
    claimed: int = 0
    """Micro-units that vouchers paid it in that period."""

    @property
    def total(self) -> int:
        """Micro-units that it has, free or not."""
        return self.free + self.bond + self.unbonding

    # Each operation makes several accounts anew, and `dataclasses.replace` takes three times as long.

    def with_free(self, free: int) -> Account:
        """The same with other free money."""
        return Account(free, self.nonce, self.bond, self.unbonding, self.unlock_at, self.period, self.claimed)

    def with_nonce(self, nonce: int) -> Account:
        """The same after another operation."""
        return Account(self.free, nonce, self.bond, self.unbonding, self.unlock_at, self.period, self.claimed)


def account_of(effect: AccountEffect) -> Account:
    """The account that an entry's effect describes."""
    return Account(
        free=effect.free,
        nonce=effect.nonce,
        bond=effect.bond,
        unbonding=effect.unbonding,
        unlock_at=effect.unlock_at,
        period=effect.period,
        claimed=effect.claimed,
    )


def effect_of(address: bytes, account: Account) -> AccountEffect:
    """An account as an entry names it."""
    return AccountEffect(
        account=address,
        free=account.free,
        nonce=account.nonce,
        bond=account.bond,
        unbonding=account.unbonding,
        unlock_at=account.unlock_at,
        period=account.period,
        claimed=account.claimed,
    )


@with_quick_init
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

    def is_forgotten(self, now: int, grace_s: int) -> bool:
        """Whether a ledger knows it no more: over, and too old to be opened again."""
        return self.closed and now > self.session.expiry + grace_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Rules that an entry of notice has announced."""

    effective: int
    """Unix seconds from which they hold."""
    faucet_limit: int
    fee: int
    bond_multiple: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the genesis entry fixed for good, and what holds until a notice takes effect."""

    operator: Address
    verifier_key: str
    grace_s: int
    unbonding_s: int
    """From the last `unstake/2` until what is unbonding can be free again; also the length of a period."""
    notice_s: int
    """That a change of rules is announced before it takes effect."""
    faucet_limit: int
    fee: int
    """Micro-units for an operation."""
    bond_multiple: int
    """How many times its bond vouchers may pay a provider in one period; 0 for no bound."""
    coming: Change | None = None
    """What was announced and has not taken effect, as of the last entry."""

    def at(self, now: int) -> Rules:
        """The rules that hold at a time, Unix seconds, if nothing is announced meanwhile."""
        change = self.coming
        if change is None or now < change.effective:
            return self
        return replace(
            self,
            faucet_limit=change.faucet_limit,
            fee=change.fee,
            bond_multiple=change.bond_multiple,
            coming=None,
        )

    def period(self, now: int) -> int:
        """The number of the period that a time is in."""
        return now // max(1, self.unbonding_s)


class Lookup(Protocol):
    """The state as the rules look into it."""

    @property
    def rules(self) -> Rules | None:
        """None before genesis."""

    def account(self, address: bytes) -> Account:
        """An account; the empty one where none is known."""

    def session(self, session: bytes) -> SessionRecord | None:
        """A session that was opened, a closed one too; it may be one that is forgotten by now."""


@with_quick_init
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
    burned: int = 0
    """Micro-units that penalties have taken from everybody."""
    _over: list[tuple[int, SessionId]] = field(default_factory=list, init=False, repr=False, compare=False)
    """Expiries of closed sessions, a heap: which are forgotten next."""

    def account(self, address: bytes) -> Account:
        return self.accounts.get(Address(address), Account())

    def session(self, session: bytes) -> SessionRecord | None:
        return self.sessions.get(SessionId(session))

    def record(self, outcome: Outcome) -> None:
        """Make an outcome part of the state."""
        self.rules = outcome.rules
        self.accounts.update(outcome.accounts)
        self.sessions.update(outcome.sessions)
        self.burned += outcome.entry.burned
        for identity, record in outcome.sessions.items():
            if record.closed:
                heappush(self._over, (record.session.expiry, identity))
        self._forget(outcome.entry.time)

    def _forget(self, now: int) -> None:
        grace_s = 0 if self.rules is None else self.rules.grace_s
        while self._over and self._over[0][0] + grace_s < now:
            self.sessions.pop(heappop(self._over)[1], None)

    def total(self) -> int:
        """All micro-units in the ledger that are somebody's: free ones, those at stake, and held ones."""
        held = sum(record.reserved for record in self.sessions.values())
        return held + sum(account.total for account in self.accounts.values())


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
    burned: int = 0
    recover: Recover = recover_typed

    def account(self, address: bytes) -> Account:
        return self.accounts.get(Address(address)) or self.state.account(address)

    def change(self, address: bytes, **fields: int) -> None:
        """Give an account other values in some of its fields."""
        self.accounts[Address(address)] = replace(self.account(address), **fields)

    def known(self, session: bytes) -> SessionRecord:
        """A session, open or closed, that is not forgotten. Raises RuleError."""
        record = self.sessions.get(SessionId(session)) or self.state.session(session)
        if record is None or record.is_forgotten(self.now, self.grace_s):
            raise RuleError("no such session on this ledger", code="unknown-session")
        return record

    def session(self, session: bytes) -> SessionRecord:
        """An open session. Raises RuleError."""
        record = self.known(session)
        if record.closed:
            raise RuleError("the session is closed", code="closed")
        return record

    @property
    def grace_s(self) -> int:
        return 0 if self.rules is None else self.rules.grace_s

    @property
    def unbonding_s(self) -> int:
        return 0 if self.rules is None else self.rules.unbonding_s

    def credit(self, address: bytes, amount: int) -> None:
        account = self.account(address)
        if account.free + amount > MAX_MONEY:
            raise RuleError(f"{checksum_address(address)} would hold more than a ledger can count", code="overflow")
        self.accounts[Address(address)] = account.with_free(account.free + amount)

    def claimable(self, address: bytes) -> int:
        """Micro-units that vouchers may still pay an account in this period."""
        if self.rules is None or self.rules.bond_multiple == 0:
            return MAX_MONEY
        account = self.account(address)
        claimed = account.claimed if account.period == self.rules.period(self.now) else 0
        return max(0, min(MAX_MONEY, self.rules.bond_multiple * account.bond) - claimed)

    def pay(self, address: bytes, amount: int) -> None:
        """Credit what a voucher pays, and count it where a bond bounds it."""
        self.credit(address, amount)
        if self.rules is not None and self.rules.bond_multiple:
            account, period = self.account(address), self.rules.period(self.now)
            claimed = account.claimed if account.period == period else 0
            self.change(address, period=period, claimed=claimed + amount)

    def debit(self, address: bytes, amount: int) -> None:
        account = self.account(address)
        if account.free < amount:
            missing = format_micro(amount - account.free)
            raise RuleError(
                f"balance too low: {format_micro(amount)} needed, {format_micro(account.free)} free, {missing} missing",
                code="balance",
                hint="deposit the missing amount, or lower the price cap or the number of tokens",
            )
        self.accounts[Address(address)] = account.with_free(account.free - amount)


def require_positive(amount: int) -> None:
    """Raises RuleError for an amount of zero."""
    if amount == 0:
        raise RuleError("the amount is zero", code="amount")
