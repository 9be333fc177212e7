"""Throwaway peers that talk: hosts connected to everybody, who publish as fast as they please."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.errors import JoulemeshError
from siege.attack import Target

__all__ = ["RATE", "talkers"]

RATE = 10_000.0
"""Publications a second that a hostile host allows itself."""


@asynccontextmanager
async def talkers(target: Target, count: int) -> AsyncIterator[list[P2PHost]]:
    """So many hosts, each connected to the ledger and to every node."""
    async with TrioRuntime.open() as runtime, AsyncExitStack() as stack:
        hosts = []
        for _ in range(count):
            opening = P2PHost.open(runtime, secrets.token_bytes(32), publish_rate=RATE)
            host = await stack.enter_async_context(opening)
            for address in (target.ledger_peer, *(node.peer for node in target.nodes)):
                with suppress(JoulemeshError):
                    await host.connect(address)
            hosts.append(host)
        yield hosts
