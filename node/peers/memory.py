"""What a process knows of its peers: counted in memory at once, on disk soon after.

A disk that is full, or a file that cannot be used, ends nothing: it is told once, and what was not written is kept and
tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from node.events import Events, PeersNotKept
from node.peers.database import PeerDatabase
from node.peers.deeds import Acquaintance, Deeds
from node.peers.dials import MOST_ANSWERED, DialNote
from node.ports import Clock, Endpoint, Worker
from protocol.errors import LocalError
from protocol.reputation.standing import Deed, Standing

__all__ = ["StoredMemory", "open_memory"]

REFRESH_S = 10.0
"""Seconds after which what other processes of the key have seen counts here, too; and between tries to write."""


class StoredMemory:
    """A `ports.PeerMemory` and `ports.DialMemory` on one file. Made by `open_memory`, which keeps it written."""

    def __init__(self, database: PeerDatabase, worker: Worker, clock: Clock, events: Events) -> None:
        self._database = database
        self._worker = worker
        self._clock = clock
        self._events = events
        self._known = Deeds()
        self._unwritten = Deeds()
        self._past_dials: list[DialNote] = []
        """What the file said of dials when it was opened."""
        self._new_dials: list[DialNote] = []
        self._answered: dict[Endpoint, bytes] = {}
        """Where somebody is on disk as having answered: once is enough for a process."""
        self._noted = asyncio.Event()
        self._failed = False
        self._writing = asyncio.Lock()

    def standing(self, address: bytes) -> Standing:
        return self._known.standing(address, self._clock())

    def note(self, address: bytes, deed: Deed, *, count: int = 1, amount: int = 0, about: str = "") -> None:
        now = self._clock()
        for deeds in (self._known, self._unwritten):
            deeds.take(address, deed, at=now, count=count, amount=amount, about=about)
        self._noted.set()

    def past_dials(self) -> list[tuple[Endpoint, bytes | None, float]]:
        now = self._clock()
        return [(each.endpoint, each.answered, now - each.at) for each in self._past_dials]

    def note_dial(self, endpoint: Endpoint, answered: bytes | None) -> None:
        if answered is not None and self._answered.get(endpoint) == answered:
            return
        if answered is not None:
            self._answered[endpoint] = answered
        if len(self._new_dials) < MOST_ANSWERED:  # a disk that takes nothing
            self._new_dials.append(DialNote(endpoint, answered, self._clock()))
        self._noted.set()

    def acquaintances(self) -> list[Acquaintance]:
        """All peers that are remembered, by address."""
        return self._known.acquaintances(self._clock())

    async def refresh(self) -> None:
        """Write what was noted, and take in what other processes of the key have. Tells of a failure, once."""
        writing = asyncio.create_task(self._refresh(), name="peers")
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])  # the worker sees its call through all the same
            raise

    async def _refresh(self) -> None:
        async with self._writing:
            unwritten, self._unwritten = self._unwritten, Deeds()
            self._noted.clear()
            now = self._clock()
            dials, self._new_dials = self._new_dials, []
            try:
                if dials:
                    await self._worker.run(partial(self._database.write_dials, dials, now))
                    dials = []
                rows = await self._worker.run(partial(self._database.write, unwritten, now))
            except LocalError as error:
                unwritten.absorb(self._unwritten)
                self._unwritten = unwritten
                self._new_dials = [*dials, *self._new_dials]
                if not self._failed:
                    self._events(PeersNotKept(reason=error.message))
                self._failed = True
                return
            self._failed = False
            if rows is not None:
                known = Deeds()
                known.load(rows, now)
                known.absorb(self._unwritten)
                self._known = known

    async def read_dials(self) -> None:
        """Take over what earlier processes noted of dials; a file that cannot be used says nothing."""
        with contextlib.suppress(LocalError):  # `refresh` has told of it
            self._past_dials = await self._worker.run(partial(self._database.dials, self._clock()))

    async def forget(self, address: bytes | None) -> int:
        """Forget a peer, or all of them, here and on disk; how many were known. Raises LocalError."""
        await self.refresh()
        known = await self._worker.run(partial(self._database.forget, address))
        self._known.forget(address)
        self._unwritten.forget(address)
        return known

    async def close(self) -> None:
        """Write what is left, and give the file back."""
        await self.refresh()
        await self._worker.run(self._database.close)

    async def keep(self) -> None:
        """Write whenever something was noted, until this is cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await self._noted.wait()
            await self.refresh()
            if self._failed:
                await asyncio.sleep(REFRESH_S)


@asynccontextmanager
async def open_memory(path: Path, worker: Worker, clock: Clock, events: Events) -> AsyncIterator[StoredMemory]:
    """What is remembered in a file, which is made with the first deed; written to its end when this is left."""
    memory = StoredMemory(PeerDatabase(path), worker, clock, events)
    await memory.refresh()
    await memory.read_dials()
    keeping = asyncio.create_task(memory.keep(), name="peers")
    try:
        yield memory
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        await memory.close()
        if not keeping.cancelled():
            keeping.result()  # what nobody has foreseen
