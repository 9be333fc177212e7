"""The settlement state machine: what each ledger operation requires, and what it does to money.

`apply` takes a state that it only looks into, one signed operation and the time; it returns what changes, or raises.
Every venue runs these rules: the embedded ledger when it takes an operation, anyone who replays its log, and, held
equal by shared vectors, a settlement contract. Clause numbers are those of docs/spec/settlement.md.

Money: an account has free micro-units; an open session holds the caps of its legs; vouchers move held money to the
providers; closing returns the rest. ``deposits - withdrawals == free + held`` after every operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from protocol.codec import Message, decode
from protocol.eip712 import Domain, recover_typed
from protocol.errors import DishonestError, JoulemeshError, RuleError, SignatureError
from protocol.ids import Address, SessionId, checksum_address, keccak256
from protocol.messages import (
    ACTIONS,
    AccountEffect,
    Close,
    Deposit,
    Discharge,
    Genesis,
    LogEntry,
    Open,
    Session,
    SessionEffect,
    Settle,
    SignedOp,
    Withdraw,
    session_id,
)
from protocol.metering import leg_amount, reserved_caps
from protocol.units import format_micro

__all__ = ["Account", "Books", "Lookup", "Outcome", "Rules", "SessionRecord", "apply", "ledger_domain", "replay"]

MAX_MONEY = 2**63 - 1
MAX_SESSION_S = 90 * 24 * 3600
"""A session expires at most this long after it opens."""


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

    terms: Session
    tokens_in: int = 0
    """Prompt tokens settled."""
    tokens_out: int = 0
    """Generated tokens settled."""
    reserved: int = 0
    """Micro-units still held; 0 once closed."""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What the genesis entry fixed."""

    operator: Address
    verifier_key: str
    grace_s: int
    faucet_limit: int


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
    session: tuple[SessionId, SessionRecord] | None
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
        if outcome.session is not None:
            self.sessions[outcome.session[0]] = outcome.session[1]

    def total(self) -> int:
        """All micro-units in the ledger: free ones and held ones."""
        held = sum(record.reserved for record in self.sessions.values())
        return held + sum(account.free for account in self.accounts.values())


@dataclass(slots=True)
class _Draft:
    """The changes of one operation while its rule runs; falls through to the state for what it has not changed."""

    state: Lookup
    domain: Domain
    actor: Address
    now: int
    rules: Rules | None
    accounts: dict[Address, Account] = field(default_factory=dict)
    session: tuple[SessionId, SessionRecord] | None = None

    def account(self, address: bytes) -> Account:
        return self.accounts.get(Address(address)) or self.state.account(address)

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


def ledger_domain(verifier_key: str) -> Domain:
    """The EIP-712 domain of the embedded ledger that signs its checkpoints with `verifier_key` (clause L2)."""
    return Domain(chain_id=0, verifying_contract=keccak256(b"tlog:" + verifier_key.encode())[12:])


def apply(state: Lookup, domain: Domain, signed: SignedOp, now: int) -> Outcome:
    """What `signed` does at `now` (unix seconds). The state stays as it is.

    Raises:
        MalformedError: the action is none of `messages.ACTIONS`.
        SignatureError: not signed by its actor for this ledger.
        RuleError: a rule forbids it; `code` names the rule.
    """
    # (1) L3: the actor signed it, for this venue.
    if recover_typed(domain, signed.op, signed.signature) != signed.actor:
        raise SignatureError("the operation is not signed by its actor for this ledger")
    # (2) L4: it is new.
    actor = Address(signed.actor)
    account = state.account(actor)
    if signed.nonce <= account.nonce:
        raise RuleError(f"nonce {signed.nonce} is not above {account.nonce}", code="nonce")
    # (3) the ledger exists, and does so once.
    action: Message = decode(signed.action, *ACTIONS)
    rules = state.rules
    if (rules is None) is not isinstance(action, Genesis):
        raise RuleError("a ledger begins with one genesis entry", code="genesis")
    # (4) the rule of the action itself.
    draft = _Draft(state, domain, actor, now, rules, {actor: Account(account.free, signed.nonce)})
    _RULES[type(action)](draft, action)
    return Outcome(_entry(signed, now, draft), draft.accounts, draft.session, draft.rules)


def replay(books: Books, domain: Domain, entry: LogEntry) -> None:
    """Apply a logged entry to `books`. Raises DishonestError when the log says something that the rules do not."""
    try:
        outcome = apply(books, domain, entry.op, entry.time)
    except JoulemeshError as error:
        raise DishonestError(f"the rules reject it: {error.message}") from error
    if outcome.entry != entry:
        raise DishonestError("its effects are not those that the rules give")
    books.record(outcome)


def _entry(signed: SignedOp, now: int, draft: _Draft) -> LogEntry:
    accounts = tuple(
        AccountEffect(account=address, free=account.free, nonce=account.nonce)
        for address, account in sorted(draft.accounts.items())
    )
    sessions: tuple[SessionEffect, ...] = ()
    if draft.session is not None:
        identity, record = draft.session
        sessions = (
            SessionEffect(
                session=identity,
                tokens_in=record.tokens_in,
                tokens_out=record.tokens_out,
                reserved=record.reserved,
                closed=record.closed,
            ),
        )
    return LogEntry(time=now, op=signed, accounts=accounts, sessions=sessions)


