"""Backups of a ledger that runs and of a gateway, put in place elsewhere; databases of another version."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from next_revision import revisions

from node.gateway.keys import KeyTerms, migrate_keys, open_keys
from node.ledger import schema
from node.ledger.migrated import REVISIONS, migrate_database
from protocol.errors import LocalError

Joule = Callable[..., Any]


@pytest.fixture
def ledger(home: Path, joule: Joule) -> Iterator[str]:
    """A ledger that runs, with an entry of play money; its URL."""
    assert joule("key", "new", "--light").status == 0
    command = [sys.executable, "-m", "node", "ledger", "run", "--port", "0", "--json", "--faucet-limit", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            told = next(each for each in map(json.loads, process.stdout) if each["event"] == "ledger ready")
            assert joule("faucet", "2", "--ledger", told["url"]).status == 0
            yield told["url"]
        finally:
            process.send_signal(signal.SIGTERM)


def test_a_ledger_is_backed_up_as_it_runs_and_verifies_elsewhere(
    home: Path, joule: Joule, ledger: str, tmp_path: Path
) -> None:
    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    made = joule("ledger", "backup", str(kept), "--json")
    assert (made.status, made.json["service"], made.json["files"]) == (0, "ledger", 3)
    assert {each.stat().st_mode & 0o077 for each in kept.iterdir()} == {0}
    assert joule("faucet", "1", "--ledger", ledger).status == 0  # later, so not in it
    done = joule("ledger", "restore", str(kept), "--data-dir", str(elsewhere), "--json")
    assert (done.status, done.json["entries"]) == (0, 2)
    found = joule("ledger", "verify", str(elsewhere / "ledger" / "ledger.sqlite3"), "--json")
    assert (found.status, found.json["sound"], found.json["root"]) == (0, True, done.json["root"])
    assert found.json["deposited"] == 2_000_000
    # Neither over another, nor from a folder that says something else.
    for wrong in (
        joule("ledger", "restore", str(kept), "--data-dir", str(elsewhere)),
        joule("ledger", "restore", str(kept)),
        joule("ledger", "backup", str(kept)),
        joule("gateway", "restore", str(kept), "--data-dir", str(tmp_path / "third")),
        joule("ledger", "restore", str(tmp_path), "--data-dir", str(tmp_path / "third")),
    ):
        assert wrong.status == 1, wrong
        assert "Traceback" not in wrong.err
    assert joule("ledger", "migrate").status == 1  # it runs
    assert not (tmp_path / "third").exists()
    a_backup_that_was_changed_is_not_put_in_place(joule, kept, tmp_path / "third")


def a_backup_that_was_changed_is_not_put_in_place(joule: Joule, kept: Path, third: Path) -> None:
    listed = json.loads((kept / "backup.json").read_text())

    def put(value: Any) -> str:
        (kept / "backup.json").write_text(json.dumps(value))
        done = joule("ledger", "restore", str(kept), "--data-dir", str(third))
        assert done.status == 1
        assert not (third / "ledger").exists()
        return str(done.err)

    for path in ("../log.key", "/etc/passwd", "files/../x"):
        assert "no backup has" in put({**listed, "files": [*listed["files"], {"name": path, "size": 0, "sha256": ""}]})
    assert "version 4" in put({**listed, "version": "4"})
    with closing(sqlite3.connect(kept / "ledger.sqlite3")) as database, database:
        database.execute("UPDATE accounts SET free = free + 1")
    assert "not what was backed up" in put(listed)
    # Who also changes the list is found out by the log itself.
    from node.app.daemons.backups import _listed

    names = [each["name"] for each in listed["files"]]
    assert "not sound" in put({**listed, "files": [_listed(kept, name) for name in names]})


def test_a_gateways_keys_and_batches_are_backed_up(home: Path, joule: Joule, tmp_path: Path) -> None:
    assert joule("gateway", "key", "new", "app", "--budget", "2").status == 0
    (home / "gateway" / "files").mkdir()
    (home / "gateway" / "files" / "file-1").write_text("{}")
    kept, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    assert joule("gateway", "backup", str(kept), "--json").json["files"] == 2
    assert joule("gateway", "restore", str(kept), "--data-dir", str(elsewhere)).status == 0
    listed = [joule("gateway", "key", "list", "--json", "--data-dir", str(each)).json for each in (home, elsewhere)]
    assert listed[0] == listed[1]
    assert (elsewhere / "gateway" / "files" / "file-1").read_text() == "{}"
    assert joule("gateway", "migrate", "--json").json == {"before": "1", "now": "1", "copy": None}


# Migrations


def rows(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def test_a_ledger_goes_on_in_newer_tables(home: Path, joule: Joule, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("alembic")
    stored = Path(__file__).resolve().parents[2] / "vectors" / "stored" / "ledger.sqlite3"
    database = home / "ledger" / "ledger.sqlite3"
    database.parent.mkdir(parents=True)
    database.write_bytes(stored.read_bytes())
    accounts = rows(database, "SELECT * FROM accounts ORDER BY address")
    assert accounts
    more = revisions(tmp_path, REVISIONS, schema.SCHEMA_VERSION, "6", "accounts")
    before, now, copy = asyncio.run(migrate_database(database, revisions=more))
    assert (before, now) == (schema.SCHEMA_VERSION, "6")
    assert rows(database, "SELECT * FROM accounts ORDER BY address") == [(*each, "kept") for each in accounts]
    assert copy is not None
    assert rows(copy, "SELECT * FROM accounts ORDER BY address") == accounts
    # This version does not read it, and says so; a newer one says what to do with the older file.
    refused = joule("ledger", "verify", str(database))
    assert refused.status == 1
    assert "version 6, not 5" in refused.err
    monkeypatch.setattr(schema, "SCHEMA_VERSION", "6")
    older = joule("ledger", "verify", str(copy))
    assert older.status == 1
    assert "joule ledger migrate" in older.err
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("UPDATE meta SET value = '4'")
    with pytest.raises(LocalError, match="version 4"):
        asyncio.run(migrate_database(copy, revisions=more))


def test_api_keys_go_on_in_newer_tables(tmp_path: Path) -> None:
    pytest.importorskip("alembic")
    from node.gateway.keys import REVISIONS as OF_KEYS

    database = tmp_path / "keys.sqlite3"

    async def made() -> str:
        async with open_keys(database, lambda: 7) as keys:
            return (await keys.new(KeyTerms(name="app")))[1]

    async def found(secret: str) -> str:
        async with open_keys(database, lambda: 7) as keys:
            return (await keys.find(secret)).terms.name

    secret = asyncio.run(made())
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("DROP TABLE meta")  # as it was before versions were written down
    assert asyncio.run(found(secret)) == "app"
    more = revisions(tmp_path, OF_KEYS, "1", "2", "keys")
    before, now, copy = asyncio.run(migrate_keys(database, revisions=more))
    assert (before, now, copy is not None) == ("1", "2", True)
    assert rows(database, "SELECT name, note FROM keys") == [("app", "kept")]
    with pytest.raises(LocalError, match="version 2, not 1"):
        asyncio.run(found(secret))


@pytest.mark.parametrize("of", ["ledger", "gateway"])
def test_the_revisions_make_the_tables_that_the_program_declares(of: str) -> None:
    """Whoever changes a table without a revision is told here."""
    pytest.importorskip("alembic")
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from node.gateway import keys
    from node.migrating import migrate, versions_of

    folder, metadata, current, first = {
        "ledger": (REVISIONS, schema.metadata, schema.SCHEMA_VERSION, schema.FIRST_VERSION),
        "gateway": (keys.REVISIONS, keys._METADATA, keys.SCHEMA_VERSION, keys.FIRST_VERSION),
    }[of]
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        assert migrate(connection, folder, None) == current
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()
    versions = versions_of(folder)
    assert (versions[0], versions[-1]) == (first, current)
