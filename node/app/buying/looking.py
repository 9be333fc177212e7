"""How the nodes of a market are looked at: the best few first, and more only where these make no route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from node.app.buying.planning import Market
from node.app.buying.stakes import StakesOf, short_of
from protocol.market.offer import Offer
from protocol.routing.shortlist import FIRST

__all__ = ["look"]

ROUNDS = 3
"""Shortlists, each twice as long as the one before."""
FIRST_ANSWER_S = 2.5
"""For the nodes of one shortlist."""
LAST_ANSWER_S = 6.0
"""For those that were slow, where nobody else has answered."""


class Measures(Protocol):
    """The part of a network that is needed here."""

    async def round_trips(
        self,
        offers: Sequence[Offer],
        *,
        patience_s: float | None = None,
        enough: Callable[[Mapping[bytes, int]], bool] | None = None,
    ) -> dict[bytes, int]: ...


async def look(market: Market, network: Measures, stakes_of: StakesOf) -> None:
    """Find out which nodes answer, until they make a route or nobody is left: within some 14 seconds.

    Args:
        stakes_of: asked for those who are to be asked, where the policy wants a stake.
    """
    every: dict[bytes, Offer] = {}
    for turn in range(ROUNDS):
        asked = await short_of(market, FIRST << turn, stakes_of)
        if not asked:
            break
        every |= {offer.public_key: offer for offer in asked}
        # Nobody waits longer for standbys: offers of machines that never answer would cost each client the patience.
        market.hear(asked, await network.round_trips(asked, patience_s=FIRST_ANSWER_S, enough=market.would_do))
        if market.would_do({}):
            return
    late = list(every.values())
    market.hear(late, await network.round_trips(late, patience_s=LAST_ANSWER_S, enough=market.would_do))
