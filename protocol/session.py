"""The settlement state machine: what each ledger operation requires, and what it does to money.

`apply` takes a state that it only looks into, one signed operation and the time; it returns what changes, or raises.
Every venue runs these rules: the embedded ledger when it takes an operation, anyone who replays its log, and, held
equal by shared vectors, a settlement contract. Clause numbers are those of docs/spec/settlement.md.

Money: an account has free micro-units; an open session holds for each leg what it can still be paid; vouchers move held
money to the providers, discharges and the end of the grace move it back. Amounts are compared, never multiplied.
``deposits - withdrawals == free + held`` after every operation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from protocol.eip712 import Domain, recover_typed
from protocol.errors import DishonestError, MalformedError, PeerError, RuleError, SignatureError
from protocol.ids import Address, SessionId, checksum_address, keccak256
from protocol.messages import Session, SignedDischarge, SignedVoucher, check_discharge, check_voucher, session_id
from protocol.metering import reserved_caps
from protocol.operations import (
    AccountEffect,
    Action,
    Close,
    Deposit,
    Genesis,
    LogEntry,
    Open,
    Release,
    SessionEffect,
    Settle,
    SignedOp,
    Withdraw,
)
from protocol.units import format_micro

__all__ = [
    "Account",
    "Books",
    "Lookup",
    "Outcome",
    "Rules",
    "SessionRecord",
    "apply",
    "ledger_domain",
    "replay",
    "rules_of",
]

MAX_MONEY = 2**63 - 1
MAX_SESSION_S = 90 * 24 * 3600
"""A session expires at most this long after it opens."""
LEDGER_CHAIN_ID = 0x6A6F756C65
"""``joule`` in ASCII: the chain id of every embedded ledger. Wallets refuse 0, and this one is no chain's."""


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
class _Draft:
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


def ledger_domain(verifier_key: str) -> Domain:
    """The EIP-712 domain of the embedded ledger that signs its checkpoints with `verifier_key` (clause L2)."""
    contract = keccak256(b"tlog:" + verifier_key.encode())[12:]
    return Domain(chain_id=LEDGER_CHAIN_ID, verifying_contract=contract)


def rules_of(genesis: Genesis) -> Rules:
    """The rules that a genesis entry fixes."""
    return Rules(Address(genesis.actor), genesis.verifier_key, genesis.grace, genesis.faucet_limit, genesis.fee)


def apply(state: Lookup, domain: Domain, signed: SignedOp, now: int) -> Outcome:
    """What `signed` does at `now` (unix seconds). The state stays as it is.

    Raises:
        MalformedError: the action is none of `operations.ACTIONS`, or what it carries contradicts itself.
        SignatureError: it, or what it carries, is not signed by the right party for this ledger.
        RuleError: a rule forbids it; `code` names the rule.
    """
    # (1) L3: the actor signed it, for this venue.
    action = signed.read()
    if recover_typed(domain, action, signed.signature) != action.actor:
        raise SignatureError("the operation is not signed by its actor for this ledger")
    # (2) L4: it is new.
    actor = Address(action.actor)
    account = state.account(actor)
    if action.nonce <= account.nonce:
        raise RuleError(f"nonce {action.nonce} is not above {account.nonce}", code="nonce")
    # (3) L5: the ledger exists, and does so once.
    rules = state.rules
    if (rules is None) is not isinstance(action, Genesis):
        raise RuleError("a ledger begins with one genesis entry", code="genesis")
    # (4) the rule of the action itself.
    draft = _Draft(state, domain, actor, now, rules, {actor: Account(account.free, action.nonce)})
    _RULES[type(action)](draft, action)
    # (5) L11: the fee, out of what the actor has afterwards.
    _charge(draft)
    return Outcome(_entry(signed, now, draft), draft.accounts, draft.sessions, draft.rules)


def replay(books: Books, domain: Domain, entry: LogEntry) -> None:
    """Apply a logged entry to `books`. Raises DishonestError when the log says something that the rules do not."""
    try:
        outcome = apply(books, domain, entry.op, entry.time)
    except (PeerError, RuleError) as error:
        raise DishonestError(f"the rules reject it: {error.message}") from error
    if outcome.entry != entry:
        raise DishonestError("its effects are not those that the rules give")
    books.record(outcome)


def _charge(draft: _Draft) -> None:
    if draft.rules is not None and draft.actor != draft.rules.operator:
        draft.debit(draft.actor, draft.rules.fee)
        draft.credit(draft.rules.operator, draft.rules.fee)


def _entry(signed: SignedOp, now: int, draft: _Draft) -> LogEntry:
    accounts = tuple(
        AccountEffect(account=address, free=account.free, nonce=account.nonce)
        for address, account in sorted(draft.accounts.items())
    )
    sessions = tuple(
        SessionEffect(session=identity, settled=record.settled, ceilings=record.ceilings)
        for identity, record in sorted(draft.sessions.items())
    )
    return LogEntry(time=now, op=signed, accounts=accounts, sessions=sessions)


