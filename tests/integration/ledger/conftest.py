"""Databases for the ledger's tests: a SQLite file, and a private PostgreSQL where Debian's package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_world import ledger_settings
from postgres_server import PostgresServer, running_postgres

from node.ledger import LedgerSettings


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running server."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerSettings:
    """An empty ledger, on each kind of database."""
    if request.param == "sqlite":
        return ledger_settings(tmp_path / "ledger")
    return ledger_settings(tmp_path / "ledger", database=request.getfixturevalue("postgres").empty_database())
