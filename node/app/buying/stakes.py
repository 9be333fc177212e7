"""What providers have at stake, as the ledger proves it: never as they say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from node.app.buying.planning import Market
from node.app.network.shunned import address_of
from protocol.market.offer import Offer
from protocol.settlement import Account

__all__ = ["StakesOf", "short_of", "stakes_by"]

StakesOf = Callable[[Sequence[bytes]], Awaitable[dict[bytes, int]]]
"""Micro-units at stake, by public key."""

LOOKS = 8
"""Times that a shortlist is made anew because of what some of it have at stake."""


def stakes_by(account: Callable[[bytes], Awaitable[Account]]) -> StakesOf:
    """Stakes by what a ledger shows of accounts; what is on its way out does not count."""

    async def of(nodes: Sequence[bytes]) -> dict[bytes, int]:
        found = await asyncio.gather(*(account(address_of(node)) for node in nodes))
        return {node: each.bond for node, each in zip(nodes, found, strict=True)}

    return of


async def short_of(market: Market, most: int, stakes_of: StakesOf) -> list[Offer]:
    """A market's shortlist; where the policy asks for a stake, of providers that have it."""
    for _ in range(LOOKS):
        asked = market.worth_asking(most)
        unknown = market.without_stake(asked)
        if not unknown:
            return asked
        market.take_stakes(await stakes_of(unknown))
    return [offer for offer in market.worth_asking(most) if not market.without_stake([offer])]
