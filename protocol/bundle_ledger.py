"""What a receipt bundle shows of the ledger: that it opened the session, paid the voucher out, and keeps nothing back.

docs/spec/receipt.md, clauses R3, R4 and R10. A bundle holds a few of the ledger's entries, not its whole log: whoever
replays that finds more (`session.replay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocol.checkpoint import Checkpoint
from protocol.codec import decode
from protocol.eip712 import Domain
from protocol.errors import DishonestError
from protocol.evidence import LogProof, check_log_proof
from protocol.messages import Session, Voucher, check_discharge, check_voucher, session_id
from protocol.note import VerifierKey
from protocol.offer import CLOCK_SKEW_S, Offer
from protocol.operations import Close, LogEntry, Open, Release, SessionEffect, Settle

__all__ = ["Proven", "check_opening", "check_settlement", "read_evidence"]


@dataclass(frozen=True, slots=True)
class Proven:
    """Entries that stand in the ledger's log."""

    entries: tuple[LogEntry, ...]
    """In the order of the log."""
    newest: Checkpoint
    """The largest one that their proofs end in."""
    proof_bytes: int
    """Size of all inclusion proofs together."""


def read_evidence(evidence: Sequence[bytes | None], verifier: VerifierKey, session: Session) -> Proven:
    """The entries that pieces of evidence hold, each about `session`; pieces that are None are passed over (R3).

    Raises:
        MalformedError, SignatureError, DishonestError: as `evidence.check_log_proof`, or the ledger contradicts itself.
    """
    proofs = [decode(each, LogProof) for each in evidence if each is not None]
    checked = [check_log_proof(proof, verifier) for proof in proofs]
    entries, checkpoints = [entry for entry, _ in checked], [checkpoint for _, checkpoint in checked]
    roots: dict[int, bytes] = {}
    for checkpoint in checkpoints:
        _require(
            roots.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root,
            f"the ledger signed two different logs of {checkpoint.size} entries: this receipt is the proof",
        )
    for (one, entry), (other, later) in pairwise(zip([proof.index for proof in proofs], entries, strict=True)):
        _require(one <= other and entry.time <= later.time, "the ledger's entries are out of order")
        _require(one != other or entry == later, "the ledger shows two entries in one place")
    for entry in entries:
        _effect(entry, session)
    size = sum(len(part) for proof in proofs for part in proof.proof)
    return Proven(tuple(entries), max(checkpoints, key=lambda checkpoint: checkpoint.size), size)


def check_opening(entry: LogEntry, session: Session, offers: Sequence[Offer]) -> None:
    """That an entry opened this very session, with all caps reserved, while its offers were in force (R4).

    Raises DishonestError.
    """
    action = entry.op.read()
    _require(isinstance(action, Open) and action.session == session, "the session that was opened is another one")
    effect = _effect(entry, session)
    caps = tuple(leg.cap for leg in session.legs)
    _require(effect.ceilings == caps and not any(effect.settled), "the opening entry did not reserve the caps")
    _require(entry.time < session.expiry, "the session had expired when it was opened")
    in_force = all(offer.issued_at - CLOCK_SKEW_S <= entry.time < offer.expires_at + CLOCK_SKEW_S for offer in offers)
    _require(in_force, "an offer in the terms was not in force when the session was opened")


def check_settlement(entries: Sequence[LogEntry], session: Session, voucher: Voucher, domain: Domain) -> SessionEffect:
    """That the voucher was paid out, and where the session stands since (R10).

    Args:
        entries: of the opening, of the settlement, and of what came last where that is another one.
        voucher: the last one; its signature has been checked.

    Raises:
        MalformedError, SignatureError: an operation carries a voucher or a discharge that is none.
        DishonestError: money was kept from a leg, or from the client.
    """
    before = _effect(entries[0], session)
    for entry in entries[1:]:
        after = _effect(entry, session)
        for leg in range(len(session.legs)):
            _require(after.settled[leg] <= after.ceilings[leg], f"the ledger paid leg {leg} more than its cap holds")
            fell = after.settled[leg] < before.settled[leg] or after.ceilings[leg] > before.ceilings[leg]
            _require(not fell, f"the ledger took back what leg {leg} was paid, or keeps money that it had released")
        _check_action(entry, session, after, domain)
        before = after
    _require_paid(voucher.amounts, _effect(entries[1], session))
    return before


def _check_action(entry: LogEntry, session: Session, effect: SessionEffect, domain: Domain) -> None:
    """That the ledger did what the operation asked of it."""
    action, identity = entry.op.read(), session_id(session)
    if isinstance(action, Settle):
        for pay in action.vouchers:
            if pay.voucher.session == identity:
                check_voucher(domain, session, pay)
                _require_paid(pay.voucher.amounts, effect)
    elif isinstance(action, Release):
        for word in action.discharges:
            if word.discharge.session == identity:
                check_discharge(domain, session, word)
                leg, claimed = word.discharge.leg, word.discharge.amount
                freed = effect.ceilings[leg] <= max(claimed, effect.settled[leg])
                _require(freed, f"the ledger keeps money back that leg {leg} has released")
    elif isinstance(action, Close):
        _require(entry.time > session.expiry, "the session was closed before its time")
        _require(effect.ceilings == effect.settled, "the closing entry keeps money back")


def _require_paid(amounts: Sequence[int], effect: SessionEffect) -> None:
    reached = enumerate(zip(amounts, effect.settled, effect.ceilings, strict=True))
    for leg, (promised, paid, ceiling) in reached:
        _require(paid >= min(promised, ceiling), f"the ledger did not settle the voucher for leg {leg}")


def _effect(entry: LogEntry, session: Session) -> SessionEffect:
    identity, legs = session_id(session), len(session.legs)
    for effect in entry.sessions:
        if effect.session == identity:
            _require(len(effect.settled) == len(effect.ceilings) == legs, "an entry counts another number of legs")
            return effect
    raise DishonestError("a ledger entry is about another session")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DishonestError(otherwise)
