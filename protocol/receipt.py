"""Receipts: what they commit to, whether neighbours' receipts meet, and the root that a voucher names them by.

A window's commitments are SHA-256 over the raw bytes that entered and left a leg in that window, in order of position:
little-endian 32-bit token ids at the two ends of the route, little-endian fp32 rows between legs. Both neighbours hash
the same bytes, so where their commitments differ one of the two signed something untrue.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from itertools import pairwise

from protocol.codec import Message, encode, message
from protocol.eip712 import Domain, recover_typed
from protocol.errors import DishonestError, SignatureError
from protocol.ids import SignatureBytes
from protocol.merkle import leaf_hash, root_of
from protocol.messages import Receipt, Session
from protocol.metering import Plan, served

__all__ = [
    "UNMEASURED",
    "SignedReceipt",
    "WindowCommitment",
    "check_receipt",
    "check_window",
    "receipts_root",
    "token_bytes",
]

UNMEASURED = 2**63 - 1
"""`Receipt.millijoules` where a provider does not know its energy: never 0, which would be a claim."""

SKETCH_BYTES = 128
NO_RECEIPTS = bytes(32)


@message("signed-receipt/1")
class SignedReceipt(Message):
    """A receipt and its provider's signature: the leaf of a voucher's receipts root."""

    receipt: Receipt
    signature: SignatureBytes


class WindowCommitment:
    """The hash of what passed one boundary in one window, taken in as it passes."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"joulemesh window\n")

    def add(self, data: bytes | memoryview) -> None:
        """Take in the next bytes."""
        self._hash.update(data)

    def digest(self) -> bytes:
        """32 bytes; more may still be added."""
        return self._hash.digest()


def token_bytes(tokens: Sequence[int]) -> bytes:
    """Token ids as they are hashed and sent: little-endian, 32 bits each."""
    return struct.pack(f"<{len(tokens)}I", *tokens)


def commitment_of(tokens: Sequence[int]) -> bytes:
    """The commitment of a window in which these token ids passed."""
    commitment = WindowCommitment()
    commitment.add(token_bytes(tokens))
    return commitment.digest()


def check_receipt(domain: Domain, terms: Session, signed: SignedReceipt) -> None:
    """Hold one receipt's signature against the leg that it speaks for. Raises SignatureError or DishonestError."""
    receipt = signed.receipt
    if receipt.leg >= len(terms.legs):
        raise DishonestError(f"a receipt for leg {receipt.leg} of {len(terms.legs)}")
    if recover_typed(domain, receipt, signed.signature) != terms.legs[receipt.leg].provider:
        raise SignatureError(f"the receipt of leg {receipt.leg} is not signed by its provider for this ledger")


def check_window(
    plan: Plan, start: int, end: int, tokens: Sequence[int], receipts: Sequence[Receipt], session: bytes
) -> None:
    """Hold the receipts of all legs for positions ``[start, end)`` against one another and against the tokens.

    Args:
        tokens: token ids of the whole sequence, prompt first, with at least ``end`` of them; the token that position
            ``end - 1`` yields stands at ``end``.
        receipts: one a leg, first leg first; their signatures are checked already (`check_receipt`).

    Raises:
        DishonestError: names the first leg, or the pair of neighbours, whose word does not hold.
    """
    counts = served(plan, end)
    for leg, receipt in enumerate(receipts):
        if (receipt.session, receipt.leg) != (session, leg):
            raise DishonestError(f"the receipt in place {leg} is for another leg or session")
        if (receipt.tokens_in, receipt.tokens_out) != counts:
            raise DishonestError(
                f"leg {leg} counts {receipt.tokens_in}+{receipt.tokens_out} tokens, not {counts[0]}+{counts[1]}"
            )
    if receipts[0].input != commitment_of(tokens[start:end]):
        raise DishonestError("leg 0 signed for another prompt than it was sent")
    for leg, (left, right) in enumerate(pairwise(receipts)):
        if left.output != right.input:
            raise DishonestError(f"what leg {leg} says it sent is not what leg {leg + 1} says it received")
    yielded = tokens[max(start, plan.prompt - 1) + 1 : end + 1]
    if receipts[-1].output != commitment_of(yielded):
        raise DishonestError(f"leg {len(receipts) - 1} signed for other tokens than it sent")


def receipts_root(receipts: Sequence[SignedReceipt]) -> bytes:
    """What a voucher names its receipts by: RFC 6962 root, by window and leg; zero when there are none."""
    if not receipts:
        return NO_RECEIPTS
    return root_of([leaf_hash(encode(receipt)) for receipt in receipts])
