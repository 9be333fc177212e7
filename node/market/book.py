"""The offers that a peer has heard: valid, newest of their kind, not expired, and never more than it can hold."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from node.ports import Clock
from protocol.errors import MalformedError, RefusedError
from protocol.identity.signing import open_envelope
from protocol.market.lacking import BUCKETS, bucket_of
from protocol.market.offer import (
    CLOCK_SKEW_S,
    MAX_SEALED_OFFER,
    MAX_TTL_S,
    Offer,
    OfferKey,
    check_offer,
    offer_key,
    supersedes,
)
from protocol.reputation.merit import Merit
from protocol.routing.columns import Columns

__all__ = ["OfferBook", "VerifiedOffer", "verify_offer"]

_SPELL_S = 60
"""Newcomers are counted by the minute: by then an honest one has sent its offer twice."""
_DRAWS = 8
"""Offers among which one to drop is looked for."""
_PARTS = 1 << 20
"""In which a chance is counted."""


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
    """Belongs to one task. A full book keeps by merit, never by who came first.

    Offers of keys with merit are kept. Those without share a bounded part of the book, in which each that comes has
    the same chance, however many come: so a flood of new names drives out nobody who is known, and an honest newcomer,
    whose offer is sent again and again, gets in. Who is shunned goes first.

    Args:
        now: unix seconds.
        merit: of a public key.
        draw: a random number below another one.
        most: offers in all.
        most_guests: offers by keys without merit.
        most_by_peer: offers by one key.
    """

    def __init__(
        self,
        now: Clock,
        *,
        merit: Callable[[bytes], Merit] = lambda _: Merit.NEWCOMER,
        draw: Callable[[int], int] = secrets.randbelow,
        most: int = 16_384,
        most_guests: int = 4096,
        most_by_peer: int = 16,
    ) -> None:
        self._now = now
        self._merit = merit
        self._draw = draw
        self._most = most
        self._most_guests = min(most, most_guests)
        self._most_by_peer = most_by_peer
        self._entries: dict[OfferKey, VerifiedOffer] = {}
        self._buckets: list[dict[OfferKey, VerifiedOffer]] = [{} for _ in range(BUCKETS)]
        """The same entries, by what books are compared by."""
        self._columns = Columns()
        self._known: set[bytes] = set()
        self._by_peer: dict[bytes, int] = {}
        self._guests = _Bag()
        """Those that had no merit when they came."""
        self._arrivals = _Arrivals()
        self._forgot_at = 0

    @property
    def size(self) -> int:
        """Offers that are kept; those that have just expired may be among them."""
        return len(self._entries)

    def in_buckets(self, buckets: Iterable[int]) -> list[VerifiedOffer]:
        """Offers in force of some buckets, in no order: as long as there are few of these, it is quick."""
        now = self._now()
        return [entry for bucket in buckets for entry in self._buckets[bucket].values() if entry.offer.expires_at > now]

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
            self._replace(key, old, verified)
            return True
        merit = self._merit(offer.public_key)
        self._require_room(offer.public_key, merit)
        self._entries[key] = self._buckets[bucket_of(key)][key] = verified
        self._columns.put(offer)
        self._known.add(sealed)
        self._by_peer[offer.public_key] = self._by_peer.get(offer.public_key, 0) + 1
        if merit <= Merit.NEWCOMER:
            self._guests.add(key)
        return True

    def _replace(self, key: OfferKey, old: VerifiedOffer, new: VerifiedOffer) -> None:
        self._entries[key] = self._buckets[bucket_of(key)][key] = new
        self._columns.put(new.offer)
        self._known.discard(old.sealed)
        self._known.add(new.sealed)

    @property
    def columns(self) -> Columns:
        """The same offers as columns, to be judged and routed at once; those that have just expired may be among them.

        They change with the book: use them before anything else has its turn.
        """
        self._forget(self._now())
        return self._columns

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

    def _require_room(self, peer: bytes, merit: Merit) -> None:
        guest = merit <= Merit.NEWCOMER
        if self._is_full(peer, guest=guest):
            self._forget(self._now())
        if self._by_peer.get(peer, 0) >= self._most_by_peer:
            raise RefusedError(f"this node has {self._most_by_peer} offers here already", code="book-full")
        if guest:
            chance = self._most_guests / max(1, self._arrivals.count(self._now()))
            if len(self._guests) < self._most_guests and len(self._entries) < self._most:
                return
            if merit is Merit.SHUNNED or self._draw(_PARTS) >= chance * _PARTS or not self._drop_guest():
                raise RefusedError(f"the book is full with {len(self._guests)} offers of newcomers", code="book-full")
        elif len(self._entries) >= self._most and not self._drop_guest():
            raise RefusedError(f"the book is full with {self._most} offers", code="book-full")

    def _is_full(self, peer: bytes, *, guest: bool) -> bool:
        return (
            len(self._entries) >= self._most
            or (guest and len(self._guests) >= self._most_guests)
            or self._by_peer.get(peer, 0) >= self._most_by_peer
        )

    def _drop_guest(self) -> bool:
        """Drop a random offer of a key without merit, of several drawn one that is shunned; whether there was one."""
        worst: OfferKey | None = None
        for _ in range(_DRAWS):
            if not self._guests:
                break
            key = self._guests.pick(self._draw)
            merit = self._merit(key[0])
            if merit > Merit.NEWCOMER:  # it has earned its place since it came
                self._guests.discard(key)
                continue
            worst = key
            if merit is Merit.SHUNNED:
                break
        if worst is None:
            return False
        self._drop(worst)
        return True

    def _forget(self, now: int) -> None:
        """Drop what is over, once a second at most: a full book is asked for room by every newcomer."""
        if now == self._forgot_at:
            return
        self._forgot_at = now
        for key in [key for key, entry in self._entries.items() if _forgotten_at(entry.offer) <= now]:
            self._drop(key)
        for key in [key for key in self._entries if key not in self._guests]:
            if self._merit(key[0]) <= Merit.NEWCOMER:  # what merit it had is lost
                self._guests.add(key)

    def _drop(self, key: OfferKey) -> None:
        entry = self._entries.pop(key)
        del self._buckets[bucket_of(key)][key]
        self._columns.drop(key)
        self._guests.discard(key)
        self._known.discard(entry.sealed)
        left = self._by_peer[entry.offer.public_key] - 1
        if left:
            self._by_peer[entry.offer.public_key] = left
        else:
            del self._by_peer[entry.offer.public_key]


class _Bag:
    """Keys of which a random one is found, and any one dropped, in the same time however many there are."""

    def __init__(self) -> None:
        self._keys: list[OfferKey] = []
        self._places: dict[OfferKey, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: OfferKey) -> bool:
        return key in self._places

    def add(self, key: OfferKey) -> None:
        if key not in self._places:
            self._places[key] = len(self._keys)
            self._keys.append(key)

    def pick(self, draw: Callable[[int], int]) -> OfferKey:
        return self._keys[draw(len(self._keys))]

    def discard(self, key: OfferKey) -> None:
        place = self._places.pop(key, None)
        if place is None:
            return
        last = self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._places[last] = place


class _Arrivals:
    """How many newcomers came lately: in this spell of `_SPELL_S` seconds, and in the one before."""

    def __init__(self) -> None:
        self._spell = 0
        self._now = 0
        self._before = 0

    def count(self, now: int) -> int:
        """One more came at `now`; how many did lately, with it."""
        spell = now // _SPELL_S
        if spell != self._spell:
            self._before = self._now if spell == self._spell + 1 else 0
            self._spell, self._now = spell, 0
        self._now += 1
        return self._now + self._before
