"""The offers that a peer has heard: valid, newest of their kind, not expired, and never more than it can hold."""

from __future__ import annotations

from dataclasses import dataclass

from node.ports import Clock
from protocol.errors import MalformedError, RefusedError
from protocol.offer import (
    CLOCK_SKEW_S,
    MAX_SEALED_OFFER,
    MAX_TTL_S,
    Offer,
    OfferKey,
    check_offer,
    offer_key,
    supersedes,
)
from protocol.signing import open_envelope

__all__ = ["OfferBook", "VerifiedOffer", "verify_offer"]


@dataclass(frozen=True, slots=True)
class VerifiedOffer:
    """An offer whose seal and clauses have been checked, with the bytes that it came in. `verify_offer` makes them."""

    offer: Offer
    sealed: bytes


def verify_offer(data: bytes, now: int) -> VerifiedOffer:
    """The offer in a sealed one that came from anywhere; the check by which gossip relays or drops it.

    Raises PeerError: not a sealed offer, not the node's own, expired, or impossible.
    """
    if len(data) > MAX_SEALED_OFFER:
        raise MalformedError(f"a sealed offer of {len(data)} bytes where {MAX_SEALED_OFFER} are allowed")
    offer, signer = open_envelope(data, Offer)
    check_offer(offer, signer, now)
    return VerifiedOffer(offer, data)


def _forgotten_at(offer: Offer) -> int:
    """Until then an expired offer still keeps out those that it superseded."""
    return offer.issued_at + MAX_TTL_S + CLOCK_SKEW_S


class OfferBook:
    """Belongs to one task. A full book keeps what it has, so that a flood of new names drives out nobody.

    Args:
        now: unix seconds.
        most: offers in all.
        most_by_peer: offers by one key.
    """

    def __init__(self, now: Clock, *, most: int = 4096, most_by_peer: int = 16) -> None:
        self._now = now
        self._most = most
        self._most_by_peer = most_by_peer
        self._entries: dict[OfferKey, VerifiedOffer] = {}
        self._known: set[bytes] = set()
        self._by_peer: dict[bytes, int] = {}

    def add(self, sealed: bytes) -> bool:
        """Take in a sealed offer; whether it is news. One that is known, or older than what is known, is not.

        Raises PeerError: it is not valid (`verify_offer`), or the book has no room for it (code ``book-full``).
        """
        return sealed not in self._known and self.take(verify_offer(sealed, self._now()))

    def take(self, verified: VerifiedOffer) -> bool:
        """Take in an offer that was verified when it was heard; whether it is news.

        Raises RefusedError: the book has no room for it (code ``book-full``).
        """
        offer, sealed = verified.offer, verified.sealed
        if sealed in self._known:
            return False
        key = offer_key(offer)
        old = self._entries.get(key)
        if old is not None:
            if not supersedes(offer, old.offer):
                return False
            self._drop(key)
        else:
            self._require_room(offer.public_key)
        self._entries[key] = verified
        self._known.add(sealed)
        self._by_peer[offer.public_key] = self._by_peer.get(offer.public_key, 0) + 1
        return True

    def verified(self, model: bytes | None = None) -> list[VerifiedOffer]:
        """Offers in force, of one model or of all, in order of their keys, with the bytes that an order names."""
        return self._in_force(model)

    def offers(self, model: bytes | None = None) -> list[Offer]:
        """Offers in force, of one model or of all, in order of their keys."""
        return [entry.offer for entry in self._in_force(model)]

    def sealed(self, model: bytes | None = None, node: bytes | None = None) -> list[bytes]:
        """The sealed bytes of offers in force, of one model or node or of all, newest first: what a peer asks for."""
        newest_first = sorted(self._in_force(model, node), key=lambda entry: entry.offer.issued_at, reverse=True)
        return [entry.sealed for entry in newest_first]

    def _in_force(self, model: bytes | None, node: bytes | None = None) -> list[VerifiedOffer]:
        now = self._now()
        self._forget(now)
        return [
            self._entries[key]
            for key in sorted(self._entries)
            if self._entries[key].offer.expires_at > now and model in (None, key[1]) and node in (None, key[0])
        ]

    def _require_room(self, peer: bytes) -> None:
        if len(self._entries) >= self._most or self._by_peer.get(peer, 0) >= self._most_by_peer:
            self._forget(self._now())
        if self._by_peer.get(peer, 0) >= self._most_by_peer:
            raise RefusedError(f"this node has {self._most_by_peer} offers here already", code="book-full")
        if len(self._entries) >= self._most:
            raise RefusedError(f"the book is full with {self._most} offers", code="book-full")

    def _forget(self, now: int) -> None:
        for key in [key for key, entry in self._entries.items() if _forgotten_at(entry.offer) <= now]:
            self._drop(key)

    def _drop(self, key: OfferKey) -> None:
        entry = self._entries.pop(key)
        self._known.discard(entry.sealed)
        left = self._by_peer[entry.offer.public_key] - 1
        if left:
            self._by_peer[entry.offer.public_key] = left
        else:
            del self._by_peer[entry.offer.public_key]
