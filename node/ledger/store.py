"""The ledger's database: one transaction per batch for entries, tiles, state and checkpoint, and the reads beside it.

It believes its database: recovery (`working_copy`) and `verify` are what checks it. It knows no rule of settlement.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import os
import struct
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from typing import Any, Self

from sqlalchemy import Row, Table, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from node.ledger import schema, writer_lock
from node.ledger.notices import Noted
from node.ledger.rows import AccountRow, Batch, ProviderRow, SessionRow
from node.migrating import what_to_do
from protocol.encoding.codec import decode, encode
from protocol.errors import LocalError, MalformedError
from protocol.identity.ids import Address, SessionId
from protocol.log.merkle import HASH_BYTES
from protocol.log.tiles import Tile
from protocol.session.messages import Session
from protocol.settlement import Account, SessionRecord

__all__ = ["NoRoomError", "Store"]

_ANSWER_S = 10.0
"""Seconds that a database server has for a commit; then nobody knows what has become of it."""
_ASKED_AT_ONCE = 500
"""Sessions in one query; SQLite takes some thousand values in one."""
_ACCOUNT = tuple(each.name for each in fields(Account))
_ALL_ACCOUNTS = select(*(schema.accounts.c[name] for name in ("address", *_ACCOUNT, "fauceted", "entry")))


class NoRoomError(LocalError):
    """The database's disk is full; code ``disk``."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, code="disk", hint=hint)


