"""What a person has asked a ledger for, kept until its end was told: so that the same command, given again after a
crash or a lost answer, is done once.

What is kept is the number that the operation has. The ledger takes one operation under each, so asking again under it
is safe, and what is refused for its number alone is sought in the log. Several processes use one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node.database_file import DatabaseFile
from protocol.encoding.codec import encode
from protocol.identity.ids import keccak256
from protocol.settlement.operations import Action

__all__ = ["Asked", "AskedFile", "asked_at", "wish_of"]

_TABLES = ("CREATE TABLE IF NOT EXISTS asked (wish BLOB PRIMARY KEY, after INTEGER NOT NULL, since INTEGER NOT NULL)",)
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """One operation."""

    wish: bytes
    """Names it: ledger, actor, and what is asked for."""
    after: int
    """The actor's last number before it."""
    since: int
    """Entries that the log had at least before it was sent."""


class AskedFile:
    """Belongs to one ledger's memory. Its methods raise LocalError."""

    def __init__(self, path: Path) -> None:
        self._file = DatabaseFile(
            path,
            tables=_TABLES,
            version=_VERSION,
            code="asked-file",
            hint="look at the account, then move the file away: a command that is repeated is sent anew without it",
            outlasts_power=True,
        )

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def find(self, wish: bytes) -> Asked | None:
        """What was asked for, and has no end that was told."""
        if not self._file.exists:
            return None
        with self._file.transaction() as rows:
            found: Sequence[int] | None = rows.execute(
                "SELECT after, since FROM asked WHERE wish = ?", (wish,)
            ).fetchone()
        return None if found is None else Asked(wish, *found)

    def keep(self, asked: Asked) -> Asked:
        """On disk before it is sent; what another process has kept of the same stays, and is returned."""
        with self._file.transaction() as rows:
            rows.execute("INSERT OR IGNORE INTO asked VALUES (?, ?, ?)", (asked.wish, asked.after, asked.since))
            found = rows.execute("SELECT after, since FROM asked WHERE wish = ?", (asked.wish,)).fetchone()
        return Asked(asked.wish, *found)

    def forget(self, wish: bytes) -> None:
        """Its end was told, or there is none."""
        if self._file.exists:
            with self._file.transaction() as rows:
                rows.execute("DELETE FROM asked WHERE wish = ?", (wish,))


def asked_at(remembered: Path) -> Path:
    """The file beside what is remembered of a ledger."""
    return remembered.with_suffix(".asked.sqlite")


def wish_of(verifier_key: str, action: Action) -> bytes:
    """What names an operation that a person asks for, whatever number it has."""
    return keccak256(verifier_key.encode() + b"\0" + encode(action.replace(nonce=0)))
