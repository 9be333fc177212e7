"""Randomness that nobody can choose or know early: nonce chains, and the seed of each window's sketches.

Every party of a job commits to all of its nonces before the first row, by the anchor of a hash chain: the client in the
terms, a leg in its acceptance. A leg shows its nonce of a window in the receipt that fixes the window's bytes, and the
client's is known once all those receipts are in. So the seed depends on nothing that anyone could still choose, and one
honest party's part of it is unknown for as long as the bytes can change (docs/spec/audit.md, clauses F3 and F4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from protocol.errors import DishonestError
from protocol.identity.ids import keccak256

__all__ = ["NonceChain", "check_nonce", "nonces_up_to", "window_seed"]

_LINK = b"joulemesh nonce\n"
_SEED = b"joulemesh seed\n"


def _link(value: bytes) -> bytes:
    return hashlib.sha256(_LINK + value).digest()


class NonceChain:
    """One party's nonces for one job. Its representation never shows them.

    Args:
        secret: 32 unpredictable bytes.
        length: how many windows there can be.
    """

    __slots__ = ("_nonces", "anchor")

    def __init__(self, secret: bytes, length: int) -> None:
        nonces, hashed = [secret], hashlib.sha256
        for _ in range(length):  # some hundreds of links for a job, however short
            nonces.append(hashed(_LINK + nonces[-1]).digest())
        self.anchor: bytes = nonces.pop()
        """32 bytes: what the first nonce hashes to."""
        self._nonces = nonces

    def __repr__(self) -> str:
        return f"NonceChain({self.anchor.hex()[:12]})"

    def nonce(self, window: int) -> bytes:
        """32 bytes: of window 0, 1, ... Raises IndexError beyond the chain's length."""
        if not 0 <= window < len(self._nonces):
            raise IndexError(f"window {window} of {len(self._nonces)}")
        return self._nonces[-1 - window]


def check_nonce(known: bytes, nonce: bytes, *, steps: int = 1) -> None:
    """That `nonce` was fixed when `known` was shown: an anchor, or the nonce of `steps` windows before.

    Args:
        steps: from an anchor, the window's index and 1.

    Raises:
        DishonestError: it was not.
    """
    found = nonce
    for _ in range(steps):
        found = _link(found)
    if found != known:
        raise DishonestError("a nonce is not the one that was committed to before the job")


def nonces_up_to(newest: bytes, count: int) -> tuple[bytes, ...]:
    """The nonces of windows 0 to ``count - 1`` of a chain whose newest one is that of the last."""
    nonces = [newest]
    while len(nonces) < count:
        nonces.append(_link(nonces[-1]))
    return tuple(reversed(nonces))


def window_seed(session: bytes, window: int, client_nonce: bytes, leg_nonces: Sequence[bytes]) -> bytes:
    """32 bytes: under what the rows of a window are sketched. Nonces of legs stand in the order of the route."""
    return keccak256(_SEED + session + window.to_bytes(4, "big") + client_nonce + b"".join(leg_nonces))
