"""A ledger's tables brought to another version, on each kind of database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ledger_world import CLIENT, MILLION, OPERATOR, HandClock, ledger_settings, make_session
from next_revision import revisions
from postgres_server import PostgresServer
from sqlalchemy import inspect, text

from node.ledger import LedgerClient, LedgerSettings, run_ledger, schema, verify_database
from node.ledger.migrated import REVISIONS, migrate_database
from node.migrating import migrate
from protocol.errors import LocalError

alembic = pytest.importorskip("alembic")
pytestmark = pytest.mark.asyncio
AFTER = "6"


def url_of(settings: LedgerSettings) -> str:
    return settings.url.render_as_string(hide_password=False)


async def asked(settings: LedgerSettings, of: Any) -> Any:
    """What a function of a connection says of a ledger's database."""
    engine = schema.make_engine(settings.url, writer=True)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(of)
    finally:
        await engine.dispose()


def told(query: str) -> Any:
    return lambda connection: [tuple(row) for row in connection.execute(text(query))]


ACCOUNTS = told("SELECT * FROM accounts ORDER BY address")
VERSION = told("SELECT value FROM meta WHERE name = 'schema'")


def columns(connection: Any) -> dict[str, list[str]]:
    found = inspect(connection)
    return {table: [each["name"] for each in found.get_columns(table)] for table in sorted(found.get_table_names())}


async def test_a_ledger_keeps_what_it_has_in_newer_tables(settings: LedgerSettings, tmp_path: Path) -> None:
    more = revisions(tmp_path, REVISIONS, schema.SCHEMA_VERSION, AFTER, "accounts")
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10 * MILLION)
        await client.open(make_session(), CLIENT)
        with pytest.raises(LocalError) as refused:
            await migrate_database(url_of(settings), revisions=more)
        assert refused.value.code == "ledger-locked"
    accounts, tables = await asked(settings, ACCOUNTS), await asked(settings, columns)
    broken = tmp_path / "broken"
    broken.mkdir()
    broken = revisions(broken, more, AFTER, "7", "sessions")
    (broken / "7_next.py").write_text((broken / "7_next.py").read_text() + '    raise RuntimeError("the power went")\n')
    with pytest.raises(RuntimeError, match="the power went"):
        await migrate_database(url_of(settings), revisions=broken)
    # Neither of the two steps was taken, and the ledger goes on as it was.
    assert await asked(settings, VERSION) == [(schema.SCHEMA_VERSION,)]
    assert await asked(settings, columns) == tables
    async with run_ledger(settings, OPERATOR, HandClock()) as ledger, LedgerClient(ledger.url) as client:
        assert (await client.account(CLIENT.address)).nonce == 1
    assert (await verify_database(url_of(settings))).fault is None
    before, now, _ = await migrate_database(url_of(settings), revisions=more)
    assert (before, now) == (schema.SCHEMA_VERSION, AFTER)
    assert await asked(settings, VERSION) == [(AFTER,)]
    assert await asked(settings, ACCOUNTS) == [(*each, "kept") for each in accounts]
    with pytest.raises(LocalError):  # a step that leads on from another version than the tables have
        await migrate_database(url_of(settings))


async def test_postgresql_gets_the_tables_that_are_declared(tmp_path: Path, postgres: PostgresServer) -> None:
    """Also in types and indexes, as the database itself has them; of SQLite another test says so."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def made(connection: Any) -> Any:
        assert migrate(connection, REVISIONS, None) == schema.SCHEMA_VERSION
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, schema.metadata)

    settings = ledger_settings(tmp_path / "ledger", database=postgres.empty_database())
    assert await asked(settings, made) == []
