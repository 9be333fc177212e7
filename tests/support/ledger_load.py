"""Submitters that go on whatever becomes of a ledger's front ends, and what they hold against its log at the end."""

from __future__ import annotations

import asyncio

from ledger_world import MILLION, withdraw

from node.ledger import LedgerClient, schema, verify_database
from node.ledger.store import Store
from protocol.encoding.codec import decode
from protocol.identity.signing import SigningKey
from protocol.settlement.operations import LogEntry, Withdraw

__all__ = ["KEYS", "Load", "require_each_once"]

KEYS = [SigningKey(number.to_bytes(32, "big")) for number in range(50, 58)]


class Load:
    """Submitters that go on whatever happens, and what was acknowledged to them."""

    def __init__(self, client: LedgerClient) -> None:
        self.client = client
        self.taken: dict[int, bytes] = {}
        """Actors by index of the entry."""
        self._news = asyncio.Event()
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for key in KEYS:
            await self.client.faucet(key.address, MILLION)
        self._tasks = [asyncio.create_task(self._submit(key)) for key in KEYS]

    async def _submit(self, key: SigningKey) -> None:
        while not self._ending:
            proven = await self.client.submit(withdraw(1), key)
            assert proven.index not in self.taken
            self.taken[proven.index] = key.address
            self._news.set()

    async def until(self, count: int) -> None:
        """So many are acknowledged."""
        async with asyncio.timeout(60):
            while len(self.taken) < count:
                self._news.clear()
                waiting = asyncio.create_task(self._news.wait())
                await asyncio.wait([waiting, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def end(self) -> None:
        self._ending = True
        await asyncio.gather(*self._tasks)


async def require_each_once(load: Load, database: str) -> None:
    """The whole log follows the rules, and holds what was acknowledged where it was, and nothing twice."""
    report = await verify_database(database)
    assert report.fault is None
    store = Store(schema.database_url(database))
    entries = await store.entries(0, report.entries)
    await store.close()
    withdrawn = {}
    for index, data in enumerate(entries):
        action = decode(data, LogEntry).op.read()
        if isinstance(action, Withdraw):
            withdrawn[index] = action.actor
    assert withdrawn == load.taken
