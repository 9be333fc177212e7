"""The settlement state machine: what each ledger operation requires, and what it does to money.

`apply` takes a state that it only looks into, one signed operation and the time; it returns what changes, or raises.
Every venue runs these rules: the embedded ledger when it takes an operation, anyone who replays its log, and, held
equal by shared vectors, a settlement contract. Clause numbers are those of docs/spec/settlement.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from protocol.encoding.codec import encode, raw_fields
from protocol.errors import DishonestError, InvalidError, MalformedError, PeerError, RuleError, SignatureError
from protocol.identity.eip712 import Domain, Recover, recover_typed
from protocol.identity.ids import Address
from protocol.settlement.accounts import deposit, withdraw
from protocol.settlement.domains import ledger_domain
from protocol.settlement.notices import notice
from protocol.settlement.operations import (
    Action,
    Close,
    Deposit,
    Equivocation,
    Genesis,
    LogEntry,
    Notice,
    Open,
    Release,
    SessionEffect,
    Settle,
    SignedOp,
    Slash,
    Stake,
    Unbond,
    Unstake,
    Withdraw,
)
from protocol.settlement.proofs import equivocation, slash
from protocol.settlement.sessions import close, open_session, release, settle
from protocol.settlement.stakes import stake, unbond, unstake
from protocol.settlement.state import Books, Draft, Lookup, Outcome, Rules, effect_of

__all__ = ["apply", "glance", "outcome_as_written", "replay", "rules_of"]


def rules_of(genesis: Genesis) -> Rules:
    """The rules that a genesis entry fixes, some for good and some to begin with."""
    return Rules(
        operator=Address(genesis.actor),
        verifier_key=genesis.verifier_key,
        grace_s=genesis.grace,
        unbonding_s=genesis.unbonding,
        notice_s=genesis.notice,
        faucet_limit=genesis.faucet_limit,
        fee=genesis.fee,
        bond_multiple=genesis.bond_multiple,
    )


def apply(state: Lookup, domain: Domain, signed: SignedOp, now: int, recover: Recover = recover_typed) -> Outcome:
    """What `signed` does at `now` (unix seconds). The state stays as it is.

    Args:
        recover: finds signers; others than `recover_typed` may know them from before (`signatures`).

    Raises:
        MalformedError: the action is none of `operations.ACTIONS`, or what it carries contradicts itself.
        SignatureError: it, or what it carries, is not signed by the right party for this ledger.
        RuleError: a rule forbids it; `code` names the rule.
    """
    # (1) L3: the actor signed it, for this venue.
    action = signed.read()
    if recover(domain, action, signed.signature) != action.actor:
        raise SignatureError("the operation is not signed by its actor for this ledger")
    # (2) L4: it is new.
    actor = Address(action.actor)
    account = state.account(actor)
    if action.nonce <= account.nonce:
        raise RuleError(f"nonce {action.nonce} is not above {account.nonce}", code="nonce")
    # (3) L5: the ledger exists, and does so once.
    rules = None if state.rules is None else state.rules.at(now)
    if (rules is None) is not isinstance(action, Genesis):
        raise RuleError("a ledger begins with one genesis entry", code="genesis")
    # (4) the rule of the action itself.
    draft = Draft(state, domain, actor, now, rules, {actor: account.with_nonce(action.nonce)}, recover=recover)
    _RULES[type(action)](draft, action)
    # (5) L11: the fee, out of what the actor has afterwards.
    _charge(draft)
    return Outcome(_entry(signed, now, draft), draft.accounts, draft.sessions, draft.rules)


def replay(books: Books, domain: Domain, entry: LogEntry, recover: Recover = recover_typed) -> None:
    """Apply a logged entry to `books`. Raises DishonestError when the log says something that the rules do not."""
    try:
        outcome = apply(books, domain, entry.op, entry.time, recover)
    except (PeerError, RuleError) as error:
        raise DishonestError(f"the rules reject it: {error.message}") from error
    if outcome.entry != entry:
        raise DishonestError("its effects are not those that the rules give")
    books.record(outcome)


def glance(data: bytes) -> tuple[int, SignedOp] | None:
    """Time and operation of what may be an entry, none of it checked; None where it is none."""
    try:
        time, op, *_ = raw_fields(data, LogEntry)
        action, signature = op
        return (time, SignedOp(action=action, signature=signature)) if type(time) is int and 0 <= time < 2**40 else None
    except (MalformedError, InvalidError, TypeError, ValueError):
        return None


def outcome_as_written(
    state: Lookup, domain: Domain, data: bytes, glanced: tuple[int, SignedOp] | None, recover: Recover = recover_typed
) -> Outcome | None:
    """What an entry does whose bytes are those that the rules give; None for all others, of which `replay` says why.

    To write what the rules give takes a third of the time of reading what was written.

    Args:
        glanced: what `glance` says of the bytes.
    """
    if glanced is None:
        return None
    time, signed = glanced
    try:
        outcome = apply(state, domain, signed, time, recover)
    except (PeerError, RuleError):
        return None
    return outcome if encode(outcome.entry) == data else None


def _charge(draft: Draft) -> None:
    if draft.rules is not None and draft.actor != draft.rules.operator:
        draft.debit(draft.actor, draft.rules.fee)
        draft.credit(draft.rules.operator, draft.rules.fee)


def _entry(signed: SignedOp, now: int, draft: Draft) -> LogEntry:
    accounts = tuple(effect_of(address, account) for address, account in sorted(draft.accounts.items()))
    sessions = tuple(
        SessionEffect(session=identity, settled=record.settled, ceilings=record.ceilings)
        for identity, record in sorted(draft.sessions.items())
    )
    return LogEntry(time=now, op=signed, accounts=accounts, sessions=sessions, burned=draft.burned)


def _genesis(draft: Draft, action: Genesis) -> None:
    if ledger_domain(action.verifier_key) != draft.domain:
        raise RuleError("the genesis entry is for another ledger", code="genesis")
    if action.fee == 0:
        raise RuleError("an operation costs at least one micro-unit: else anyone fills the log", code="fee")
    draft.rules = rules_of(action)


_RULES: dict[type[Action], Callable[[Draft, Any], None]] = {
    Genesis: _genesis,
    Deposit: deposit,
    Withdraw: withdraw,
    Open: open_session,
    Settle: settle,
    Release: release,
    Close: close,
    Stake: stake,
    Unstake: unstake,
    Unbond: unbond,
    Slash: slash,
    Equivocation: equivocation,
    Notice: notice,
}
