"""Penalties for what proves itself (docs/spec/settlement.md, clause L17).

A proof is two statements under one signature that no honest program makes both of. Nothing is weighed: whoever reads
the two decides alike. What has to be judged comes as further operations: case, draw, commit, reveal, appeal.
"""

from __future__ import annotations

from protocol.encoding.codec import Message
from protocol.errors import RuleError, SignatureError
from protocol.identity.eip712 import struct_hash
from protocol.identity.ids import Address
from protocol.log.checkpoint import recover_checkpoint
from protocol.session.receipt import NO_HASH
from protocol.settlement.domains import domain_at
from protocol.settlement.operations import Equivocation, Slash
from protocol.settlement.stakes import penalty_parts
from protocol.settlement.state import Draft

__all__ = ["equivocation", "slash"]


def slash(draft: Draft, action: Slash) -> None:
    """L17: two receipts of one leg under one nonce. Raises RuleError or SignatureError."""
    one, other = action.first.receipt, action.second.receipt
    # (1) of a session that is known here
    legs = draft.known(one.session).session.legs
    # (2) one leg, one window, one nonce: an honest leg shows the next one when it serves positions again
    if (one.session, one.leg, one.window, one.nonce) != (other.session, other.leg, other.window, other.nonce):
        raise _proves_nothing("the two receipts are not of one leg for one window under one nonce")
    if one.nonce == NO_HASH or one.leg >= len(legs):
        raise _proves_nothing("the receipts show no nonce, or are of no leg of the session")
    # (3) different, and in order
    _require_order(one, other)
    # (4) both are the leg's word, for this venue
    accused = Address(legs[one.leg].provider)
    for signed in (action.first, action.second):
        if draft.recover(draft.domain, signed.receipt, signed.signature) != accused:
            raise SignatureError("a receipt is not signed by its leg for this ledger")
    _punish(draft, accused)


def equivocation(draft: Draft, action: Equivocation) -> None:
    """L17: two checkpoints of one size with different roots. Raises RuleError or SignatureError."""
    one, other = action.first.checkpoint, action.second.checkpoint
    # (1) one log at one size, with two roots
    if (one.origin, one.size) != (other.origin, other.size) or one.root == other.root:
        raise _proves_nothing("the two checkpoints are not of one log at one size with different roots")
    # (2) in order
    _require_order(one, other)
    # (3) under one signature, for the ledger that the log is of
    domain = domain_at(Address(action.ledger))
    accused = recover_checkpoint(domain, action.first, draft.recover)
    if recover_checkpoint(domain, action.second, draft.recover) != accused:
        raise SignatureError("the two checkpoints are not signed by one party for that ledger")
    _punish(draft, accused)


def _require_order(one: Message, other: Message) -> None:
    """One lie is one operation: the statement with the lower hash comes first."""
    if struct_hash(one) >= struct_hash(other):
        raise _proves_nothing("the two statements are the same, or not in order of their hashes")


def _punish(draft: Draft, accused: Address) -> None:
    """All that the accused has at stake goes: a part to the actor, the rest to nobody."""
    account = draft.account(accused)
    penalty = account.bond + account.unbonding
    if penalty == 0:
        raise RuleError("whom it accuses has nothing at stake", code="nothing-staked")
    reward, burned = penalty_parts(penalty)
    draft.change(accused, bond=0, unbonding=0, unlock_at=0)
    draft.credit(draft.actor, reward)
    draft.burned += burned


def _proves_nothing(why: str) -> RuleError:
    return RuleError(f"this proves nothing: {why}", code="proof")
