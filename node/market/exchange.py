"""A second way to the offers: a neighbour by chance is asked, now and then, for those that are lacking here.

Gossip is lossy: queues between peers are short, a mesh takes seconds to form, and a link that stalls loses what was to
go over it. What a node has missed it has from the next neighbours that it asks, in the same signed bytes, so that an
offer reaches all within a few turns although gossip brought it to some only, and a newcomer to all that it has to hear.
A turn costs one short question, and at most `MAX_LACKING` offers in answer; nobody is told anything unasked.

Who has just come is asked next: what it said before gossip's mesh took it in was heard by nobody. A newcomer's own
first question comes as soon.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from node.market.book import OfferBook
from protocol.errors import JoulemeshError
from protocol.market.catalog import MAX_LACKING, LackingRequest, OfferList
from protocol.market.lacking import buckets_of, lacking_in, parts_for, request_for

__all__ = ["EXCHANGE_S", "Ask", "Exchange", "Take"]

EXCHANGE_S = 4.0
"""Between turns, on average; an offer that one neighbour has is here after a few of them."""

SOON = 1 / 4
"""Of the time between turns: how often new neighbours are looked for."""

Ask = Callable[[str, LackingRequest], Awaitable[OfferList]]
"""Ask a connected peer, by its id."""
Take = Callable[[Sequence[bytes]], Awaitable[None]]
"""Put those sealed offers of a peer in the book that pass every check of gossip."""


class Exchange:
    """Belongs to the task that has the book.

    Args:
        neighbours: ids of the connected peers.
        seconds: between turns, on average.
    """

    def __init__(
        self,
        book: OfferBook,
        neighbours: Callable[[], Awaitable[Sequence[str]]],
        ask: Ask,
        take: Take,
        *,
        seconds: float = EXCHANGE_S,
        draw: random.Random | None = None,
    ) -> None:
        self._book = book
        self._neighbours = neighbours
        self._ask = ask
        self._take = take
        self._seconds = seconds
        self._draw = random.SystemRandom() if draw is None else draw

    async def run(self) -> None:
        """Ask for ever: new neighbours soon, one at a look, and between them any."""
        met: frozenset[str] = frozenset()
        while True:
            looks = max(1, round(self._draw.uniform(0.5, 1.5) / SOON))
            for _ in range(looks):
                await asyncio.sleep(self._seconds * SOON)
                neighbours = frozenset(await self._neighbours())
                fresh, met = sorted(neighbours - met), neighbours
                if fresh:
                    break
            await self.turn(fresh)

    async def turn(self, among: Sequence[str] = ()) -> int:
        """Ask one neighbour for one part; how many offers it had. One that does not answer is left alone.

        Args:
            among: ids of those of whom one is asked; of all where it is empty.
        """
        neighbours = among or await self._neighbours()
        if not neighbours:
            return 0
        try:
            answer = (await self._ask(self._draw.choice(neighbours), self._question())).sealed[:MAX_LACKING]
        except JoulemeshError:  # another one is asked at the next turn
            return 0
        await self._take(answer)
        return len(answer)

    def answer(self, request: LackingRequest) -> OfferList:
        """What is known here and lacking there; of many, some by chance. Raises MalformedError."""
        known = {id(entry.offer): entry for entry in self._book.in_buckets(buckets_of(request.part, request.parts))}
        lacking = lacking_in(request, [entry.offer for entry in known.values()])
        chosen = self._draw.sample(lacking, min(MAX_LACKING, len(lacking)))
        return OfferList(sealed=tuple(known[id(offer)].sealed for offer in chosen))

    def _question(self) -> LackingRequest:
        parts = parts_for(self._book.size)
        part = self._draw.randrange(parts)
        return request_for([entry.offer for entry in self._book.in_buckets(buckets_of(part, parts))], part, parts)
