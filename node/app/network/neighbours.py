"""How far a node is from those that might be its neighbours in a ring: measured now and then, and said in its offers.

A client that measured both can tell from it how long a message between the two takes, which its own round trips only
bound (docs/spec/market.md, clause M81).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from protocol.errors import JoulemeshError
from protocol.identity.ids import BlockSpan
from protocol.identity.signing import address_of_public_key
from protocol.market.offer import MAX_ROUND_TRIPS, Offer, RoundTrip
from protocol.reputation.merit import Merit
from protocol.routing.ways import UNKNOWN_RTT_US

__all__ = ["Neighbours", "likely_neighbours"]

FIRST_S = 10.0
"""After the start: until then a book has been taken over."""
AGAIN_S = 300.0
PATIENCE_S = 10.0


class Measures(Protocol):
    """The part of a network that is needed here."""

    async def round_trips(self, offers: Sequence[Offer], *, patience_s: float | None = None) -> dict[bytes, int]: ...


class Neighbours:
    """What one node has measured lately.

    Args:
        offers: of its model, as heard so far.
    """

    def __init__(
        self,
        public_key: bytes,
        span: BlockSpan,
        network: Measures,
        offers: Callable[[], Sequence[Offer]],
        merit: Callable[[bytes], Merit],
    ) -> None:
        self._public_key, self._span = public_key, span
        self._network, self._offers, self._merit = network, offers, merit
        self._round_trips: tuple[RoundTrip, ...] = ()

    def __call__(self) -> tuple[RoundTrip, ...]:
        """For an offer."""
        return self._round_trips

    async def run(self) -> None:
        """Measure again and again, until cancelled."""
        await asyncio.sleep(FIRST_S)
        while True:
            await self.look()
            await asyncio.sleep(AGAIN_S)

    async def look(self) -> None:
        """Measure once."""
        asked = likely_neighbours(self._public_key, self._span, self._offers(), self._merit)
        try:
            found = await self._network.round_trips(asked, patience_s=PATIENCE_S)
        except JoulemeshError:
            return
        self._round_trips = tuple(
            RoundTrip(address=address_of_public_key(key), us=us)
            for key, us in sorted(found.items())
            if us != UNKNOWN_RTT_US
        )


def likely_neighbours(
    public_key: bytes, span: BlockSpan, offers: Sequence[Offer], merit: Callable[[bytes], Merit]
) -> list[Offer]:
    """One offer of each of the nodes that could come before or after a span in a ring; those with merit first."""
    of_node: dict[bytes, Offer] = {}
    for offer in offers:
        follows = offer.span.start <= span.end < offer.span.end
        precedes = offer.span.start < span.start <= offer.span.end
        closes = (span.end == offer.blocks and offer.span.start == 0) or (
            span.start == 0 and offer.span.end == offer.blocks
        )
        if offer.public_key != public_key and (follows or precedes or closes):
            of_node.setdefault(offer.public_key, offer)
    best_first = sorted(of_node, key=lambda key: (-merit(key), key))
    return [of_node[key] for key in best_first[:MAX_ROUND_TRIPS]]
