"""From two statements that contradict each other to the operation that convicts their signer, in the order it wants.

docs/spec/settlement.md, clause L17. What convicts nobody is not made: the ledger would refuse it.
"""

from __future__ import annotations

from protocol.errors import MalformedError
from protocol.identity.eip712 import Domain, struct_hash
from protocol.log.checkpoint import Operator, SignedCheckpoint, check_operator_line, operators_in
from protocol.log.fork import ForkProof, check_fork
from protocol.session.messages import SignedReceipt
from protocol.settlement.domains import ledger_domain
from protocol.settlement.operations import Equivocation, Slash

__all__ = ["accuse_leg", "accuse_operator", "accuse_operator_of", "operator_in"]

_NOBODY = bytes(20)


def accuse_leg(one: SignedReceipt, other: SignedReceipt) -> Slash:
    """The operation that shows two receipts of a leg under one nonce; whoever submits it fills in the actor."""
    first, second = sorted((one, other), key=lambda each: struct_hash(each.receipt))
    return Slash(actor=_NOBODY, nonce=0, first=first, second=second)


def accuse_operator(ledger: Domain, one: SignedCheckpoint, other: SignedCheckpoint) -> Equivocation:
    """The operation that shows two checkpoints of one size; whoever submits it fills in the actor.

    Args:
        ledger: the domain of the ledger whose log has both, wherever the stake is.
    """
    first, second = sorted((one, other), key=lambda each: struct_hash(each.checkpoint))
    return Equivocation(actor=_NOBODY, nonce=0, ledger=ledger.verifying_contract, first=first, second=second)


def operator_in(proof: ForkProof) -> Operator:
    """Whose account has signed both checkpoints of a proof, for who does not know the ledger's operator.

    Raises MalformedError where nobody's has, or where these are no notes.
    """
    domain = ledger_domain(proof.verifier_key)
    both = operators_in(proof.older, domain) & operators_in(proof.newer, domain)
    if not both:
        raise _unanswered()
    return Operator(domain, min(both))


def accuse_operator_of(proof: ForkProof, operator: Operator) -> Equivocation:
    """What convicts a ledger's operator by a proof that its log's key has signed two histories.

    Raises:
        MalformedError, SignatureError, DishonestError: the proof proves nothing; or it does, but not to a ledger:
            the two are of different sizes, or the operator has not signed both with its account's key.
    """
    older, newer = check_fork(proof)
    if older.size != newer.size:
        raise MalformedError(
            f"the two checkpoints have {older.size} and {newer.size} entries: their signer loses its stake only for "
            "two of one size",
            hint="the proof still stops trade with the ledger; keep it",
        )
    lines = [check_operator_line(note, operator) for note in (proof.older, proof.newer)]
    one, other = lines
    if one is None or other is None:
        raise _unanswered()
    return accuse_operator(operator.domain, one, other)


def _unanswered() -> MalformedError:
    return MalformedError(
        "the operator has not signed both checkpoints with its account's key, so no stake answers for them",
        hint="the proof still stops trade with the ledger; keep it",
    )
