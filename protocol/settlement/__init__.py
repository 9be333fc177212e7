"""The settlement state machine, pure: the same rules in the embedded ledger, in a replay of its log, in a contract.

Reading order: domains (where a signature counts), state (what there is), accounts, sessions, stakes, proofs, notices
(what operations do), machine (which one does what), signatures (who signed, found before the rules ask).
"""

from __future__ import annotations

from protocol.settlement.domains import LEDGER_CHAIN_ID, domain_at, ledger_domain
from protocol.settlement.machine import apply, glance, outcome_as_written, replay, rules_of
from protocol.settlement.notices import announced
from protocol.settlement.sessions import MAX_SESSION_S
from protocol.settlement.state import (
    MAX_MONEY,
    Account,
    Books,
    Change,
    Lookup,
    Outcome,
    Rules,
    SessionRecord,
    account_of,
)

__all__ = [
    "LEDGER_CHAIN_ID",
    "MAX_MONEY",
    "MAX_SESSION_S",
    "Account",
    "Books",
    "Change",
    "Lookup",
    "Outcome",
    "Rules",
    "SessionRecord",
    "account_of",
    "announced",
    "apply",
    "domain_at",
    "glance",
    "ledger_domain",
    "outcome_as_written",
    "replay",
    "rules_of",
]
