"""What a node notes of its jobs: in memory at once, on disk soon after, many changes in one write.

A crash loses the last moments at most. What was paid is not lost: the redeemer keeps a voucher until its payment is
written, and notes it again at the next start; the rest of that job is then known from the voucher alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from node.earnings.tables import Change, JournalTables
from node.events import Events, JournalNotKept
from node.ports import Clock, Worker
from protocol.errors import LocalError
from protocol.market.offer import Provenance

__all__ = ["StoredJournal", "Work", "open_journal"]

GATHER_S = 1.0
"""Seconds in which changes are gathered for one write."""
RETRY_S = 10.0
"""Between tries, where the disk takes nothing."""
MOST_UNWRITTEN = 20_000
"""Changes that wait for a disk; beyond, the oldest are forgotten."""

_BEGUN = """
INSERT INTO jobs (session, client, leg, model, model_name, blocks, begun_at, outcome, energy_price, pue_milli)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'running', ?8, ?9) ON CONFLICT DO NOTHING
"""
_ENDED = """
UPDATE jobs SET ended_at = ?2, outcome = ?3, tokens_in = ?4, tokens_out = ?5, rows = ?6, millijoules = ?7, source = ?8,
    earned = ?9, energy_price = ?10, pue_milli = ?11 WHERE session = ?1
"""
_LEFT = """
INSERT INTO jobs (session, client, leg, model, model_name, blocks, begun_at, ended_at, outcome, energy_price, pue_milli,
    tokens_in, tokens_out, earned)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, 'cut', ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO UPDATE SET
    ended_at = coalesce(ended_at, begun_at), outcome = 'cut', tokens_in = ?10, tokens_out = ?11, earned = ?12
    WHERE outcome IN ('running', 'cut')
"""
_CUT = "UPDATE jobs SET outcome = 'cut', ended_at = begun_at WHERE outcome = 'running'"
_PAID = "INSERT INTO payments (session, entry, at, amount, fee) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING"
_CLOSED = "UPDATE jobs SET closed = 1 WHERE session = ?1"
_SENT = "INSERT INTO payouts (at, after, amount, fee, destination) VALUES (?1, ?2, ?3, ?4, ?5)"
_TAKEN = "UPDATE payouts SET entry = ?1 WHERE after = ?2 AND entry IS NULL"
_NOT_SENT = "DELETE FROM payouts WHERE after = ?1 AND entry IS NULL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the jobs of one run of a node have in common."""

    model: bytes
    """Root of the model."""
    model_name: str
    blocks: str
    """``START:END`` that it serves."""
    power: Callable[[], tuple[int, int]]
    """Micro-units per kWh and PUE in thousandths, as they are set now."""


class StoredJournal:
    """A `ports.JobJournal` on one file. Made by `open_journal`, which keeps it written.

    As long as nobody has said that this process serves jobs, it takes down payments only.
    """

    def __init__(self, tables: JournalTables, worker: Worker, clock: Clock, events: Events) -> None:
        self._tables = tables
        self._worker = worker
        self._clock = clock
        self._events = events
        self._work: Work | None = None
        self._unwritten: deque[Change] = deque(maxlen=MOST_UNWRITTEN)
        self._noted = asyncio.Event()
        self._failed = False
        self._writing = asyncio.Lock()

    def serve(self, work: Work) -> None:
        """From here on this process serves jobs; what an earlier one left running was cut off."""
        self._work = work
        self._note(_CUT)

    def begun(self, session: bytes, *, client: bytes, leg: int, blocks: str) -> None:
        if (work := self._work) is not None:
            price, pue_milli = work.power()
            now = self._clock()
            self._note(_BEGUN, session, client, leg, work.model, work.model_name, blocks, now, price, pue_milli)

    def ended(
        self,
        session: bytes,
        *,
        outcome: str,
        tokens_in: int,
        tokens_out: int,
        rows: int,
        millijoules: int | None,
        source: str,
        earned: int,
    ) -> None:
        if (work := self._work) is not None:
            price, pue_milli = work.power()
            known = source if millijoules is not None else str(Provenance.UNKNOWN)
            now = self._clock()
            counts = (tokens_in, tokens_out, rows, millijoules)
            self._note(_ENDED, session, now, outcome, *counts, known, earned, price, pue_milli)

    def left(
        self, session: bytes, *, client: bytes, leg: int, begun_at: int, tokens_in: int, tokens_out: int, earned: int
    ) -> None:
        if (work := self._work) is not None:
            price, pue_milli = work.power()
            of_model = (work.model, work.model_name, work.blocks)
            counts = (tokens_in, tokens_out, earned)
            self._note(_LEFT, session, client, leg, *of_model, begun_at, price, pue_milli, *counts)

    def paid(self, session: bytes, *, amount: int, fee: int, entry: str) -> None:
        self._note(_PAID, session, entry, self._clock(), amount, fee)

    def closed(self, session: bytes) -> None:
        self._note(_CLOSED, session)

    # Payouts

    async def last_payout_at(self) -> int:
        """When the newest payout was sent, Unix seconds; 0 before the first. Raises LocalError."""
        return await self._worker.run(self._tables.last_payout_at)

    def payout_sent(self, *, after: int, amount: int, fee: int, to: str) -> None:
        """A payout is about to be sent, to be taken after the account's nonce `after` and no other."""
        self._note(_NOT_SENT, after)
        self._note(_SENT, self._clock(), after, amount, fee, to)

    def payout_taken(self, *, after: int, entry: str) -> None:
        """The ledger has taken it."""
        self._note(_TAKEN, entry, after)

    def payout_refused(self, *, after: int) -> None:
        """The ledger has not taken it, and never will."""
        self._note(_NOT_SENT, after)

    def _note(self, statement: str, *values: object) -> None:
        self._unwritten.append(Change(statement, values))
        self._noted.set()

    async def written(self) -> None:
        writing = asyncio.create_task(self._write(), name="journal")
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])  # the worker sees its call through all the same
            raise

    async def _write(self) -> None:
        async with self._writing:
            changes = tuple(self._unwritten)
            if not changes:
                return
            self._unwritten.clear()
            self._noted.clear()
            try:
                await self._worker.run(lambda: self._tables.write(changes))
            except LocalError as error:
                later = tuple(self._unwritten)
                self._unwritten = deque((*changes, *later), MOST_UNWRITTEN)
                self._noted.set()
                if not self._failed:
                    self._events(JournalNotKept(reason=error.message))
                self._failed = True
                return
            self._failed = False

    async def close(self) -> None:
        """Write what is left, and give the file back."""
        await self.written()
        await self._worker.run(self._tables.close)

    async def keep(self) -> None:
        """Write whenever something was noted, until this is cancelled."""
        while True:
            await self._noted.wait()
            await asyncio.sleep(RETRY_S if self._failed else GATHER_S)
            await self.written()


@asynccontextmanager
async def open_journal(path: Path, worker: Worker, clock: Clock, events: Events) -> AsyncIterator[StoredJournal]:
    """The journal in a file, which is made with the first change; written to its end when this is left."""
    journal = StoredJournal(JournalTables(path), worker, clock, events)
    keeping = asyncio.create_task(journal.keep(), name="journal")
    try:
        yield journal
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await journal.close()
