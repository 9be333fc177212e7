"""Deeds on disk: a small SQLite database that several processes of one key write at once.

Every change is a sum, so none of them undoes another's. A crash loses what was not written yet, and nothing else. Who
can write here can shun or whitewash peers for this key; who can read learns whom it dealt with.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from node.peers.deeds import KEPT_OF_FULL, MAX_ROWS, MAX_SUM, Deeds, Row
from protocol.errors import LocalError
from protocol.standing import DAY_S, KEPT_DAYS, MERITS, OFFENCES, Deed

__all__ = ["PeerDatabase"]

VERSION = 1
"""Of the table."""
WAIT_S = 5.0
"""Seconds for another process that is writing."""

_TABLE = """
CREATE TABLE IF NOT EXISTS deeds (
    address BLOB NOT NULL, deed TEXT NOT NULL, day INTEGER NOT NULL,
    count INTEGER NOT NULL, amount INTEGER NOT NULL, in_row INTEGER NOT NULL, last_at INTEGER NOT NULL,
    about TEXT NOT NULL, PRIMARY KEY (address, deed, day)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO deeds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET
    count = min(?9, count + excluded.count), amount = min(?9, amount + excluded.amount),
    in_row = min(?9, in_row + excluded.in_row), last_at = max(last_at, excluded.last_at), about = excluded.about
"""
_LEAST_USEFUL = """
DELETE FROM deeds WHERE address IN (
    SELECT address FROM deeds GROUP BY address
    ORDER BY max(deed IN (SELECT value FROM json_each(?1))), max(deed IN (SELECT value FROM json_each(?2))),
             max(last_at)
    LIMIT max(1, (SELECT count(DISTINCT address) FROM deeds) / ?3)
)
"""
"""As `Deeds` does it: the least useful tenth of the peers."""


class PeerDatabase:
    """One file. Its methods are called one after the other, from any thread.

    Raises LocalError where it cannot be opened, read or written, or where another version made it.
    """

    def __init__(self, path: Path, *, most: int = MAX_ROWS) -> None:
        self._path = path
        self._most = most
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None

    def write(self, deeds: Deeds, now: int) -> list[tuple[bytes, Row]] | None:
        """Add deeds to what is there; all rows where another process has changed them since the last call."""
        if not deeds and self._connection is None and not self._path.exists():
            return None
        with self._transaction() as connection:
            changed = self._is_changed(connection)
            if deeds:
                connection.executemany("UPDATE deeds SET in_row = 0 WHERE address = ?", [(a,) for a in deeds.redeemed])
                connection.executemany(_ADD, [_values(address, row) for address, row in deeds.rows()])
                self._forget_what_is_over(connection, now)
            return self._rows(connection, now) if changed else None

    def forget(self, address: bytes | None) -> int:
        """Forget a peer, or all of them; how many were known."""
        if self._connection is None and not self._path.exists():
            return 0
        with self._transaction() as connection:
            known = "SELECT count(DISTINCT address) FROM deeds WHERE ?1 IS NULL OR address = ?1"
            (count,) = connection.execute(known, (address,)).fetchone()
            connection.execute("DELETE FROM deeds WHERE ?1 IS NULL OR address = ?1", (address,))
            return int(count)

    def close(self) -> None:
        """Give the file back. What was written stays."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One after the other with those of all processes."""
        try:
            if self._connection is None:
                self._connection = _connect(self._path)
            with self._connection as connection:  # commits, or takes all of it back
                connection.execute("BEGIN IMMEDIATE")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise LocalError(
                f"{self._path} cannot be used: {error}",
                code="peers",
                hint="make room on its disk, or move the file away: peers are then remembered anew",
            ) from None

    def _is_changed(self, connection: sqlite3.Connection) -> bool:
        """Whether another process has written since the last call; the first call finds everything new."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(before != version)

    def _rows(self, connection: sqlite3.Connection, now: int) -> list[tuple[bytes, Row]]:
        (self._seen,) = connection.execute("PRAGMA data_version").fetchone()
        found = connection.execute("SELECT * FROM deeds WHERE last_at > ?", (_oldest(now),))
        known = {str(deed) for deed in Deed}
        return [_row(values) for values in found if values[1] in known]

    def _forget_what_is_over(self, connection: sqlite3.Connection, now: int) -> None:
        connection.execute("DELETE FROM deeds WHERE last_at <= ?", (_oldest(now),))
        while _count(connection) > self._most:
            connection.execute(_LEAST_USEFUL, (json.dumps(MERITS), json.dumps(OFFENCES), KEPT_OF_FULL[1]))


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's own files beside it take its mode
    connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        with closing(connection.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = NORMAL")  # a loss of power may take the last moments with it
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it has a table of version {version}, not {VERSION}")
            cursor.execute(_TABLE)
            cursor.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _count(connection: sqlite3.Connection) -> int:
    (count,) = connection.execute("SELECT count(*) FROM deeds").fetchone()
    return int(count)


def _oldest(now: int) -> int:
    return now - KEPT_DAYS * DAY_S


def _values(address: bytes, row: Row) -> tuple[object, ...]:
    return address, row.deed, row.day, row.count, row.amount, row.in_row, row.last_at, row.about, MAX_SUM


def _row(values: tuple[bytes, str, int, int, int, int, int, str]) -> tuple[bytes, Row]:
    address, deed, day, count, amount, in_row, last_at, about = values
    row = Row(deed=Deed(deed), day=day, count=count, amount=amount, in_row=in_row, last_at=last_at, about=about)
    return address, row
