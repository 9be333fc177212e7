"""The ways to the nodes of a market: data links, whose dials tell how far away a node is, and which its orders take."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from node.app.network.merits import Merits
from node.app.network.round_trips import FRESH_S, Enough, RoundTrips
from node.events import Events, PeerUnreached
from node.p2p.link_pool import LinkPool
from node.pipeline.buying.job import tls_address
from protocol.errors import JoulemeshError
from protocol.market.offer import Offer
from protocol.routing.ways import UNKNOWN_RTT_US

__all__ = ["Roads"]

ANSWER_S = 8.0
"""Seconds that a node has to prove its key; one that takes longer counts as silent."""


class Roads:
    """Belongs to one event loop. An async context manager, at whose end all idle links are closed.

    Args:
        links: dials within the budget for what offers name.
        merits: told of who answers and who does not.
    """

    def __init__(self, links: LinkPool, merits: Merits, events: Events) -> None:
        self.links = links
        self._merits = merits
        self._events = events
        self._round_trips = RoundTrips(self._measure)

    async def __aenter__(self) -> Self:
        await self.links.__aenter__()
        await self._round_trips.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._round_trips.__aexit__(kind, error, trace)
        await self.links.__aexit__(kind, error, trace)

    async def round_trips(
        self,
        offers: Sequence[Offer],
        *,
        fresh_s: float = FRESH_S,
        patience_s: float | None = None,
        enough: Enough | None = None,
    ) -> dict[bytes, int]:
        """Microseconds by public key to the nodes behind a shortlist of offers, without the silent (`RoundTrips.to`).

        Each that is dialled for it has proven its key, and its link is kept for an order.
        """
        return await self._round_trips.to(offers, fresh_s=fresh_s, patience_s=patience_s, enough=enough)

    async def _measure(self, offer: Offer) -> int | None:
        try:
            async with asyncio.timeout(ANSWER_S):
                us = await self.links.trip_us(tls_address(offer), offer.public_key)
        except (JoulemeshError, TimeoutError) as error:
            where = ", ".join(offer.data_addresses)
            self._events(PeerUnreached(peer=where, reason=str(error) or "no answer in time"))
            self._merits.silent(offer.public_key)
            return None
        self._merits.answered(offer.public_key)
        return UNKNOWN_RTT_US if us is None else us
