"""Which dials of what strangers named were in vain, and where somebody answered: on disk, beside the deeds.

Without it, each start of a process would hand whoever fills the market with offers a fresh budget of dials
(`node.p2p.dials`), and a client that was started again and again would be aimed at a victim as often.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from node.database_file import Connection
from node.ports import Endpoint
from protocol.reputation.standing import DAY_S, KEPT_DAYS

__all__ = ["DIAL_TABLES", "MOST_ANSWERED", "MOST_FAILED", "DialNote", "read_dials", "write_dials"]

MOST_FAILED = 512
"""Dials in vain that are kept; a process makes fewer in a spell."""
MOST_ANSWERED = 2048
"""Places where somebody answered that are kept; the one that did longest ago is forgotten."""
FAILED_S = 600
"""A dial in vain is kept for so long; whoever reads it decides for how long it counts."""
DIAL_TABLES = (
    "CREATE TABLE IF NOT EXISTS failed_dials (host TEXT NOT NULL, port INTEGER NOT NULL, at INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS answered_dials (
        host TEXT NOT NULL, port INTEGER NOT NULL, at INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (host, port)
    ) WITHOUT ROWID""",
)
_FORGET = (
    "DELETE FROM failed_dials WHERE at <= ?1",
    "DELETE FROM answered_dials WHERE at <= ?1",
)
_KEEP = (
    "DELETE FROM failed_dials WHERE rowid NOT IN (SELECT rowid FROM failed_dials ORDER BY at DESC, rowid DESC LIMIT ?)",
    """DELETE FROM answered_dials WHERE (host, port) NOT IN
        (SELECT host, port FROM answered_dials ORDER BY at DESC LIMIT ?)""",
)


@dataclass(frozen=True, slots=True)
class DialNote:
    """What came of one dial."""

    endpoint: Endpoint
    """An IP address and a port."""
    answered: bytes | None
    """The public key that was expected there, and answered; None where nobody did, or another."""
    at: int
    """Unix seconds."""


def write_dials(connection: Connection, notes: Iterable[DialNote], now: int) -> None:
    """Add notes, and forget what is over or too much."""
    for note in notes:
        values = (*note.endpoint, note.at)
        if note.answered is not None:
            connection.execute("INSERT OR REPLACE INTO answered_dials VALUES (?, ?, ?, ?)", (*values, note.answered))
        else:
            connection.execute("INSERT INTO failed_dials VALUES (?, ?, ?)", values)
    for forget, keep, kept_s, most in zip(
        _FORGET, _KEEP, (FAILED_S, KEPT_DAYS * DAY_S), (MOST_FAILED, MOST_ANSWERED), strict=True
    ):
        connection.execute(forget, (now - kept_s,))
        connection.execute(keep, (most,))


def read_dials(connection: Connection, now: int) -> list[DialNote]:
    """All that is kept, oldest first. What a clock that ran ahead has dated counts as of now."""
    rows = connection.execute(
        "SELECT host, port, at, NULL FROM failed_dials"
        " UNION ALL SELECT host, port, at, key FROM answered_dials ORDER BY at"
    )
    return [DialNote((host, port), answered, min(at, now)) for host, port, at, answered in rows]
