"""A node's own offer: made anew from what the node can do now, sealed, and sent again before it expires."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Protocol

from node.events import Events, OfferNotSent, OfferPublished, OfferWithdrawn
from protocol.errors import LocalError, PeerError
from protocol.identity.signing import SigningKey, seal
from protocol.market.offer import MAX_TTL_S, Offer

__all__ = ["Advertiser", "Publisher"]

INTERVAL_S = 30.0
TTL_S = 85
"""An offer outlives several lost messages, and a dead node by a minute and a half at most."""
_REMEMBERED = 1024
"""Offers that are known as one's own: of well over the time that any stays in force."""


class Publisher(Protocol):
    """Where offers are sent."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Send to whoever listens. Raises LocalError or PeerError when it could not be sent."""


class Advertiser:
    """Seals and sends one offer until cancelled.

    Its sequence is milliseconds since the epoch, and rises by at least 1: a restarted node is heard at once without
    having kept anything, unless its clock was set back.

    Args:
        describe: what the node offers now, or None where it offers nothing; its sequence and times are replaced.
        keep: the node's own book, so that it answers for itself.
        now_ms: milliseconds since the epoch.
    """

    def __init__(
        self,
        key: SigningKey,
        publisher: Publisher,
        topic: str,
        describe: Callable[[], Offer | None],
        *,
        keep: Callable[[bytes], object],
        now_ms: Callable[[], int],
        events: Events,
        interval_s: float = INTERVAL_S,
        ttl_s: int = TTL_S,
    ) -> None:
        if not 0 < interval_s < ttl_s <= MAX_TTL_S:
            raise ValueError("an offer is renewed before it expires, and lasts MAX_TTL_S at most")
        self._key = key
        self._publisher = publisher
        self._topic = topic
        self._describe = describe
        self._keep = keep
        self._now_ms = now_ms
        self._events = events
        self._interval_s = interval_s
        self._ttl_s = ttl_s
        self._made: deque[int] = deque(maxlen=_REMEMBERED)
        """Sequences of this advertiser's own offers, oldest first."""
        self._changed = asyncio.Event()
        self._out: Offer | None = None
        """What others have of this node, unless it was withdrawn."""
        self.silent = False
        """Whether nothing is offered now, so that nobody can see anything."""

    def renew(self) -> None:
        """Send a new offer now: what the node can do has changed."""
        self._changed.set()

    def sealed(self) -> bytes:
        """A fresh sealed offer. Raises what `describe` raises, and LocalError where it offers nothing."""
        described = self._describe()
        if described is None:
            raise LocalError("nothing is offered now")
        return seal(self._dated(described, self._ttl_s), self._key)

    def _dated(self, offer: Offer, ttl_s: int) -> Offer:
        now_ms = self._now_ms()
        sequence = max(self._made[-1] + 1, now_ms) if self._made else now_ms
        issued_at = now_ms // 1000
        self._made.append(sequence)
        return offer.replace(sequence=sequence, issued_at=issued_at, expires_at=issued_at + ttl_s)

    def has_made(self, offer: Offer) -> bool:
        """Whether a valid offer is one of those that this advertiser made lately."""
        return offer.public_key == self._key.public_key and offer.sequence in self._made

    def is_rival(self, offer: Offer) -> bool:
        """Whether a valid offer was made with this key by somebody else, while this advertiser was at work."""
        own = offer.public_key == self._key.public_key
        return own and bool(self._made) and offer.sequence > self._made[0] and offer.sequence not in self._made

    async def run(self) -> None:
        """Send at once, then at every interval and change, until cancelled.

        A failure to send is reported and tried again at the next turn; an offer that cannot be made ends it. What is
        offered no more is withdrawn.
        """
        while True:
            self._changed.clear()
            await self._publish()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await self._changed.wait()

    async def _publish(self) -> None:
        described = self._describe()
        self.silent = described is None
        if described is None:
            await self.withdraw()
            return
        offer = self._out = self._dated(described, self._ttl_s)
        if await self._send(offer):
            self._events(
                OfferPublished(
                    sequence=offer.sequence,
                    expires_at=offer.expires_at,
                    price_in_micro=offer.rates.price_in,
                    price_out_micro=offer.rates.price_out,
                )
            )

    async def withdraw(self) -> None:
        """Replace the offer that is out by one that expires in a second: the node is going, or holds back."""
        if self._out is not None and await self._send(self._dated(self._out, 1)):
            self._out = None
            self._events(OfferWithdrawn())

    async def _send(self, offer: Offer) -> bool:
        sealed = seal(offer, self._key)
        try:
            self._keep(sealed)
            await self._publisher.publish(self._topic, sealed)
        except (PeerError, LocalError) as error:
            self._events(OfferNotSent(code=error.code, reason=error.message))
            return False
        return True
