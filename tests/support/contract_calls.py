"""Protocol messages in the form that the settlement contract takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from protocol.messages import Receipt, Session, SignedVoucher


def split(signature: bytes) -> tuple[bytes, bytes]:
    """An EIP-2098 signature as the contract's two words."""
    return signature[:32], signature[32:]


def as_call(session: Session) -> tuple[Any, ...]:
    legs = [(leg.provider, leg.cap) for leg in session.legs]
    return session.client, session.expiry, session.terms, session.salt, legs


def marks_of(session: Session, settled: Sequence[int] = (), ceilings: Sequence[int] = ()) -> list[int]:
    """What is stored of a session: paid so far and ceiling of each leg; by default as it opens."""
    paid = settled or [0] * len(session.legs)
    most = ceilings or [leg.cap for leg in session.legs]
    return [each << 64 | ceiling for each, ceiling in zip(paid, most, strict=True)]


def claim_of(session: Session, marks: Sequence[int], signed: SignedVoucher) -> tuple[Any, ...]:
    voucher = signed.voucher
    counts = voucher.tokens_in, voucher.tokens_out, voucher.receipts
    return as_call(session), marks, voucher.amounts, *counts, *split(signed.signature)


def receipt_call(receipt: Receipt) -> tuple[Any, ...]:
    values = [getattr(receipt, name) for name in receipt.__dataclass_fields__]
    return tuple(str(value) if isinstance(value, str) else value for value in values)
