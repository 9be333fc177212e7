"""Deeds on disk: a small SQLite database that several processes of one key write at once.

Every change is a sum, so none of them undoes another's. A crash loses what was not written yet, and nothing else. Who
can write here can shun or whitewash peers for this key; who can read learns whom it dealt with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from node.database_file import Connection, DatabaseFile
from node.peers.deeds import KEPT_OF_FULL, MAX_ROWS, MAX_SUM, Deeds, Row
from node.peers.dials import DIAL_TABLES, DialNote, read_dials, write_dials
from protocol.reputation.standing import DAY_S, KEPT_DAYS, MERITS, OFFENCES, Deed

__all__ = ["PeerDatabase"]

VERSION = 1
"""Of the table."""
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
        self._file = DatabaseFile(
            path,
            tables=(_TABLE, *DIAL_TABLES),
            version=VERSION,
            code="peers",
            hint="make room on its disk, or move the file away: peers are then remembered anew",
        )
        self._most = most
        self._seen: int | None = None

    def write(self, deeds: Deeds, now: int) -> list[tuple[bytes, Row]] | None:
        """Add deeds to what is there; all rows where another process has changed them since the last call."""
        if not deeds and not self._file.exists:
            return None
        with self._transaction() as connection:
            changed = self._is_changed(connection)
            if deeds:
                connection.executemany("UPDATE deeds SET in_row = 0 WHERE address = ?", [(a,) for a in deeds.redeemed])
                connection.executemany(_ADD, [_values(address, row) for address, row in deeds.rows()])
                self._forget_what_is_over(connection, now)
            return self._rows(connection, now) if changed else None

    def write_dials(self, notes: Sequence[DialNote], now: int) -> None:
        """Add what came of dials."""
        with self._transaction() as connection:
            write_dials(connection, notes, now)

    def dials(self, now: int) -> list[DialNote]:
        """What came of dials, oldest first."""
        if not self._file.exists:
            return []
        with self._transaction() as connection:
            return read_dials(connection, now)

    def forget(self, address: bytes | None) -> int:
        """Forget a peer, or all of them; how many were known."""
        if not self._file.exists:
            return 0
        with self._transaction() as connection:
            known = "SELECT count(DISTINCT address) FROM deeds WHERE ?1 IS NULL OR address = ?1"
            (count,) = connection.execute(known, (address,)).fetchone()
            connection.execute("DELETE FROM deeds WHERE ?1 IS NULL OR address = ?1", (address,))
            return int(count)

    def close(self) -> None:
        """Give the file back. What was written stays."""
        self._file.close()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._file.transaction() as connection:
            yield connection

    def _is_changed(self, connection: Connection) -> bool:
        """Whether another process has written since the last call; the first call finds everything new."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        before, self._seen = self._seen, version
        return bool(before != version)

    def _rows(self, connection: Connection, now: int) -> list[tuple[bytes, Row]]:
        (self._seen,) = connection.execute("PRAGMA data_version").fetchone()
        found = connection.execute("SELECT * FROM deeds WHERE last_at > ?", (_oldest(now),))
        known = {str(deed) for deed in Deed}
        return [_row(values) for values in found if values[1] in known]

    def _forget_what_is_over(self, connection: Connection, now: int) -> None:
        connection.execute("DELETE FROM deeds WHERE last_at <= ?", (_oldest(now),))
        while _count(connection) > self._most:
            connection.execute(_LEAST_USEFUL, (json.dumps(MERITS), json.dumps(OFFENCES), KEPT_OF_FULL[1]))


def _count(connection: Connection) -> int:
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
