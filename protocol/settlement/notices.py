"""Rules that change: announced long before, so that everyone may leave (docs/spec/settlement.md, clause L18)."""

from __future__ import annotations

from dataclasses import replace

from protocol.errors import RuleError
from protocol.settlement.operations import Notice
from protocol.settlement.state import Change, Draft, Rules

__all__ = ["announced", "notice"]


def announced(rules: Rules, action: Notice) -> Rules:
    """The rules after a notice; it replaces the one before that has not taken effect."""
    change = Change(
        effective=action.effective,
        faucet_limit=action.faucet_limit,
        fee=action.fee,
        bond_multiple=action.bond_multiple,
    )
    return replace(rules, coming=change)


def notice(draft: Draft, action: Notice) -> None:
    """L18: announce other rules. Raises RuleError."""
    rules = draft.rules
    if rules is None or draft.actor != rules.operator:
        raise RuleError("only the ledger's operator changes its rules", code="not-operator")
    if action.effective < draft.now + rules.notice_s:
        raise RuleError(
            f"a change of rules is announced {rules.notice_s} s before it takes effect",
            code="early",
            hint="name a later time",
        )
    if action.fee == 0:
        raise RuleError("an operation costs at least one micro-unit: else anyone fills the log", code="fee")
    draft.rules = announced(rules, action)
