"""Statements that contradict one another, for the cases of clause L17."""

from __future__ import annotations

from typing import Any

from protocol.identity.eip712 import Domain, sign_typed, struct_hash
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import SignedCheckpoint, TypedCheckpoint
from protocol.market.offer import Provenance
from protocol.session.messages import UNMEASURED, Receipt, Session, SignedReceipt, session_id
from protocol.settlement.operations import Equivocation, Slash
from scripts.vectors.ledger_states import DOMAIN

__all__ = ["accusing", "checkpoint_of", "receipt_of", "showing"]

NOBODY = bytes(20)
SAID: dict[str, Any] = {
    "window": 3,
    "tokens_in": 9,
    "tokens_out": 4,
    "rows": 13,
    "input": b"\x44" * 32,
    "output": b"\x55" * 32,
    "tokens": bytes(32),
    "nonce": b"\x66" * 32,
    "sketches": bytes(32),
    "millijoules": UNMEASURED,
    "source": Provenance.UNKNOWN,
    "pue_milli": 1_000,
    "p50_us": 0,
    "p95_us": 0,
    "late": 0,
}


def receipt_of(domain: Domain, session: Session, leg: int, key: SigningKey, **changes: Any) -> SignedReceipt:
    """A receipt for one window, signed by `key`."""
    receipt = Receipt(session=session_id(session), leg=leg, **{**SAID, **changes})
    return SignedReceipt(receipt=receipt, signature=sign_typed(domain, receipt, key))


def checkpoint_of(domain: Domain, key: SigningKey, *, size: int = 5, root: int = 0x88, origin: int = 0x77) -> Any:
    """A checkpoint as typed data, signed by `key`."""
    typed = TypedCheckpoint(origin=bytes([origin]) * 32, size=size, root=bytes([root]) * 32)
    return SignedCheckpoint(checkpoint=typed, signature=sign_typed(domain, typed, key))


def accusing(*receipts: SignedReceipt, swapped: bool = False) -> Slash:
    """The operation that shows two receipts, in order unless they are swapped."""
    first, second = sorted(receipts, key=lambda each: struct_hash(each.receipt), reverse=swapped)
    return Slash(actor=NOBODY, nonce=0, first=first, second=second)


def showing(*checkpoints: SignedCheckpoint, swapped: bool = False, ledger: Domain = DOMAIN) -> Equivocation:
    """The operation that shows two checkpoints of a ledger's log, in order unless they are swapped."""
    first, second = sorted(checkpoints, key=lambda each: struct_hash(each.checkpoint), reverse=swapped)
    return Equivocation(actor=NOBODY, nonce=0, ledger=ledger.verifying_contract, first=first, second=second)
