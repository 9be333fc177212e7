"""Where a node's journal of jobs is kept: one file for each node's key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from node.app.process.clock import clock
from node.earnings import JournalTables, Kept, StoredJournal, open_journal
from node.events import Events
from node.worker import ThreadWorker
from protocol.identity.ids import Address, checksum_address

__all__ = ["journal_file", "open_earnings", "read_earnings"]


def journal_file(data_dir: Path, node: Address) -> Path:
    """What the node with this key has earned."""
    return data_dir / "earnings" / f"{checksum_address(node)}.sqlite"


@asynccontextmanager
async def open_earnings(data_dir: Path, node: Address, events: Events) -> AsyncIterator[StoredJournal]:
    """The journal of a node, kept written until this is left. A disk that fails is told as an event, no more."""
    worker = ThreadWorker("journal")
    try:
        async with open_journal(journal_file(data_dir, node), worker, clock, events) as journal:
            yield journal
    finally:
        worker.close()


def read_earnings(data_dir: Path, node: Address, since: int, until: int) -> Kept:
    """What the journal of a node has of ``[since, until)``, Unix seconds; also while it runs. Raises LocalError."""
    tables = JournalTables(journal_file(data_dir, node))
    try:
        return tables.read(since, until)
    finally:
        tables.close()
