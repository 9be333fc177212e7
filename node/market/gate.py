"""How many offers of strangers a process looks at: what gossip brings costs time to check, and more to pass on."""

from __future__ import annotations

from collections.abc import Callable

import msgpack

from node.market.book import VerifiedOffer, verify_offer
from node.ports import Clock
from protocol.codec import decode
from protocol.errors import MalformedError, RefusedError
from protocol.offer import MAX_SEALED_OFFER
from protocol.signing import Envelope

__all__ = ["OfferGate"]

GUESTS_PER_S = 20.0
"""Offers of keys without merit that are checked and passed on a second, in the long run."""
GUESTS_AT_ONCE = 200
"""After a quiet time."""


class OfferGate:
    """Lets pass what may be kept: every valid offer of a key that is known, and so many of others.

    Called in the thread of the network. Whose offers are thinned out is left to chance: it is said again.

    Args:
        is_known: whether a public key has merit; asked in the thread of the network.
        seconds: a clock that never goes back.
    """

    def __init__(self, now: Clock, is_known: Callable[[bytes], bool], seconds: Callable[[], float]) -> None:
        self._now = now
        self._is_known = is_known
        self._seconds = seconds
        self._left = float(GUESTS_AT_ONCE)
        self._counted_at = seconds()

    def admit(self, data: bytes) -> None:
        """Raise PeerError for what cannot be an offer, or is one of too many (code ``busy``): before it costs more."""
        if not self._is_known(_claimed_key(data)) and not self._allows_guest():
            raise RefusedError("too many offers of newcomers in a short time", code="busy")

    def verify(self, data: bytes) -> VerifiedOffer:
        """The offer, checked. Raises PeerError."""
        return verify_offer(data, self._now())

    def _allows_guest(self) -> bool:
        now = self._seconds()
        self._left = min(GUESTS_AT_ONCE, self._left + (now - self._counted_at) * GUESTS_PER_S)
        self._counted_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _claimed_key(data: bytes) -> bytes:
    """The key that an offer says it is of: nothing is checked yet. Raises MalformedError."""
    if len(data) > MAX_SEALED_OFFER:
        raise MalformedError(f"a sealed offer of {len(data)} bytes where {MAX_SEALED_OFFER} are allowed")
    try:
        fields = msgpack.unpackb(decode(data, Envelope).body)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError):
        raise MalformedError("not a sealed offer") from None
    if type(fields) is not list or len(fields) < 2 or type(fields[1]) is not bytes:
        raise MalformedError("not a sealed offer")
    return fields[1]
