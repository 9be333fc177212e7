"""Money into and out of a ledger (docs/spec/settlement.md, clause L6)."""

from __future__ import annotations

from protocol.errors import RuleError
from protocol.settlement.operations import Deposit, Withdraw
from protocol.settlement.state import Draft, require_positive

__all__ = ["deposit", "withdraw"]


def deposit(draft: Draft, action: Deposit) -> None:
    """L6: credit what reached the operator outside. Raises RuleError."""
    if draft.rules is None or draft.actor != draft.rules.operator:
        raise RuleError("only the ledger's operator credits deposits", code="not-operator")
    require_positive(action.amount)
    draft.credit(action.account, action.amount)


def withdraw(draft: Draft, action: Withdraw) -> None:
    """L6: take free money out. Raises RuleError."""
    require_positive(action.amount)
    draft.debit(draft.actor, action.amount)
