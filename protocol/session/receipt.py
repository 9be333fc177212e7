"""What legs sign for at the end of each window, and the hashes in it; `receipt_book` holds receipts together.

docs/spec/receipt.md, clauses R5 to R8, and docs/spec/audit.md.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.energy.power import most_millijoules
from protocol.errors import DishonestError, SignatureError
from protocol.identity.eip712 import Domain, Recover, recover_typed
from protocol.identity.ids import keccak256
from protocol.market.offer import Hardware
from protocol.session.fingerprint import SKETCH_BYTES
from protocol.session.messages import UNMEASURED, Receipt, Session, SignedReceipt, session_id
from protocol.session.terms import MAX_AHEAD, Assignment, Plan

__all__ = [
    "MOST_SKETCHES_BYTES",
    "NO_HASH",
    "NO_RECEIPTS",
    "NO_SKETCH",
    "SKETCHES_BYTES",
    "Accepted",
    "Window",
    "bytes_hash",
    "check_receipt",
    "check_spent",
    "drawn_hash",
    "fed_hash",
    "sketches_hash",
    "token_bytes",
    "yielded_by",
]

SKETCHES_BYTES = 2 * SKETCH_BYTES
"""Of what a receipt reveals of an earlier window: the sketch of what entered, then of what left."""
MOST_SKETCHES_BYTES = (MAX_AHEAD + 1) * SKETCHES_BYTES
"""Of all that one receipt reveals."""
NO_HASH = bytes(32)
NO_RECEIPTS = bytes(32)
"""What a voucher says before any receipt."""
NO_SKETCH = bytes(SKETCH_BYTES)
"""Of what entered the first leg: token ids have none."""
_PREFIX = b"joulemesh window\n"


def bytes_hash(*parts: bytes) -> bytes:
    """What a receipt names the bytes of a window by: SHA-256, over rows or token ids as they travel."""
    digest = hashlib.sha256(_PREFIX)
    for part in parts:
        digest.update(part)
    return digest.digest()


def token_bytes(tokens: Sequence[int]) -> bytes:
    """Token ids as they are hashed and sent: little-endian, 32 bits each."""
    return struct.pack(f"<{len(tokens)}I", *tokens)


def drawn_hash(tokens: Sequence[int], said: Sequence[bytes]) -> bytes:
    """What the last leg's receipt names the tokens by that it drew in a window, and what it said of them.

    Args:
        said: by token, its log probabilities (`logprobs.pack_said`); empty where the terms ask for none.
    """
    return bytes_hash(token_bytes(tokens), *said)


def sketches_hash(parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    """What a receipt names the sketches that it shows by, with the seeds that they were made under.

    A leg makes them under the seeds that its client tells it. So it has signed for no other: a client that told it a
    false one has evidence of nothing.

    Args:
        parts: for each window that is shown, oldest first, its seed and its two sketches.
    """
    return keccak256(b"".join(seed + sketches for seed, sketches in parts)) if parts else NO_HASH


def fed_hash(hashes: Sequence[bytes]) -> bytes:
    """What a leg that caught up names the rows by that it was fed (docs/spec/session.md, clause H4).

    Args:
        hashes: of each window up to the base, `bytes_hash` of what entered.
    """
    return keccak256(b"".join(hashes))


def yielded_by(plan: Plan, tokens: Sequence[int], start: int, end: int) -> Sequence[int]:
    """The tokens that positions ``[start, end)`` yield: the one after each, from the last prompt position on."""
    return tokens[max(start, plan.prompt - 1) + 1 : end + 1]


def check_receipt(domain: Domain, session: Session, signed: SignedReceipt, recover: Recover = recover_typed) -> None:
    """Hold one receipt's signature against the leg that it speaks for. Raises SignatureError or DishonestError."""
    receipt = signed.receipt
    if receipt.leg >= len(session.legs) or receipt.session != session_id(session):
        raise DishonestError(f"a receipt for leg {receipt.leg} of another session, or of {len(session.legs)} legs")
    if recover(domain, receipt, signed.signature) != session.legs[receipt.leg].provider:
        raise SignatureError(f"the receipt of leg {receipt.leg} is not signed by its provider for this ledger")


def check_spent(receipt: Receipt, hardware: Hardware, us: int) -> None:
    """Hold a receipt's energy against what the leg's machine can have drawn in `us` microseconds (market.md, M14).

    Raises DishonestError: it says more.
    """
    most = most_millijoules(hardware.device, hardware.count, us)
    if UNMEASURED != receipt.millijoules > most:
        said = f"leg {receipt.leg} says that it has spent {receipt.millijoules / 1000:g} J"
        raise DishonestError(f"{said}, and its hardware can have drawn {most / 1000:g} J at most")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A receipt, and what it reveals of windows before."""

    signed: SignedReceipt
    sketches: bytes
    """`SKETCHES_BYTES` for each window that it shows, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window that every leg has signed for."""

    index: int
    """As its receipts have it: after a reroute some indices are left out (`metering.window_index`)."""
    start: int
    """First position."""
    end: int
    """One past the last."""
    route: tuple[Assignment, ...]
    """Who served it."""
    receipts: tuple[Accepted, ...]
    """In the order of the route."""

    @property
    def nonces(self) -> tuple[bytes, ...]:
        """The legs' parts of its seed, in the order of the route."""
        return tuple(each.signed.receipt.nonce for each in self.receipts)
