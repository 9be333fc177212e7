"""A node's journal of jobs, payments and payouts on disk: a small SQLite database.

The node writes it, `joule settle` beside it, and `joule earnings` reads it. A payment is known by its session and the
ledger entry that shows it, so that it counts once, however often it is noted. Who can read it learns whom the node
served, how much and when, and never what was asked or answered; who can write it can change its operator's books, and
no money.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from node.database_file import Connection, DatabaseFile
from protocol.reputation.standing import DAY_S
from protocol.serving.earnings import JobRecord, PayoutRecord

__all__ = ["MOST_JOBS", "Change", "JournalTables", "Kept"]

VERSION = 1
"""Of the tables."""
MOST_JOBS = 500_000
"""That are kept, some 150 MB; the oldest tenth is forgotten where there are more."""
_LARGEST = 2**63 - 1
"""That a database counts."""

_TABLES = (
    """
    CREATE TABLE IF NOT EXISTS jobs (
        session BLOB PRIMARY KEY, client BLOB NOT NULL, leg INTEGER NOT NULL, model BLOB NOT NULL,
        model_name TEXT NOT NULL, blocks TEXT NOT NULL, begun_at INTEGER NOT NULL, ended_at INTEGER,
        outcome TEXT NOT NULL, tokens_in INTEGER NOT NULL DEFAULT 0, tokens_out INTEGER NOT NULL DEFAULT 0,
        rows INTEGER NOT NULL DEFAULT 0, millijoules INTEGER, source TEXT NOT NULL DEFAULT 'unknown',
        energy_price INTEGER NOT NULL, pue_milli INTEGER NOT NULL, earned INTEGER NOT NULL DEFAULT 0,
        closed INTEGER NOT NULL DEFAULT 0)
    """,
    "CREATE INDEX IF NOT EXISTS jobs_by_time ON jobs (begun_at)",
    """
    CREATE TABLE IF NOT EXISTS payments (
        session BLOB NOT NULL, entry TEXT NOT NULL, at INTEGER NOT NULL, amount INTEGER NOT NULL, fee INTEGER NOT NULL,
        PRIMARY KEY (session, entry)) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS payouts (
        number INTEGER PRIMARY KEY, at INTEGER NOT NULL, after INTEGER NOT NULL, amount INTEGER NOT NULL,
        fee INTEGER NOT NULL, destination TEXT NOT NULL, entry TEXT)
    """,
    "CREATE TABLE IF NOT EXISTS forgotten (until INTEGER NOT NULL)",
)
_JOBS = """
SELECT jobs.*, coalesce(p.paid, 0), coalesce(p.fees, 0), p.at, (
    SELECT entry FROM payments WHERE payments.session = jobs.session ORDER BY amount DESC, at LIMIT 1
) FROM jobs LEFT JOIN (
    SELECT session, max(amount) AS paid, sum(fee) AS fees, max(at) AS at FROM payments GROUP BY session
) AS p ON p.session = jobs.session
WHERE coalesce(ended_at, begun_at) >= ?1 AND coalesce(ended_at, begun_at) < ?2 ORDER BY begun_at, jobs.session
"""


class Change(NamedTuple):
    """One statement, and its values."""

    statement: str
    values: tuple[Any, ...]


class Kept(NamedTuple):
    """What the journal has of some days."""

    jobs: tuple[JobRecord, ...]
    """By their beginning."""
    payouts: tuple[PayoutRecord, ...]
    """By their time."""
    whole_from: int
    """Unix seconds before which jobs may have been forgotten; 0 where none were."""


class JournalTables:
    """One file. Its methods are called one after the other, from any thread.

    Raises LocalError where it cannot be opened, read or written, or where another version made it.
    """

    def __init__(self, path: Path, *, most: int = MOST_JOBS) -> None:
        self._file = DatabaseFile(
            path,
            tables=_TABLES,
            version=VERSION,
            code="journal",
            hint="make room on its disk, or move the file away: the journal then begins anew",
            outlasts_power=True,
        )
        self._most = most

    def write(self, changes: Sequence[Change]) -> None:
        """Make changes, in order: all of them, or none."""
        with self._file.transaction() as connection:
            for change in changes:
                connection.execute(change.statement, tuple(map(_held, change.values)))
            self._forget_oldest(connection)

    def read(self, since: int = 0, until: int = _LARGEST) -> Kept:
        """Jobs that ended, or run and began, in ``[since, until)``, Unix seconds; and payouts of that time."""
        if not self._file.exists:
            return Kept((), (), 0)
        with self._file.transaction() as connection:
            jobs = tuple(_job(values) for values in connection.execute(_JOBS, (since, until)))
            found = connection.execute(
                "SELECT at, amount, fee, destination, entry FROM payouts WHERE at >= ? AND at < ? ORDER BY number",
                (since, until),
            )
            payouts = tuple(
                PayoutRecord(at=at, amount=amount, fee=fee, to=to, entry=entry) for at, amount, fee, to, entry in found
            )
            (forgotten,) = connection.execute("SELECT max(until) FROM forgotten").fetchone()
        return Kept(jobs, payouts, forgotten or 0)

    def last_payout_at(self) -> int:
        """When the newest payout was sent, Unix seconds; 0 before the first."""
        if not self._file.exists:
            return 0
        with self._file.transaction() as connection:
            (at,) = connection.execute("SELECT max(at) FROM payouts").fetchone()
            return at or 0

    def close(self) -> None:
        """Give the file back. What was written stays."""
        self._file.close()

    def _forget_oldest(self, connection: Connection) -> None:
        (count,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
        if count <= self._most:
            return
        oldest = "SELECT begun_at FROM jobs ORDER BY begun_at LIMIT 1 OFFSET ?"
        (until,) = connection.execute(oldest, (count - self._most + self._most // 10,)).fetchone()
        old = "SELECT session FROM jobs WHERE begun_at < ?"
        (last,) = connection.execute(
            "SELECT coalesce(max(coalesce(ended_at, begun_at)), 0) FROM jobs WHERE begun_at < ?", (until,)
        ).fetchone()
        connection.execute(f"DELETE FROM payments WHERE session IN ({old})", (until,))  # noqa: S608 - both are ours
        connection.execute("DELETE FROM jobs WHERE begun_at < ?", (until,))
        connection.execute("DELETE FROM payouts WHERE at < ? AND entry IS NOT NULL", (until,))
        connection.execute("DELETE FROM forgotten")
        connection.execute("INSERT INTO forgotten VALUES (?)", ((last // DAY_S + 1) * DAY_S,))


def _held(value: Any) -> Any:
    """No number is larger than a database counts."""
    return min(value, _LARGEST) if isinstance(value, int) else value


def _job(values: tuple[Any, ...]) -> JobRecord:
    (session, client, leg, model, name, blocks, begun_at, ended_at, outcome, tokens_in, tokens_out, rows, millijoules,
     source, energy_price, pue_milli, earned, closed, paid, fees, paid_at, entry) = values  # fmt: skip
    return JobRecord(
        session=session,
        client=client,
        leg=leg,
        model=model,
        model_name=name,
        blocks=blocks,
        begun_at=begun_at,
        ended_at=ended_at,
        outcome=outcome,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        rows=rows,
        millijoules=millijoules,
        source=source,
        energy_price=energy_price,
        pue_milli=pue_milli,
        earned=earned,
        paid=paid,
        fees=fees,
        entry=entry,
        paid_at=paid_at,
        closed=bool(closed),
    )
