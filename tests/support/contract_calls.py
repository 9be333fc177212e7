"""Protocol messages in the form that the settlement contract takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protocol.session.messages import Receipt, Session, SignedDischarge, SignedVoucher


def split(signature: bytes) -> tuple[bytes, bytes]:
    """An EIP-2098 signature as the contract's two words."""
    return signature[:32], signature[32:]


def as_call(session: Session) -> tuple[Any, ...]:
    legs = [int.from_bytes(leg.provider, "big") << 64 | leg.cap for leg in session.legs]
    return session.client, session.expiry, session.terms, session.salt, legs


def marks_of(session: Session, settled: Sequence[int] = (), ceilings: Sequence[int] = ()) -> bytes:
    """What is stored of a session: paid so far and ceiling of each leg; by default as it opens."""
    paid = settled or [0] * len(session.legs)
    most = ceilings or [leg.cap for leg in session.legs]
    return b"".join((each << 64 | ceiling).to_bytes(16, "big") for each, ceiling in zip(paid, most, strict=True))


def settled_by(marks: bytes, amounts: Sequence[int]) -> bytes:
    """What marks become by a voucher of these amounts."""
    numbers = [int.from_bytes(marks[at : at + 8], "big") for at in range(0, len(marks), 8)]
    legs = zip(numbers[::2], numbers[1::2], amounts, strict=False)
    raised = ((max(paid, min(amount, ceiling)), ceiling) for paid, ceiling, amount in legs)
    return b"".join((paid << 64 | ceiling).to_bytes(16, "big") for paid, ceiling in raised)


def packed(signed: SignedDischarge) -> bytes:
    """The 73 bytes that a discharge is to the contract."""
    said = signed.discharge
    return said.leg.to_bytes(1, "big") + said.amount.to_bytes(8, "big") + signed.signature


def claim_of(session: Session, marks: bytes, signed: SignedVoucher) -> tuple[Any, ...]:
    voucher = signed.voucher
    counts = voucher.tokens_in, voucher.tokens_out, voucher.receipts
    return as_call(session), marks, voucher.amounts, *counts, *split(signed.signature)


def receipt_call(receipt: Receipt) -> tuple[Any, ...]:
    values = [getattr(receipt, name) for name in receipt.__dataclass_fields__]
    return tuple(str(value) if isinstance(value, str) else value for value in values)
