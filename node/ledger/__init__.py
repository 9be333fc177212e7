"""The embedded ledger: a Merkle log of signed operations, the state they lead to, and what proves both to anybody.

Reading order: schema, notices, rows, writer_lock, store, working_copy, tree, published, signers, sequencer, following,
fronts, front, wire, rates, offers, service, ledger (a running one);
addresses, log_source, remembered, trust, verified_log, client (the verifying reader); verify (replay of everything);
witness_state, replayed, witness, witness_service (cosigning other operators' logs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from node.ledger.client import LedgerClient, TooLongAgoError
from node.ledger.rates import Rate, Rates
from node.ledger.verified_log import Proven
from node.ledger.wire import LedgerInfo
from node.ledger.witnessed import Witnessed

if TYPE_CHECKING:
    from node.ledger.cosigning import Pace, WitnessServer
    from node.ledger.exported import export_database, export_url, verify_folder
    from node.ledger.front import Watch
    from node.ledger.fronts import Peers
    from node.ledger.ledger import DEFAULT_GRACE_S, DEFAULT_PORT, LedgerSettings, RunningLedger, run_ledger
    from node.ledger.offers import Shown
    from node.ledger.verify import Fault, Progress, Report, verify_database, verify_log, verify_url
    from node.ledger.witness_service import RunningWitness, WitnessSettings, run_witness, second_key, witness_key

__all__ = [
    "DEFAULT_GRACE_S",
    "DEFAULT_PORT",
    "Fault",
    "LedgerClient",
    "LedgerInfo",
    "LedgerSettings",
    "Pace",
    "Peers",
    "Progress",
    "Proven",
    "Rate",
    "Rates",
    "Report",
    "RunningLedger",
    "RunningWitness",
    "Shown",
    "TooLongAgoError",
    "Watch",
    "WitnessServer",
    "WitnessSettings",
    "Witnessed",
    "export_database",
    "export_url",
    "run_ledger",
    "run_witness",
    "second_key",
    "verify_database",
    "verify_folder",
    "verify_log",
    "verify_url",
    "witness_key",
]


def __getattr__(name: str) -> Any:
    """Load the database side when it is first asked for: a client needs none of it, and its command starts sooner."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from node.ledger import cosigning, exported, front, ledger, verify, witness_service

    for module in (ledger, verify, cosigning, exported, front):
        if hasattr(module, name):
            return getattr(module, name)
    return getattr(witness_service, name)
