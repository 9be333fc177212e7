"""Whether a node's own offer can be seen by others: only they can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from node.events import Events, KeyInUse, OfferSeen, OfferUnseen
from node.market.advertiser import Advertiser
from node.market.book import verify_offer
from node.ports import Clock
from protocol.errors import PeerError
from protocol.market.offer import Offer

__all__ = ["AskBooks", "Lookout"]

INTERVAL_S = 60.0
SOON_S = 1.0
"""After the start: what was said to a network that one has only just joined is easily lost. Twice as long after each
look that found nothing.
"""
LATEST_S = 10.0
"""After a look that found nothing, at most."""
PATIENCE = 4
"""Looks in vain before it is told: one may come too early, or ask the wrong peers."""

AskBooks = Callable[[], Awaitable[Sequence[Sequence[bytes]]]]
"""Ask some peers for their sealed offers by this node's key; one answer for each peer that gave one."""


class Lookout:
    """Looks for the advertiser's offer in the books of others, and has it sent again where it is missing.

    Told as events, once for each change: ``offer not seen``, ``offer seen again``, and ``key in use elsewhere`` when
    somebody else's offers carry this node's key (one key, one running node).
    """

    def __init__(
        self,
        advertiser: Advertiser,
        ask: AskBooks,
        *,
        now: Clock,
        events: Events,
        interval_s: float = INTERVAL_S,
        soon_s: float = SOON_S,
    ) -> None:
        self._advertiser = advertiser
        self._ask = ask
        self._now = now
        self._events = events
        self._interval_s = interval_s
        self._soon_s = soon_s
        self._missed = 0
        """Looks in vain, one after another."""
        self._rivalled = False

    async def run(self) -> None:
        """Look for ever."""
        soon_s = self._soon_s
        while True:
            await asyncio.sleep(soon_s)
            while await self.look():
                soon_s = self._soon_s
                await asyncio.sleep(self._interval_s)
            soon_s = min(LATEST_S, 2 * soon_s)

    async def look(self) -> bool:
        """Look once, and tell what has changed; whether the offer is seen, or there is none to be seen."""
        if self._advertiser.silent:
            self._missed = 0
            return True
        answers = await self._ask()
        offers = [offer for answer in answers for offer in self._valid(answer)]
        self._tell_of_rivals([offer for offer in offers if self._advertiser.is_rival(offer)])
        if any(self._advertiser.has_made(offer) for offer in offers):
            if self._missed >= PATIENCE:
                self._events(OfferSeen())
            self._missed = 0
            return True
        self._missed += 1
        if self._missed == PATIENCE:
            self._events(OfferUnseen(peers=len(answers)))
        self._advertiser.renew()
        return False

    def _valid(self, answer: Sequence[bytes]) -> list[Offer]:
        """What others say proves nothing: only offers under this node's own signature count."""
        valid = []
        for sealed in answer:
            try:
                valid.append(verify_offer(sealed, self._now()).offer)
            except PeerError:
                continue
        return valid

    def _tell_of_rivals(self, rivals: Sequence[Offer]) -> None:
        if rivals and not self._rivalled:
            where = sorted({address for rival in rivals for address in rival.data_addresses})
            self._events(KeyInUse(addresses=tuple(where)))
        self._rivalled = bool(rivals)
