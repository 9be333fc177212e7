"""Evidence that a settlement venue took something down: opaque to those who carry it, checked by one function.

Today there is one kind, an entry of an embedded ledger's log with its inclusion proof. A contract's would be another
message here; whoever carries evidence in an order or a bundle does not look inside. docs/spec/ledger.md, clause C9.
"""

from __future__ import annotations

from typing import Annotated

from protocol.encoding.codec import Count, Message, Size, decode, message
from protocol.errors import DishonestError, SignatureError
from protocol.identity.eip712 import recover_typed
from protocol.identity.ids import U64, Bytes32
from protocol.log.checkpoint import Checkpoint, verify_entry
from protocol.log.note import VerifierKey
from protocol.session.messages import Session, session_id
from protocol.settlement import ledger_domain
from protocol.settlement.operations import LogEntry, Open

__all__ = ["LogProof", "check_log_proof", "check_opened", "read_entry"]


@message("log-proof/1")
class LogProof(Message):
    """One entry of a ledger's log, and the proof that it stands there."""

    entry: Annotated[bytes, Size(1, 32 * 1024)]
    """Canonical bytes of an ``entry/2``."""
    index: U64
    """Its place in the log."""
    proof: Annotated[tuple[Bytes32, ...], Count(0, 63)]
    """RFC 6962 inclusion hashes, leaf to root."""
    checkpoint: Annotated[bytes, Size(1, 20 * 1024)]
    """The signed note that the proof ends in."""


def check_log_proof(proof: LogProof, verifier: VerifierKey) -> tuple[LogEntry, Checkpoint]:
    """The entry, and the checkpoint that it is in (docs/spec/ledger.md, clauses T2 and C1).

    The caller still owes: that it trusts `verifier`, and that this checkpoint contradicts none that it knows.

    Raises:
        MalformedError: not an entry, not a checkpoint, or a proof of another shape.
        SignatureError: the checkpoint is not signed by the ledger's key, or the entry not by its actor.
        DishonestError: the entry is not in the log there.
    """
    checkpoint = verify_entry(proof.entry, proof.index, proof.proof, proof.checkpoint, verifier)
    return read_entry(proof.entry, verifier), checkpoint


def read_entry(data: bytes, verifier: VerifierKey) -> LogEntry:
    """A log entry whose operation its actor has signed for this ledger. Raises MalformedError, SignatureError."""
    entry = decode(data, LogEntry)
    action = entry.op.read()
    if recover_typed(ledger_domain(str(verifier)), action, entry.op.signature) != action.actor:
        raise SignatureError("a log entry is not signed by its actor for this ledger")
    return entry


def check_opened(evidence: bytes, session: Session, verifier: VerifierKey) -> Checkpoint:
    """That a session was opened, with its caps reserved; the checkpoint that shows it (docs/spec/session.md, O8).

    Nothing that a leg has not signed can take its reserve away before the grace ends, so this stays true.

    Raises:
        MalformedError, SignatureError: as `check_log_proof`.
        DishonestError: the entry opens another session, or the proof does not hold.
    """
    entry, checkpoint = check_log_proof(decode(evidence, LogProof), verifier)
    action = entry.op.read()
    if not isinstance(action, Open) or session_id(action.session) != session_id(session):
        raise DishonestError("the evidence is not of this session's opening")
    return checkpoint