class Store:
    """One ledger database. Reads as it is; `become_writer` comes before `commit`."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._readers = schema.make_engine(url, writer=False)
        self._writer: AsyncEngine | None = None
        self._writer_connection: AsyncConnection | None = None
        self._driver: Any = None
        """The driver's own connection to a server, which can be dropped without asking it."""
        self._turn = asyncio.Lock()
        """A connection does one thing at a time."""
        self.term = 0
        """That this process writes under; every writer has another one."""
        self._lock_file: int | None = None
        self._frozen: AsyncConnection | None = None

    # Life

    @property
    def has_standbys(self) -> bool:
        """Whether other processes may wait to become the writer: a server tells them when one has gone."""
        return self._url.get_backend_name() == "postgresql"

    async def become_writer(self) -> None:
        """Take the write lock and create the tables where they are missing.

        Raises:
            LocalError: another writer holds the lock, or the tables are of another version.
            UnreachableError: the database does not answer.
        """
        if not await self.try_become_writer():
            raise writer_lock.second_writer()

    async def try_become_writer(self) -> bool:
        """As `become_writer`; False where a database server says that another process is the writer.

        The lock goes with the process, or with the writing connection (`writer_lock`). Beside it each writer counts the
        term up under which checkpoints are replaced: no commit of an earlier one gets in.
        """
        if not self.has_standbys:
            self._lock_file = writer_lock.lock_beside(self._url)
        self._writer = self._writer or schema.make_engine(self._url, writer=True)
        with schema.reachable(self._url):
            if self._writer_connection is None:
                self._writer_connection = await self._writer.connect()
            connection = self._writer_connection
            if self.has_standbys:
                self._driver = (await connection.get_raw_connection()).driver_connection
                with writer_lock.cut_off(self._driver, _ANSWER_S):
                    if not await writer_lock.take_lock(connection):
                        return False
            async with connection.begin():
                await self._prepare(connection)
        return True

    async def _prepare(self, connection: AsyncConnection) -> None:
        # Of these tables alone, so that nothing of this version gets into a database of another one.
        await connection.run_sync(schema.meta.create, checkfirst=True)
        await self._check_version(connection)
        await connection.run_sync(schema.metadata.create_all)
        insert = self._dialect.insert(schema.meta).on_conflict_do_nothing()
        await connection.execute(insert, [{"name": "schema", "value": schema.SCHEMA_VERSION}])
        term = schema.checkpoint.c.term
        self.term = await connection.scalar(update(schema.checkpoint).values(term=term + 1).returning(term)) or 1

    async def begin_to_write(self) -> None:
        """From here on a writer that is silent for some seconds may be replaced; before, it reads what there is."""
        if self.has_standbys and self._writer_connection is not None:
            with schema.reachable(self._url):
                await writer_lock.say(self._writer_connection, starting=False)

    async def beat(self) -> None:
        """Show the server that this writer lives. Raises UnreachableError: it is the writer no more."""
        connection = self._writer_connection
        if connection is None:
            raise RuntimeError("this store does not write")
        async with self._turn:
            with schema.reachable(self._url), writer_lock.cut_off(self._driver, _ANSWER_S):
                async with connection.begin():
                    await connection.execute(select(1))

    async def end_silent_writer(self, patience_s: float) -> bool:
        """Where the writer of a server's ledger was silent for so many seconds: end its session; whether it was."""
        with schema.reachable(self._url):
            async with self._readers.connect() as connection:
                return await writer_lock.end_silent_writer(connection, patience_s)

    async def step_down(self) -> None:
        """Write no more, whatever the connection is doing: its lock goes with it."""
        if self._driver is not None:
            self._driver.terminate()
            self._driver = None
        connection, self._writer_connection = self._writer_connection, None
        engine, self._writer = self._writer, None
        async with self._turn:  # what is under way fails at once
            with suppress(OSError, SQLAlchemyError):
                if connection is not None:
                    await connection.invalidate()
                    await connection.close()
        if engine is not None:
            await engine.dispose()

    async def check_version(self) -> None:
        """For readers. Raises LocalError where the tables are of another version."""
        async with self._reading() as connection:
            await self._check_version(connection)

    async def _check_version(self, connection: AsyncConnection) -> None:
        rows = await connection.execute(select(schema.meta.c.value).where(schema.meta.c.name == "schema"))
        found = rows.scalar()
        if found not in (None, schema.SCHEMA_VERSION):
            first, current = schema.FIRST_VERSION, schema.SCHEMA_VERSION
            hint = what_to_do(found, first=first, current=current, command="joule ledger migrate")
            said = f"the ledger database has tables of version {found}, not {current}"
            raise LocalError(said, code="ledger-version", hint=hint)

    @property
    def _dialect(self) -> Any:
        return postgresql if self.has_standbys else sqlite

    async def close(self) -> None:
        """Give the lock back and close every connection."""
        if self._writer_connection is not None:
            with suppress(OSError, SQLAlchemyError):
                await self._writer_connection.close()
        if self._writer is not None:
            await self._writer.dispose()
        await self._readers.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # Writing

    async def commit(self, batch: Batch) -> None:
        """Make a batch durable, all of it or nothing.

        Raises:
            NoRoomError: the disk is full, and nothing of the batch was written.
            DeposedError: another process is the writer now, and nothing was written.
            UnreachableError: nobody knows whether it is durable; only a new process may go on.
        """
        connection = self._writer_connection
        if connection is None:
            raise RuntimeError("this store does not write")
        async with self._turn:
            with schema.reachable(self._url), writer_lock.cut_off(self._driver, _ANSWER_S):
                await self._try_to_commit(connection, batch)

    async def _try_to_commit(self, connection: AsyncConnection, batch: Batch) -> None:
        try:
            await self._commit(connection, batch)
        except DBAPIError as error:
            if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_FULL":  # while writing: it was taken back
                raise NoRoomError(
                    "the ledger's disk is full, so it takes no operations now",
                    hint="the operator has to make room; nothing that was acknowledged is lost",
                ) from error
            raise

    async def _commit(self, connection: AsyncConnection, batch: Batch) -> None:
        async with connection.begin():
            # A crash before the commit leaves the database as it was: nobody has been answered, and the checkpoint that
            # was signed for this batch has been shown to nobody, so the next process may sign another of the same size.
            await self._write_entries(connection, batch)
            await self._write_tiles(connection, batch)
            await self._write_state(connection, batch)
            await self._write_providers(connection, batch)
            await self._write_checkpoint(connection, batch)
        # Durable. A crash from here on loses answers, never entries: who was not answered looks its operation up.

    async def _write_entries(self, connection: AsyncConnection, batch: Batch) -> None:
        rows = [{"position": batch.first + offset, "data": data} for offset, data in enumerate(batch.entries)]
        await connection.execute(schema.entries.insert(), rows)

    async def _write_tiles(self, connection: AsyncConnection, batch: Batch) -> None:
        rows = [{"level": tile.level, "position": tile.index, "hashes": hashes} for tile, hashes in batch.tiles.items()]
        await self._upsert(connection, schema.tiles, rows)

    async def _write_state(self, connection: AsyncConnection, batch: Batch) -> None:
        await self._upsert(
            connection,
            schema.accounts,
            [
                {
                    "address": row.address,
                    **{name: getattr(row.account, name) for name in _ACCOUNT},
                    "fauceted": row.fauceted,
                    "entry": row.entry,
                }
                for row in batch.accounts
            ],
        )
        await self._upsert(
            connection,
            schema.sessions,
            [dict(zip(schema.sessions.columns.keys(), _session_values(row), strict=True)) for row in batch.sessions],
        )
        await connection.execute(delete(schema.sessions).where(schema.sessions.c.forget_after < batch.time))
        if batch.notices:
            rows = [{"entry": each.index, "time": each.time, "effective": each.effective} for each in batch.notices]
            await connection.execute(schema.notices.insert(), rows)

    async def _write_providers(self, connection: AsyncConnection, batch: Batch) -> None:
        rows = [{"address": row.address, "sessions": row.sessions, "since": row.since} for row in batch.providers]
        await self._upsert(connection, schema.providers, rows)

    async def _write_checkpoint(self, connection: AsyncConnection, batch: Batch) -> None:
        row = {"id": 1, "note": batch.note, "term": self.term}
        insert = self._dialect.insert(schema.checkpoint).values(row)
        mine = schema.checkpoint.c.term == self.term
        replace = insert.on_conflict_do_update(index_elements=["id"], set_={"note": batch.note}, where=mine)
        if (await connection.execute(replace)).rowcount != 1:
            raise writer_lock.DeposedError("another process writes this ledger now")

    async def _upsert(self, connection: AsyncConnection, table: Table, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        await connection.execute(_upsert_into(table, self._dialect.insert), rows)

    # Reading

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[Self]:
        """The database as it stands now, for reading, whatever is committed meanwhile."""
        with schema.reachable(self._url):
            async with self._readers.connect() as connection:
                if self.has_standbys:
                    await connection.execution_options(isolation_level="REPEATABLE READ")
                async with connection.begin():
                    view = copy.copy(self)
                    view._frozen = connection
                    yield view

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AsyncConnection]:
        if self._frozen is not None:
            yield self._frozen
            return
        with schema.reachable(self._url):
            async with self._readers.connect() as connection:
                yield connection

    async def checkpoint(self) -> bytes | None:
        """The newest signed checkpoint; None before the first."""
        async with self._reading() as connection:
            note: bytes | None = await connection.scalar(select(schema.checkpoint.c.note))
            return note

    async def size(self) -> int:
        """How many entries there are, counted."""
        async with self._reading() as connection:
            return int(await connection.scalar(select(func.count()).select_from(schema.entries)) or 0)

    async def entries(self, begin: int, end: int) -> list[bytes]:
        """The entries ``[begin, end)``, as far as they exist without a gap."""
        position = schema.entries.c.position
        query = select(schema.entries).where(position >= begin, position < end).order_by(position)
        async with self._reading() as connection:
            rows = (await connection.execute(query)).all()
        return [bytes(row.data) for place, row in enumerate(rows, begin) if row.position == place]

    async def tile(self, tile: Tile) -> bytes | None:
        """The hashes of a tile, as many as its width; None where the log does not reach as far."""
        query = select(schema.tiles.c.hashes).where(
            schema.tiles.c.level == tile.level, schema.tiles.c.position == tile.index
        )
        async with self._reading() as connection:
            hashes: bytes | None = await connection.scalar(query)
        if hashes is None or len(hashes) < tile.width * HASH_BYTES:
            return None
        return hashes[: tile.width * HASH_BYTES]

    async def all_accounts(self) -> list[AccountRow]:
        """Every account."""
        async with self._reading() as connection:
            return [_account_row(row) for row in await connection.execute(_ALL_ACCOUNTS)]

    async def all_providers(self) -> list[ProviderRow]:
        """Everybody who was paid."""
        async with self._reading() as connection:
            rows = await connection.execute(select(schema.providers))
            return [ProviderRow(Address(row.address), row.sessions, row.since) for row in rows]

    async def notices(self) -> list[Noted]:
        """Every entry that announces other rules, in order."""
        async with self._reading() as connection:
            rows = await connection.execute(select(schema.notices).order_by(schema.notices.c.entry))
            return [Noted(row.entry, row.time, row.effective) for row in rows]

    async def sessions(self, wanted: Collection[bytes]) -> list[SessionRow]:
        """Those of the wanted sessions that are known."""
        asked, found = list(wanted), list[SessionRow]()
        async with self._reading() as connection:
            for begin in range(0, len(asked), _ASKED_AT_ONCE):
                these = schema.sessions.c.session.in_(asked[begin : begin + _ASKED_AT_ONCE])
                found += map(_session_row, await connection.execute(select(schema.sessions).where(these)))
        return found

    async def other_sessions(self, known: Iterable[SessionRow]) -> list[SessionId]:
        """Which of these are not stored just so, and which are stored beside them."""
        # As bytes: to read what was stored takes several times as long as to write what is expected.
        async with self._reading() as connection:
            stored = {row.session: tuple(row) for row in await connection.execute(select(schema.sessions))}
        found = [row.session for row in known if stored.pop(row.session, None) != _session_values(row)]
        return [*found, *map(SessionId, stored)]


