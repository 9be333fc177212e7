"""Work that waits for a cheaper hour, by what the offers forecast; and what it saved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from node.app.buying.batch import Answer
from node.app.buying.client import Client
from node.app.process.clock import clock
from protocol.identity.ids import ModelManifest
from protocol.market.batching import HOUR_S, Expected, Start, expected_prices, start
from protocol.units import ceil_div

__all__ = ["CheapHours"]

LOOK_S = 300.0
"""Between looks at the offers while it waits: they are quoted anew, and a forecast is no promise."""
HEAR_S = 5.0
"""For offers, at each look."""
SLACK = 2
"""Times what offers say that a batch takes: nodes serve others, too."""


@dataclass(slots=True)
class CheapHours:
    """Holds work back until it is cheap, or until no time is left.

    Args:
        deadline: Unix seconds.
        carbon_micro_per_ton: what a ton of CO2 equivalent is taken to cost.
        tokens: that are left to generate, at most.
        told: called when it waits, with when it means to begin, and when it begins.
    """

    client: Client
    manifest: ModelManifest
    deadline: int
    carbon_micro_per_ton: int
    tokens: Callable[[], int]
    told: Callable[[Start], None]
    quoted: Expected | None = None
    """What a token cost at the first look."""
    _now: Expected | None = None
    _looked_at: int = 0
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    saved_micro: int = 0
    """Micro-units that the answers cost less than at the first look, by what routes asked for tokens then and now."""

    async def wait(self) -> None:
        """Until it is time for the next piece of work."""
        async with self._looking:
            while True:
                now = clock()
                if now - self._looked_at < LOOK_S and self._now is not None:
                    return
                found = await self._look(now)
                self._now, self._looked_at = found.now, now
                self.quoted = self.quoted or found.now
                self.told(found)
                if found.hour == 0:
                    return
                self._now = None
                await asyncio.sleep(min(LOOK_S, found.hour * HOUR_S - now % HOUR_S + 1))

    async def _look(self, now: int) -> Start:
        offers = [each for each in await self.client.offers(HEAR_S) if each.model == self.manifest.root]
        hours = min(48, max(0, self.deadline - now) // HOUR_S)
        blocks = self.manifest.blocks
        expected = expected_prices(offers, blocks, hours=hours, carbon_micro_per_ton=self.carbon_micro_per_ton)
        fastest = min((ceil_div(each.position_us * blocks, len(each.span)) for each in offers), default=0)
        needed_s = SLACK * self.tokens() * fastest // 1_000_000
        return start(expected, left_s=self.deadline - now, needed_s=needed_s)

    def count(self, answer: Answer) -> None:
        """Take down what an answer saved against the first look."""
        if self.quoted is None or self._now is None or not self._now.price:
            return
        cost = answer.tokens_in * answer.price_in_micro + answer.tokens_out * answer.price_out_micro
        self.saved_micro += (cost * self.quoted.price // self._now.price - cost) // 1_000_000
