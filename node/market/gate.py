"""How many offers of strangers a process looks at: what gossip brings costs time to check, and more to pass on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgpack

from node.market.book import VerifiedOffer, verify_offer
from node.ports import Clock
from protocol.encoding.codec import decode
from protocol.errors import MalformedError, PeerError, RefusedError
from protocol.identity.signing import Envelope
from protocol.market.offer import MAX_SEALED_OFFER

__all__ = ["OfferGate", "picked"]

MOST_ITEMS = 1024
"""Of a list in an offer that is looked into."""
GUESTS_PER_S = 4.0
"""Offers of keys without merit that are checked and passed on a second, in the long run: each costs two
checks of a signature, and a message to each neighbour."""
GUESTS_AT_ONCE = 60
"""After a quiet time."""
GUESTS_OF_A_BOOK = 128
"""Offers of keys without merit that are checked of one book: each takes a third of a millisecond."""


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


def picked(
    book: Sequence[bytes], is_known: Callable[[bytes], bool], *, most_guests: int = GUESTS_OF_A_BOOK
) -> list[bytes]:
    """Those of another peer's offers that are worth a check: of keys that are known, and some others by chance."""
    known: list[bytes] = []
    guests: list[bytes] = []
    for sealed in book:
        try:
            regular = is_known(_claimed_key(sealed))
        except PeerError:  # the check says what is wrong with it
            regular = False
        (known if regular else guests).append(sealed)
    return [*known, *random.SystemRandom().sample(guests, min(most_guests, len(guests)))]


def _claimed_key(data: bytes) -> bytes:
    """The key that an offer says it is of: nothing is checked yet. Raises MalformedError."""
    if len(data) > MAX_SEALED_OFFER:
        raise MalformedError(f"a sealed offer of {len(data)} bytes where {MAX_SEALED_OFFER} are allowed")
    try:
        fields = msgpack.unpackb(decode(data, Envelope).body, max_array_len=MOST_ITEMS, max_map_len=0)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException, RecursionError):
        raise MalformedError("not a sealed offer") from None
    if type(fields) is not list or len(fields) < 2 or type(fields[1]) is not bytes:
        raise MalformedError("not a sealed offer")
    return fields[1]
