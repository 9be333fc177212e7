"""A ledger whose process kills itself at one chosen write, and people who remember what it told them.

The process is forked from one that has loaded all it needs, so that it can be begun again in a moment. What is counted
are the places between two writes: after each statement that its writer sends to the database, before and after each
commit, and once a commit is shown to those who ask.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from ledger_world import (
    CLIENT,
    MILLION,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    make_session,
    open_session,
    release,
    settle,
    withdraw,
)
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine

import node.demo.forked  # noqa: F401 - says what the processes that others are forked from have imported
from node.ledger import LedgerClient, LedgerSettings, Proven, run_ledger, schema
from node.ledger.published import Published
from node.ledger.rows import Batch
from node.ledger.store import Store
from protocol.errors import LocalError, RuleError, UnreachableError
from protocol.session.messages import Session

__all__ = ["NEVER", "Dying", "People", "begin", "begun"]

NEVER = 10**9
_ATTEMPTS, _AGAIN_S = 600, 0.05
_READS = ("SELECT", "PRAGMA")
_forks = multiprocessing.get_context("forkserver")


# In the ledger's process


class _Places:
    """Kills this process at the place of one number."""

    def __init__(self, last: int) -> None:
        self.passed = 0
        self.counting = True
        """Off while nothing is written, for what else the writer asks its database comes when it comes."""
        self._last = last

    def __call__(self, *_: Any) -> None:
        if self.counting:
            if self.passed == self._last:
                os.kill(os.getpid(), signal.SIGKILL)
            self.passed += 1

    def _written(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.lstrip().startswith(_READS):
            self()

    def stand_everywhere(self) -> None:
        """At every write of any store in this process."""
        make_engine, commit, take = schema.make_engine, Store.commit, Published.take

        def made(url: URL, *, writer: bool) -> AsyncEngine:
            engine = make_engine(url, writer=writer)
            if writer:
                event.listen(engine.sync_engine, "after_cursor_execute", self._written)
                event.listen(engine.sync_engine, "commit", self)
            return engine

        async def committed(store: Store, batch: Batch) -> None:
            self.counting = True
            self()
            await commit(store, batch)
            self()

        def shown(published: Published, batch: Batch) -> None:
            take(published, batch)
            self()
            self.counting = False

        schema.make_engine = made
        Store.commit = committed  # type: ignore[method-assign]
        Published.take = shown  # type: ignore[method-assign]


def _serve(settings: LedgerSettings, last: int, pipe: Connection) -> None:
    places = _Places(last)
    places.stand_everywhere()

    async def main() -> None:
        async with run_ledger(settings, OPERATOR, lambda: NOW) as ledger:
            pipe.send((ledger.url, ledger.verifier_key))
            with contextlib.suppress(EOFError):  # nobody is there any more
                await asyncio.to_thread(pipe.recv)
        pipe.send(places.passed)

    try:
        asyncio.run(main())
    except LocalError as error:
        if error.code != "ledger-locked":
            raise


# In the test's


@dataclass(frozen=True, slots=True)
class Dying:
    """A ledger that was begun, or begun again."""

    url: str
    verifier_key: str
    process: BaseProcess
    pipe: Connection

    async def kill(self) -> None:
        """As a machine that runs out of memory does."""
        if self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        """Once it is dead."""
        await _dead(self.process)
        self.pipe.close()

    async def stop(self) -> int:
        """Stop it; how many places it has passed."""
        self.pipe.send(None)
        passed: int = await asyncio.to_thread(self.pipe.recv)
        await self.ended()
        return passed


async def _dead(process: BaseProcess) -> None:
    """Once a process has ended.

    Its status can be read once, and whoever starts a process reads that of all which have ended: so only the loop's
    thread does either. Where two read at once, one of them makes up a status of 255.
    """
    await asyncio.to_thread(wait, [process.sentinel])
    process.join()


async def begin(settings: LedgerSettings, last: int = NEVER) -> Dying | None:
    """Start a ledger that dies at a place; None where it did so before it served.

    A database server may take a moment to notice that the last one has died.
    """
    for _ in range(_ATTEMPTS):
        here, there = _forks.Pipe()
        process = _forks.Process(target=_serve, args=(settings, last, there), daemon=True)
        process.start()
        there.close()
        try:
            url, key = await asyncio.to_thread(here.recv)
        except EOFError:
            await _dead(process)
            here.close()
            if process.exitcode == -signal.SIGKILL:
                return None
            if process.exitcode != 0:
                raise RuntimeError(f"the ledger ended with status {process.exitcode}") from None
            await asyncio.sleep(_AGAIN_S)
            continue
        return Dying(url, key, process, here)
    raise RuntimeError("the database stays locked")


@asynccontextmanager
async def begun(settings: LedgerSettings) -> AsyncIterator[Dying]:
    """One that lives for the length of the block."""
    ledger = await begin(settings)
    if ledger is None:
        raise RuntimeError("a ledger that is to live was killed")
    try:
        yield ledger
    finally:
        await ledger.stop()


@dataclass(slots=True)
class People:
    """Those who use a ledger that dies: what it acknowledged, and every checkpoint that it showed."""

    folder: Path
    told: dict[int, bytes] = field(default_factory=dict)
    """Entries that were acknowledged, by their index: their signatures."""
    notes: set[bytes] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    """Kinds of the operations that were acknowledged."""
    opened: list[Session] = field(default_factory=list)
    _salt: int = 0
    _unanswered: int = 0

    @asynccontextmanager
    async def client(self, ledger: Dying) -> AsyncIterator[LedgerClient]:
        """One client for all, which remembers the newest checkpoint over all the ledger's lives."""
        remembered = self.folder / "remembered.json"
        async with LedgerClient(ledger.url, verifier_key=ledger.verifier_key, remembered=remembered) as client:
            yield client

    async def work(self, client: LedgerClient) -> bool:
        """Everybody asks for something at once; whether all had an answer, until it died."""
        before = self._unanswered
        self._salt += 1
        session = make_session(salt=self._salt, cap=1000)
        asks: list[Awaitable[bool]] = [
            self._told(client, client.faucet(CLIENT.address, MILLION)),
            self._told(client, client.faucet(STRANGER.address, 1000)),
            self._open(client, session),
            self._told(client, client.submit(withdraw(1), STRANGER)),
        ]
        if self.opened:
            asks.append(self._pay(client, self.opened[-1]))
        await asyncio.gather(*asks)
        return before == self._unanswered

    async def _open(self, client: LedgerClient, session: Session) -> bool:
        if await self._told(client, client.submit(open_session(session), CLIENT)):
            self.opened.append(session)
            return True
        return False

    async def _pay(self, client: LedgerClient, session: Session) -> bool:
        amounts = [1 + self._salt % 900, 2, 3]
        voucher = settle(client.domain, session, *amounts)
        return await self._told(client, client.submit(voucher, PROVIDERS[0])) and await self._told(
            client, client.submit(release(client.domain, session, amounts), PROVIDERS[1])
        )

    async def _told(self, client: LedgerClient, asking: Awaitable[Proven]) -> bool:
        """Whether it was acknowledged."""
        try:
            proven = await asking
        except UnreachableError:
            self._unanswered += 1
            return False
        except RuleError:
            return False  # it had taken what it did not answer, or had not taken what this builds on
        finally:
            if client.note is not None:
                self.notes.add(client.note)
        self.told[proven.index] = proven.entry.op.signature
        self.kinds.add(proven.entry.op.read().kind)
        return True

    async def look(self, client: LedgerClient) -> None:
        """That nothing which was acknowledged is lost, and that what is shown continues all that was. Raises."""
        for index, signature in self.told.items():
            if (await client.entry(index)).entry.op.signature != signature:
                raise AssertionError(f"entry {index} was acknowledged, and is another one now")
        for note in self.notes:
            await client.compare(note)
