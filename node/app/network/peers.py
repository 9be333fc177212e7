"""Where a key's memory of its peers is kept: one file for this machine's clients, one for each node's key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from node.app.process.clock import clock
from node.events import Events
from node.peers import StoredMemory, open_memory
from node.worker import ThreadWorker
from protocol.identity.ids import Address, checksum_address

__all__ = ["open_peers", "peers_file"]


def peers_file(data_dir: Path, node: Address | None) -> Path:
    """What is remembered by a node's key, or by the clients of this machine where that is None."""
    return data_dir / "peers" / f"{'clients' if node is None else checksum_address(node)}.sqlite"


@asynccontextmanager
async def open_peers(data_dir: Path, node: Address | None, events: Events) -> AsyncIterator[StoredMemory]:
    """The memory in that file, kept written until this is left. A disk that fails is told as an event, no more."""
    worker = ThreadWorker("peers")
    try:
        async with open_memory(peers_file(data_dir, node), worker, clock, events) as memory:
            yield memory
    finally:
        worker.close()
