"""A ledger's database, brought to the tables of this version while nobody writes it."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from node.database_file import copy_database
from node.ledger import schema, writer_lock
from node.ledger.schema import url_of_database
from node.migrating import migrate
from protocol.errors import ConfigurationError

__all__ = ["REVISIONS", "migrate_database"]

REVISIONS = Path(__file__).parent / "revisions"


async def migrate_database(database: str | Path, *, revisions: Path = REVISIONS) -> tuple[str, str, Path | None]:
    """Bring a ledger's database to the newest version of its tables.

    A SQLite file is copied beside itself first; of a PostgreSQL database its own tools make a copy. All of it is one
    transaction: a crash leaves the old version.

    Args:
        database: a SQLite file, or a database URL.

    Returns the version before, the version now, and the copy, where one was made.

    Raises:
        ConfigurationError: there is no such ledger.
        LocalError: a ledger runs on it (code ``ledger-locked``), or no revision leads on from its version.
        UnreachableError: it does not answer, or is no ledger.
    """
    url = url_of_database(database)
    is_file, file = url.get_backend_name() == "sqlite", Path(url.database or "")
    held = writer_lock.lock_beside(url) if is_file else None
    engine = schema.make_engine(url, writer=True)
    try:
        with schema.reachable(url):
            async with engine.connect() as connection:
                if held is None and not await writer_lock.take_lock(connection):
                    raise writer_lock.second_writer()
                async with connection.begin():
                    before = await _version(connection)
                if before == schema.SCHEMA_VERSION and revisions == REVISIONS:
                    return before, before, None
                copy = copy_database(file, file.with_name(f"{file.name}.version-{before}")) if is_file else None
                async with connection.begin():
                    now = await connection.run_sync(migrate, revisions, before)
                    row = schema.meta.c.name == "schema"
                    await connection.execute(update(schema.meta).where(row).values(value=now))
                return before, now, copy
    finally:
        await engine.dispose()
        if held is not None:
            os.close(held)


async def _version(connection: AsyncConnection) -> str:
    found = await connection.scalar(select(schema.meta.c.value).where(schema.meta.c.name == "schema"))
    if found is None:
        raise ConfigurationError("this database is no ledger's", hint="`joule ledger run` begins one")
    return str(found)
