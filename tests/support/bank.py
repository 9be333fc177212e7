"""A real ledger over HTTP in this process, whose clock a test moves, and where some parties have money."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ledger_world import CLIENT, MILLION, OPERATOR, PROVIDERS, STRANGER, HandClock, deposit, ledger_settings

from node.ledger import LedgerClient, run_ledger

RICH = 10 * MILLION
"""Micro-units that the client, the first provider and the stranger begin with."""


@dataclass(slots=True)
class Bank:
    """A ledger that runs, and a client of it."""

    url: str
    clock: HandClock
    client: LedgerClient

    async def free(self, address: bytes) -> int:
        return (await self.client.account(address)).free

    async def size(self) -> int:
        """Entries of its log."""
        return (await self.client.checkpoint()).size


@asynccontextmanager
async def open_bank(folder: Path, **settings: Any) -> AsyncIterator[Bank]:
    """One in a folder of its own, with other settings than `ledger_settings` has."""
    clock = HandClock()
    async with (
        run_ledger(ledger_settings(folder / "ledger", **settings), OPERATOR, clock) as ledger,
        LedgerClient(ledger.url) as client,
    ):
        for key in (CLIENT, STRANGER, PROVIDERS[0]):
            await client.submit(deposit(key, RICH), OPERATOR)
        yield Bank(ledger.url, clock, client)
