"""The markets of one gateway: a client at each, with one key, and what that key has in all of them together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from node.app.buying.client import Client, open_client
from node.app.settlement.venue import shown_venue
from node.config import ClientConfig
from node.events import Events, MarketAway, unheard
from protocol.errors import JoulemeshError
from protocol.identity.ids import Address
from protocol.identity.signing import SigningKey

__all__ = ["Balances", "MarketBalance", "balances", "open_clients"]

ASK_S = 5.0
"""For a ledger to say what an account has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketBalance:
    """What a key has at one market."""

    market: str
    """Its name."""
    venue: str
    """The ledger or contract, without secrets."""
    free: int | None
    """Micro-units that it can spend; null where the ledger does not answer."""
    held: int | None
    """Micro-units that unfinished sessions of this gateway hold; null likewise."""
    error: str
    """Why it does not answer; empty where it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balances:
    """What a gateway's key has at all of its markets."""

    address: bytes
    """The key's."""
    free: int
    """Micro-units that it can spend, at the markets that answered."""
    held: int
    """Micro-units that unfinished sessions of the gateway hold there."""
    markets: tuple[MarketBalance, ...]
    """Each of them, that of the gateway's own settings first."""


async def open_clients(
    markets: Mapping[str, ClientConfig], key: SigningKey, events: Events, stack: AsyncExitStack, *, needed: bool
) -> dict[str, Client]:
    """A client at each market, by name, as long as the stack is open; their networks are joined where that can be.

    Args:
        needed: whether at least one of them has to be ready.

    Raises JoulemeshError: none is, where one has to be: what stands against the first.
    """
    clients = {
        name: await stack.enter_async_context(open_client(config, key, events)) for name, config in markets.items()
    }
    ended = await asyncio.gather(*map(_ready, clients.values()), return_exceptions=True)
    failed = {name: each for name, each in zip(clients, ended, strict=True) if each is not None}
    for name, error in failed.items():
        if not isinstance(error, JoulemeshError) or (needed and len(failed) == len(clients)):
            raise error
        events(MarketAway(market=name, reason=error.message))
    return clients


async def _ready(client: Client) -> None:
    await client.require_ready()
    await client.offers()


async def balances(markets: Mapping[str, ClientConfig], address: Address) -> Balances:
    """What an account has at each market, in their order. Who does not answer in time is said not to."""
    found = await asyncio.gather(*(_balance(name, config, address) for name, config in markets.items()))
    return Balances(
        address=address,
        free=sum(each.free or 0 for each in found),
        held=sum(each.held or 0 for each in found),
        markets=tuple(found),
    )


async def _balance(name: str, config: ClientConfig, address: Address) -> MarketBalance:
    free = held = None
    error = ""
    try:
        async with asyncio.timeout(ASK_S), open_client(config, None, unheard) as client:
            free = (await client.balance(address)).free
            held = sum(each.reserved_micro for each in await client.open_sessions(address))
    except JoulemeshError as wrong:
        error = wrong.message
    except TimeoutError:
        error = f"no answer within {ASK_S:.0f} s"
    return MarketBalance(market=name, venue=shown_venue(config.ledger), free=free, held=held, error=error)