def _genesis(draft: _Draft, action: Genesis) -> None:
    if ledger_domain(action.verifier_key) != draft.domain:
        raise RuleError("the genesis entry is for another ledger", code="genesis")
    if action.fee == 0:
        raise RuleError("an operation costs at least one micro-unit: else anyone fills the log", code="fee")
    draft.rules = rules_of(action)


def _deposit(draft: _Draft, action: Deposit) -> None:
    if draft.rules is None or draft.actor != draft.rules.operator:
        raise RuleError("only the ledger's operator credits deposits", code="not-operator")
    _require_positive(action.amount)
    draft.credit(action.account, action.amount)


def _withdraw(draft: _Draft, action: Withdraw) -> None:
    _require_positive(action.amount)
    draft.debit(draft.actor, action.amount)


def _open(draft: _Draft, action: Open) -> None:
    session = action.session
    # L7 (1) the client's own act, or signed by it
    if session.client == draft.actor:
        if action.signature:
            raise RuleError("a client that opens its own session signs it once", code="not-client")
    elif recover_typed(draft.domain, session, action.signature) != session.client:
        raise SignatureError("the session is not signed by its client for this ledger")
    # (2) expiry
    if not draft.now < session.expiry <= draft.now + MAX_SESSION_S:
        raise RuleError("the session's expiry is past, or more than 90 days ahead", code="expiry")
    # (3) new
    identity = session_id(session)
    if draft.state.session(identity) is not None:
        raise RuleError("this very session was opened before", code="exists")
    # (4) something is at stake, and the client has it
    caps = reserved_caps(session)
    _require_positive(caps)
    draft.debit(session.client, caps)
    ceilings = tuple(leg.cap for leg in session.legs)
    draft.sessions[identity] = SessionRecord(session, (0,) * len(ceilings), ceilings)


def _settle(draft: _Draft, action: Settle) -> None:
    for signed in action.vouchers:
        _settle_one(draft, signed)


def _settle_one(draft: _Draft, signed: SignedVoucher) -> None:
    identity = SessionId(signed.voucher.session)
    record = draft.session(identity)
    # L8 (1) V1 to V3: the client's, for this session and this venue, within every cap
    _check_carried(lambda: check_voucher(draft.domain, record.session, signed))
    # (2) in time
    if draft.now > record.session.expiry + draft.grace_s:
        raise RuleError("the session's grace has ended", code="expired")
    # (3) each leg's amount rises on its own, as far as it has not discharged the rest
    claims = zip(signed.voucher.amounts, record.settled, record.ceilings, strict=True)
    settled = tuple(max(before, min(claimed, most)) for claimed, before, most in claims)
    if settled == record.settled:
        raise RuleError("this voucher pays nobody more than was settled before", code="settled")
    for leg, before, after in zip(record.session.legs, record.settled, settled, strict=True):
        draft.credit(leg.provider, after - before)
    draft.sessions[identity] = SessionRecord(record.session, settled, record.ceilings)


def _release(draft: _Draft, action: Release) -> None:
    for signed in action.discharges:
        _release_one(draft, signed)


def _release_one(draft: _Draft, signed: SignedDischarge) -> None:
    discharge, identity = signed.discharge, SessionId(signed.discharge.session)
    record = draft.session(identity)
    # L9 (1) V7: the leg's own word, for this venue
    _check_carried(lambda: check_discharge(draft.domain, record.session, signed))
    # (2) it frees something: what is settled stays settled
    leg = discharge.leg
    ceiling = max(record.settled[leg], min(record.ceilings[leg], discharge.amount))
    freed = record.ceilings[leg] - ceiling
    if freed == 0:
        raise RuleError("this discharge frees nothing that is still held", code="released")
    draft.credit(record.session.client, freed)
    ceilings = (*record.ceilings[:leg], ceiling, *record.ceilings[leg + 1 :])
    draft.sessions[identity] = SessionRecord(record.session, record.settled, ceilings)


def _close(draft: _Draft, action: Close) -> None:
    record = draft.session(action.session)
    if draft.now <= record.session.expiry + draft.grace_s:
        raise RuleError("a session closes after its grace; before, its legs' discharges release it", code="early")
    draft.credit(record.session.client, record.reserved)
    draft.sessions[SessionId(action.session)] = SessionRecord(record.session, record.settled, record.settled)


def _check_carried(check: Callable[[], None]) -> None:
    """A voucher or discharge that does not fit its session breaks a rule of the ledger; `code` stays."""
    try:
        check()
    except MalformedError as error:
        raise RuleError(error.message, code="cap" if error.code == "cap" else "mismatch") from None


def _require_positive(amount: int) -> None:
    if amount == 0:
        raise RuleError("the amount is zero", code="amount")


_RULES: dict[type[Action], Callable[[_Draft, Any], None]] = {
    Genesis: _genesis,
    Deposit: _deposit,
    Withdraw: _withdraw,
    Open: _open,
    Settle: _settle,
    Release: _release,
    Close: _close,
}