def _genesis(draft: _Draft, action: Genesis) -> None:
    if ledger_domain(action.verifier_key) != draft.domain:
        raise RuleError("the genesis entry is for another ledger", code="genesis")
    draft.rules = Rules(draft.actor, action.verifier_key, action.grace_s, action.faucet_limit)


def _deposit(draft: _Draft, action: Deposit) -> None:
    if draft.rules is None or draft.actor != draft.rules.operator:
        raise RuleError("only the ledger's operator credits deposits", code="not-operator")
    _require_positive(action.amount)
    draft.credit(action.account, action.amount)


def _withdraw(draft: _Draft, action: Withdraw) -> None:
    _require_positive(action.amount)
    draft.debit(draft.actor, action.amount)


def _open(draft: _Draft, action: Open) -> None:
    terms = action.session
    if terms.client != draft.actor:
        raise RuleError("a session is opened by its client", code="not-client")
    if not draft.now < terms.expiry <= draft.now + MAX_SESSION_S:
        raise RuleError("the session's expiry is past, or more than 90 days ahead", code="expiry")
    if terms.window == 0:
        raise RuleError("a session's window is at least one token", code="window")
    identity = session_id(terms)
    if draft.state.session(identity) is not None:
        raise RuleError("a session on these very terms was opened before", code="exists")
    caps = reserved_caps(terms)
    draft.debit(draft.actor, caps)
    draft.session = (identity, SessionRecord(terms, reserved=caps))


def _settle(draft: _Draft, action: Settle) -> None:
    voucher = action.voucher
    record = _open_record(draft, voucher.session)
    # L8 (1) signed by the client for this venue
    if recover_typed(draft.domain, voucher, action.signature) != record.terms.client:
        raise SignatureError("the voucher is not signed by the session's client for this ledger")
    # (2) in time
    if draft.now > record.terms.expiry + _grace(draft):
        raise RuleError("the session's grace has ended", code="expired")
    # (3) newer than what was settled
    if voucher.tokens_in < record.tokens_in or voucher.tokens_out < record.tokens_out:
        raise RuleError("a voucher for more tokens was settled before", code="stale")
    if (voucher.tokens_in, voucher.tokens_out) == (record.tokens_in, record.tokens_out):
        raise RuleError("this very voucher, or one for as many tokens, was settled before", code="settled")
    # (4) within every cap; amounts follow from cumulative counts, so rounding never accumulates
    paid = 0
    for index, leg in enumerate(record.terms.legs):
        owed = leg_amount(leg, voucher.tokens_in, voucher.tokens_out)
        if owed > leg.cap:
            raise RuleError(f"the voucher goes beyond the cap of leg {index}", code="cap")
        due = owed - leg_amount(leg, record.tokens_in, record.tokens_out)
        draft.credit(leg.provider, due)
        paid += due
    settled = SessionRecord(record.terms, voucher.tokens_in, voucher.tokens_out, record.reserved - paid)
    draft.session = (SessionId(voucher.session), settled)


def _close(draft: _Draft, action: Close) -> None:
    record = _open_record(draft, action.session)
    terms = record.terms
    if action.discharges:
        _check_discharges(draft, record, action)
    elif draft.now <= terms.expiry + _grace(draft):
        raise RuleError("a session closes after its grace, or with a discharge from every leg", code="early")
    draft.credit(terms.client, record.reserved)
    closed = SessionRecord(terms, record.tokens_in, record.tokens_out, 0, closed=True)
    draft.session = (SessionId(action.session), closed)


def _check_discharges(draft: _Draft, record: SessionRecord, action: Close) -> None:
    if len(action.discharges) != len(record.terms.legs):
        raise RuleError("an early close needs one discharge from every leg", code="discharge")
    discharge = Discharge(session=action.session, tokens_in=record.tokens_in, tokens_out=record.tokens_out)
    for leg, signature in zip(record.terms.legs, action.discharges, strict=True):
        if recover_typed(draft.domain, discharge, signature) != leg.provider:
            raise RuleError("a discharge is not its leg's, or not for the settled counts", code="discharge")


def _open_record(draft: _Draft, session: bytes) -> SessionRecord:
    record = draft.state.session(session)
    if record is None:
        raise RuleError("no such session on this ledger", code="unknown-session")
    if record.closed:
        raise RuleError("the session is closed", code="closed")
    return record


def _grace(draft: _Draft) -> int:
    return 0 if draft.rules is None else draft.rules.grace_s


def _require_positive(amount: int) -> None:
    if amount == 0:
        raise RuleError("the amount is zero", code="amount")


_RULES: dict[type[Message], Callable[[_Draft, Any], None]] = {
    Genesis: _genesis,
    Deposit: _deposit,
    Withdraw: _withdraw,
    Open: _open,
    Settle: _settle,
    Close: _close,
}
