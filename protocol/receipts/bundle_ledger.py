"""What a receipt bundle shows of its venue: that it opened the session, paid the voucher out, and keeps nothing back.

docs/spec/receipt.md, clauses R3, R4 and R10. A bundle holds a few of a ledger's entries, not its whole log: whoever
replays that finds more (`settlement.replay`). Of a contract it holds transactions, and the reader is told what is left
to be asked of the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from protocol.chain.chain_evidence import ChainProof, ShownCall, check_chain_proof
from protocol.chain.contract import Contract
from protocol.encoding.codec import decode
from protocol.errors import DishonestError, peers_fault
from protocol.identity.eip712 import Domain
from protocol.log.checkpoint import Checkpoint
from protocol.log.cosignature import CosignerKey, cosigned_by
from protocol.log.note import VerifierKey
from protocol.market.offer import CLOCK_SKEW_S, Offer
from protocol.session.messages import Session, Voucher, check_discharge, check_voucher, session_id
from protocol.settlement import ledger_domain
from protocol.settlement.evidence import LogProof, check_log_proof
from protocol.settlement.operations import Action, Close, LogEntry, Open, Release, SessionEffect, Settle

__all__ = ["Entry", "Proven", "check_opening", "check_settlement", "cosignatures", "domain_of", "read_evidence"]


@dataclass(frozen=True, slots=True)
class Entry:
    """An operation on a session, as a venue took it down."""

    time: int
    """Unix seconds by the venue's clock."""
    action: Action
    effect: SessionEffect
    """The session after it."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What evidence shows of a session."""

    entries: tuple[Entry, ...]
    """In the order of the venue's books."""
    newest: Checkpoint | None
    """The largest one that the proofs of a ledger end in; None for a contract."""
    proof_bytes: int
    """Size of all inclusion proofs together."""
    transactions: tuple[ShownCall, ...]
    """On a chain, which has to be asked whether its blocks are those that hold them; empty for a ledger."""
    seed: bytes
    """32 bytes that nobody knew when the job was served: the root or the block that the settling entry came with."""


def domain_of(venue: str) -> Domain:
    """What typed signatures for a venue carry: a ledger by its verifier key, or a contract. Raises MalformedError."""
    if venue.startswith("evm:"):
        with peers_fault():
            return Contract.parse(venue).domain
    return ledger_domain(str(VerifierKey.parse(venue)))


def read_evidence(evidence: Sequence[bytes | None], venue: str, session: Session) -> Proven:
    """The entries that pieces of evidence hold, each about `session`; pieces that are None are passed over (R3).

    Raises:
        MalformedError, SignatureError, DishonestError: as `evidence.check_log_proof` and
            `chain_evidence.check_chain_proof`, or the venue contradicts itself.
    """
    if venue.startswith("evm:"):
        with peers_fault():
            return _read_chain([each for each in evidence if each is not None], Contract.parse(venue), session)
    return _read_log([each for each in evidence if each is not None], VerifierKey.parse(venue), session)


def _read_chain(evidence: Sequence[bytes], contract: Contract, session: Session) -> Proven:
    shown = [check_chain_proof(decode(each, ChainProof), contract) for each in evidence]
    hashes: dict[int, bytes] = {}
    for each in shown:
        proof = each.proof
        said = hashes.setdefault(proof.block, proof.block_hash)
        _require(said == proof.block_hash, f"two blocks are said to be number {proof.block}")
    for one, other in pairwise(shown):
        before, after = one.proof, other.proof
        _require(before.block <= after.block and before.time <= after.time, "the transactions are out of order")
    entries = tuple(Entry(each.proof.time, each.call.action, _call_effect(each, session)) for each in shown)
    inclusions = [each.proof.inclusion for each in shown]
    size = sum(sum(map(len, (*each.transactions, *each.receipts))) for each in inclusions if each is not None)
    return Proven(entries, None, size, tuple(shown), shown[1].proof.block_hash)


def cosignatures(evidence: Sequence[bytes | None], venue: str, witnesses: Sequence[CosignerKey]) -> tuple[int, ...]:
    """By piece of evidence, how many witnesses have cosigned the checkpoint that it ends in; empty for a contract.

    Raises MalformedError, SignatureError: it is none, or a witness's line is not its own.
    """
    if venue.startswith("evm:"):
        return ()
    notes = [decode(each, LogProof).checkpoint for each in evidence if each is not None]
    return tuple(sum(cosigned_by(note, each) is not None for each in witnesses) for note in notes)


def _call_effect(shown: ShownCall, session: Session) -> SessionEffect:
    record = shown.call.of(session_id(session))
    if record is None:
        raise DishonestError("a transaction is about another session")
    return SessionEffect(session=session_id(session), settled=record.settled, ceilings=record.ceilings)


def _read_log(evidence: Sequence[bytes], verifier: VerifierKey, session: Session) -> Proven:
    proofs = [decode(each, LogProof) for each in evidence]
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
    found = tuple(Entry(entry.time, entry.op.read(), _effect(entry, session)) for entry in entries)
    size = sum(len(part) for proof in proofs for part in proof.proof)
    newest = max(checkpoints, key=lambda checkpoint: checkpoint.size)
    return Proven(found, newest, size, (), checkpoints[1].root)


def check_opening(entry: Entry, session: Session, offers: Sequence[Offer]) -> None:
    """That an entry opened this very session, with all caps reserved, while its offers were in force (R4).

    Raises DishonestError.
    """
    action, effect = entry.action, entry.effect
    _require(isinstance(action, Open) and action.session == session, "the session that was opened is another one")
    caps = tuple(leg.cap for leg in session.legs)
    _require(effect.ceilings == caps and not any(effect.settled), "the opening entry did not reserve the caps")
    _require(entry.time < session.expiry, "the session had expired when it was opened")
    in_force = all(offer.issued_at - CLOCK_SKEW_S <= entry.time < offer.expires_at + CLOCK_SKEW_S for offer in offers)
    _require(in_force, "an offer in the terms was not in force when the session was opened")


def check_settlement(entries: Sequence[Entry], session: Session, voucher: Voucher, domain: Domain) -> SessionEffect:
    """That the voucher was paid out, and where the session stands since (R10).

    Args:
        entries: of the opening, of the settlement, and of what came last where that is another one.
        voucher: the last one; its signature has been checked.

    Raises:
        MalformedError, SignatureError: an operation carries a voucher or a discharge that is none.
        DishonestError: money was kept from a leg, or from the client.
    """
    before = entries[0].effect
    for entry in entries[1:]:
        after = entry.effect
        for leg in range(len(session.legs)):
            _require(after.settled[leg] <= after.ceilings[leg], f"the ledger paid leg {leg} more than its cap holds")
            fell = after.settled[leg] < before.settled[leg] or after.ceilings[leg] > before.ceilings[leg]
            _require(not fell, f"the ledger took back what leg {leg} was paid, or keeps money that it had released")
        _check_action(entry, session, after, domain)
        before = after
    _require_paid(voucher.amounts, entries[1].effect)
    return before


def _check_action(entry: Entry, session: Session, effect: SessionEffect, domain: Domain) -> None:
    """That the ledger did what the operation asked of it."""
    action, identity = entry.action, session_id(session)
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
