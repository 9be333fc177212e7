"""The embedded ledger: a Merkle log of signed operations, the state they lead to, and what proves both to anybody.

Reading order: schema, store, working_copy, sequencer, wire, service, ledger (a running one); log_source, remembered,
client (the verifying reader); verify (replay of everything).
"""

from __future__ import annotations

from node.ledger.client import LedgerClient
from node.ledger.ledger import DEFAULT_GRACE_S, DEFAULT_PORT, LedgerSettings, RunningLedger, run_ledger
from node.ledger.verify import Fault, Progress, Report, verify_database, verify_log, verify_url
from node.ledger.wire import LedgerInfo

__all__ = [
    "DEFAULT_GRACE_S",
    "DEFAULT_PORT",
    "Fault",
    "LedgerClient",
    "LedgerInfo",
    "LedgerSettings",
    "Progress",
    "Report",
    "RunningLedger",
    "run_ledger",
    "verify_database",
    "verify_log",
    "verify_url",
]
