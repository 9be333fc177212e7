"""The challenge that a node signs while it is timed, and the statements that come of it (docs/spec/market.md, M73)."""

from __future__ import annotations

from protocol.errors import SignatureError
from protocol.identity.ids import keccak256
from protocol.identity.signing import SigningKey, address_of_public_key, recover, seal
from protocol.market.offer import Statement
from protocol.policy.residency import RTT_CLAIM

__all__ = ["ANSWER_BYTES", "NONCE_BYTES", "answer_of", "check_answer", "seal_time"]

NONCE_BYTES = 32
ANSWER_BYTES = 64
_PREFIX = b"\x19joulemesh challenge\n"


def answer_of(nonce: bytes, key: SigningKey) -> bytes:
    """What the holder of `key` says to a nonce."""
    return key.sign_digest(keccak256(_PREFIX + nonce))


def check_answer(nonce: bytes, answer: bytes, public_key: bytes) -> None:
    """Raises SignatureError where it is not the answer of the holder of that key."""
    if recover(keccak256(_PREFIX + nonce), answer) != address_of_public_key(public_key):
        raise SignatureError("the challenge was answered by somebody else")


def seal_time(subject: bytes, us: int, key: SigningKey, *, now: int, lasts_s: int) -> bytes:
    """An anchor's sealed word that a node answered in so many microseconds, for `lasts_s` seconds from `now` on."""
    said = Statement(subject=subject, claim=RTT_CLAIM, value=str(max(1, us)), issued_at=now, expires_at=now + lasts_s)
    return seal(said, key)
