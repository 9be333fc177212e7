"""Money at stake: put there, taken back after a wait (docs/spec/settlement.md, clauses L14 to L16).

It answers for what its owner signs. Until the wait is over a penalty reaches it (`proofs`), so nobody leaves between a
lie and its discovery.
"""

from __future__ import annotations

from protocol.errors import RuleError
from protocol.settlement.operations import Stake, Unbond, Unstake
from protocol.settlement.state import MAX_MONEY, Draft, require_positive
from protocol.units import IntOrArray, format_micro

__all__ = ["penalty_parts", "stake", "unbond", "unstake"]


def penalty_parts(at_stake: IntOrArray) -> tuple[IntOrArray, IntOrArray]:
    """L17: of all that somebody had at stake, what whoever proved it gets (half, rounded down), and what is burned."""
    reward = at_stake // 2
    return reward, at_stake - reward


def stake(draft: Draft, action: Stake) -> None:
    """L14: put free money at stake. Raises RuleError."""
    require_positive(action.amount)
    draft.debit(draft.actor, action.amount)
    account = draft.account(draft.actor)
    if account.bond + account.unbonding + action.amount > MAX_MONEY:
        raise RuleError("the account would have more at stake than a ledger can count", code="overflow")
    draft.change(draft.actor, bond=account.bond + action.amount)


def unstake(draft: Draft, action: Unstake) -> None:
    """L15: begin to take money out of the stake; all that is unbonding waits anew. Raises RuleError."""
    require_positive(action.amount)
    account = draft.account(draft.actor)
    if account.bond < action.amount:
        raise RuleError(
            f"the stake is {format_micro(account.bond)}, less than {format_micro(action.amount)}",
            code="bond",
            hint="name an amount that is at stake; `joule balance` shows it",
        )
    draft.change(
        draft.actor,
        bond=account.bond - action.amount,
        unbonding=account.unbonding + action.amount,
        unlock_at=draft.now + draft.unbonding_s,
    )


def unbond(draft: Draft, _action: Unbond) -> None:
    """L16: after the wait, all that was unbonding is free. Raises RuleError."""
    account = draft.account(draft.actor)
    if account.unbonding == 0:
        raise RuleError("nothing is on its way out of the stake", code="amount", hint="begin with `joule unstake`")
    if draft.now < account.unlock_at:
        raise RuleError(
            f"the wait ends at {account.unlock_at}, in {account.unlock_at - draft.now} s",
            code="early",
            hint="try again then; `joule balance` shows when",
        )
    draft.credit(draft.actor, account.unbonding)
    draft.change(draft.actor, unbonding=0, unlock_at=0)
