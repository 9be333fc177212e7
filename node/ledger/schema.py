"""Tables of the embedded ledger, and the database engines that open them.

SQLite (write-ahead log, ``synchronous=FULL``: a checkpoint that was shown must survive a power cut, or the ledger would
contradict itself) or PostgreSQL. Money is BIGINT in both, so it stays below 2**63.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    event,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from protocol.errors import ConfigurationError, UnreachableError
from protocol.routing.routes import MAX_LEGS

__all__ = [
    "FIRST_VERSION",
    "SCHEMA_VERSION",
    "accounts",
    "checkpoint",
    "database_url",
    "entries",
    "fronts",
    "make_engine",
    "meta",
    "metadata",
    "notices",
    "providers",
    "reachable",
    "sessions",
    "sqlite_url",
    "tiles",
    "url_of_database",
]

SCHEMA_VERSION = "5"
"""Whoever changes a table adds a file to `revisions`, which leads to the new version."""
FIRST_VERSION = "5"
"""The oldest that can be migrated."""

_BIG = BigInteger().with_variant(Integer(), "sqlite")
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", String(32), nullable=False),
)
"""``schema``: version of these tables."""

entries = Table(
    "entries",
    metadata,
    Column("position", _BIG, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
"""The log: canonical bytes of each entry. Its primary key is what stops two writers from ever taking one place."""

tiles = Table(
    "tiles",
    metadata,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("position", _BIG, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)
"""Merkle hashes, 256 of 32 bytes in a full tile; the tile at the edge of a level grows."""

accounts = Table(
    "accounts",
    metadata,
    Column("address", LargeBinary(20), primary_key=True),
    Column("free", _BIG, nullable=False),
    Column("nonce", _BIG, nullable=False),
    Column("bond", _BIG, nullable=False),
    Column("unbonding", _BIG, nullable=False),
    Column("unlock_at", _BIG, nullable=False),
    Column("period", _BIG, nullable=False),
    Column("claimed", _BIG, nullable=False),
    Column("fauceted", _BIG, nullable=False),
    Column("entry", _BIG, ForeignKey(entries.c.position), nullable=False),
)
"""Balances and stakes. ``fauceted``: credited by the faucet so far; ``entry``: the last one that changed it."""

sessions = Table(
    "sessions",
    metadata,
    Column("session", LargeBinary(32), primary_key=True),
    Column("data", LargeBinary, nullable=False),
    Column("settled", LargeBinary(8 * MAX_LEGS), nullable=False),
    Column("ceilings", LargeBinary(8 * MAX_LEGS), nullable=False),
    Column("forget_after", _BIG, index=True),
    Column("opened", _BIG, ForeignKey(entries.c.position), nullable=False),
    Column("entry", _BIG, ForeignKey(entries.c.position), nullable=False),
)
"""Every session, closed ones too until nobody could open them again. ``data``: canonical bytes of the session;
``settled`` and ``ceilings``: micro-units of each leg, eight bytes each, most significant first; ``forget_after``: of a
closed one, the last second in which it is known."""

notices = Table(
    "notices",
    metadata,
    Column("entry", _BIG, ForeignKey(entries.c.position), primary_key=True, autoincrement=False),
    Column("time", _BIG, nullable=False),
    Column("effective", _BIG, nullable=False),
)
"""Entries that announce other rules."""

providers = Table(
    "providers",
    metadata,
    Column("address", LargeBinary(20), primary_key=True),
    Column("sessions", _BIG, nullable=False),
    Column("since", _BIG, ForeignKey(entries.c.position), nullable=False),
)
"""Who was paid by vouchers: in how many sessions, and the entry of the first payment. It follows from the log."""

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("term", _BIG, nullable=False),
)
"""One row, 1: the newest signed checkpoint. ``term``: counts writers; only the newest one replaces it."""

fronts = Table(
    "fronts",
    metadata,
    Column("front", String(32), primary_key=True),
    Column("url", String(400), nullable=False),
    Column("peers", Text, nullable=False),
    Column("term", _BIG, nullable=False),
    Column("seen", _BIG, nullable=False),
)
"""Processes that serve this ledger, where there may be several. ``peers``: multiaddrs, one a line; ``term``: of the
writer, 0 of others; ``seen``: when it was heard of last, milliseconds of the database's clock."""


def database_url(text: str) -> URL:
    """The URL of a database, with the asynchronous driver that this ledger uses. Raises ConfigurationError."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError("the database URL cannot be read", hint="like postgresql://user@host/name") from None
    kind = url.get_backend_name()
    if kind not in _DRIVERS:
        raise ConfigurationError(f"no ledger is kept in {kind}", hint="use sqlite or postgresql")
    if kind == "sqlite" and (url.query or (url.database or ":").startswith((":", "file:"))):
        # The lock stands beside the file, so there has to be one, under its plain name.
        raise ConfigurationError("a SQLite ledger is a plain file", hint="like sqlite:////var/lib/joulemesh/l.sqlite3")
    return url.set(drivername=_DRIVERS[kind])


def sqlite_url(path: Path) -> URL:
    """The URL of a SQLite file."""
    return URL.create(_DRIVERS["sqlite"], database=str(path))


def url_of_database(database: str | Path) -> URL:
    """Of a SQLite file that exists, or as it is given. Raises ConfigurationError."""
    if isinstance(database, str):
        return database_url(database)
    if not database.is_file():
        raise ConfigurationError(f"there is no ledger database {database}")
    return sqlite_url(database)


def make_engine(url: URL, *, writer: bool) -> AsyncEngine:
    """An engine for the one writer (a single connection), or for readers. Raises ConfigurationError."""
    options: dict[str, Any] = {"pool_size": 1 if writer else 4, "max_overflow": 0}
    if url.get_backend_name() == "postgresql" and not writer:
        options["pool_pre_ping"] = True
    try:
        engine = create_async_engine(url, **options)
    except (ImportError, SQLAlchemyError) as error:
        hint = (
            "in the folder of Joulemesh's source: pip install '.[postgres]'"
            if url.get_backend_name() == "postgresql"
            else None
        )
        raise ConfigurationError(f"cannot use {url.get_backend_name()}: {error}", hint=hint) from error
    if url.get_backend_name() == "sqlite":
        _prepare_sqlite(engine, writer=writer)
    return engine


def _prepare_sqlite(engine: AsyncEngine, *, writer: bool) -> None:
    # Transactions begin where this module says, not where the driver guesses: a writer takes the write lock at once.
    begin = "BEGIN IMMEDIATE" if writer else "BEGIN"

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 5000")
        if writer:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA foreign_keys = ON")
        else:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)


@contextmanager
def reachable(url: URL) -> Iterator[None]:
    """Turn a database that does not answer, or is none, into an error that its user can act on."""
    try:
        yield
    except (OSError, SQLAlchemyError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise UnreachableError(
            f"the ledger database {url.render_as_string()} does not answer: {reason}",
            hint="does the file exist and is it a ledger; is the PostgreSQL server running?",
        ) from error
