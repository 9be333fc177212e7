"""How a client joins a market: its gossip, its books, and the ways to its nodes."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

from node.app.network.membership import Network, dials_beside, open_network
from node.app.network.merits import Merits
from node.app.network.roads import Roads
from node.app.process.clock import clock
from node.app.settlement.venue import Venue, log_of, peers_of
from node.config import ClientConfig
from node.events import Events
from node.p2p.direct import DataPlane
from node.p2p.link_pool import LinkPool
from node.peers import StoredMemory
from protocol.identity.signing import SigningKey

__all__ = ["join_market"]

LISTEN_NOWHERE = "/ip4/127.0.0.1/tcp/0"
"""A client dials; nobody has to reach it."""
NEWCOMERS = 512
"""Offers of keys without merit among which it looks for routes: each job looks at all of them, some 15 us each."""


async def join_market(
    stack: AsyncExitStack,
    config: ClientConfig,
    key: SigningKey,
    ledger: Venue,
    peers: StoredMemory,
    events: Events,
) -> tuple[Network, Roads]:
    """The network and the data links of a client with this key, for as long as the stack is not closed.

    Raises UnreachableError: the ledger does not answer.
    """
    venue_peers, log = await peers_of(ledger), log_of(ledger)
    # A passing name on libp2p: commands of one key may run at once, and who gossips learns no client's key.
    passing = SigningKey(secrets.token_bytes(32))
    merits = Merits(clock, standing=peers.standing)
    merits.ask = ledger.providers
    dials = await dials_beside(ledger.url, peers)
    network = await stack.enter_async_context(
        open_network(passing, LISTEN_NOWHERE, events, merits=merits, dials=dials, newcomers=NEWCOMERS)
    )
    await merits.refresh()
    if log is not None:
        await stack.enter_async_context(network.checkpoints.comparing(log))
    await network.join((*venue_peers, *config.peers), ledger)
    plane = await stack.enter_async_context(DataPlane(key.secret))
    links = LinkPool(network.dials.within(plane.connect))
    return network, await stack.enter_async_context(Roads(links, merits, events))