@functools.cache
def _upsert_into(table: Table, insert: Callable[[Table], Any]) -> Any:
    """The statement that writes rows of a table, new or not, for one dialect."""
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    changed = {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def _account_row(row: Row[Any]) -> AccountRow:
    address, *account, fauceted, entry = tuple(row)
    return AccountRow(Address(address), Account(*account), fauceted, entry)


def _session_values(row: SessionRow) -> tuple[Any, ...]:
    """What its columns hold, in their order."""
    record = row.record
    amounts = (_pack(record.settled), _pack(record.ceilings))
    return (row.session, encode(record.session), *amounts, row.forget_after, row.opened, row.entry)


def _session_row(row: Row[Any]) -> SessionRow:
    try:
        session = decode(row.data, Session)
        record = SessionRecord(session, _unpack(row.settled, session), _unpack(row.ceilings, session))
    except (MalformedError, struct.error) as error:
        message = f"the stored session {row.session.hex()} cannot be read: {error}"
        raise LocalError(message, code="ledger-damaged", hint="joule ledger verify says more") from error
    return SessionRow(SessionId(row.session), record, row.opened, row.entry, row.forget_after)


def _pack(amounts: Sequence[int]) -> bytes:
    return struct.pack(f">{len(amounts)}Q", *amounts)


def _unpack(data: bytes, session: Session) -> tuple[int, ...]:
    return struct.unpack(f">{len(session.legs)}Q", data)
