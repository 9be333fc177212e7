"""A small SQLite file that several processes use at once: opened when it is first needed, one transaction at a time.

Who can write to the file can change what it says; it is for its owner's eyes (mode 0600).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection

from protocol.errors import LocalError

__all__ = ["Connection", "DatabaseFile", "copy_database"]

WAIT_S = 5.0
"""Seconds for another process that is writing."""


class DatabaseFile:
    """One file. Its methods are called one after the other, from any thread.

    Args:
        tables: statements that make what is not there yet.
        version: of the tables; a file with those of another one is left alone.
        code: of the error where the file cannot be used.
        hint: what a person can do about it.
        outlasts_power: whether what was committed has to be there after a loss of power, too; else the last moments may
            go with it. A crash of the process loses nothing either way.
    """

    def __init__(
        self, path: Path, *, tables: tuple[str, ...], version: int, code: str, hint: str, outlasts_power: bool = False
    ) -> None:
        self._path = path
        self._tables = tables
        self._version = version
        self._code = code
        self._hint = hint
        self._synchronous = "FULL" if outlasts_power else "NORMAL"
        self._connection: Connection | None = None

    @property
    def exists(self) -> bool:
        """Whether there is anything to be read."""
        return self._connection is not None or self._path.exists()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One after the other with those of all processes; the file is made where there is none.

        Raises LocalError where it cannot be opened, read or written, or where another version made it: then nothing of
        the transaction counts.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            with self._connection as connection:  # commits, or takes all of it back
                connection.execute("BEGIN IMMEDIATE")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise LocalError(f"{self._path} cannot be used: {error}", code=self._code, hint=self._hint) from None

    def close(self) -> None:
        """Give the file back. What was written stays."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _connect(self) -> Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's own files beside it take its mode
        connection = sqlite3.connect(self._path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            with closing(connection.cursor()) as cursor:
                cursor.execute("PRAGMA journal_mode = WAL")
                cursor.execute(f"PRAGMA synchronous = {self._synchronous}")
                (version,) = cursor.execute("PRAGMA user_version").fetchone()
                if version not in (0, self._version):
                    raise sqlite3.DatabaseError(f"it has a table of version {version}, not {self._version}")
                for table in self._tables:
                    cursor.execute(table)
                cursor.execute(f"PRAGMA user_version = {self._version}")
        except BaseException:
            connection.close()
            raise
        return connection


def copy_database(source: Path, target: Path) -> Path:
    """Copy a SQLite file as it stands at one moment, also while others write it; the copy, which is on disk then.

    A draft becomes the target once it is whole; one that is there already is replaced. Raises LocalError.
    """
    draft = target.with_name(f".{target.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        uri = f"{source.resolve().as_uri()}?mode=ro"
        read = sqlite3.connect(uri, uri=True, timeout=WAIT_S)
        with closing(read), closing(sqlite3.connect(draft)) as written:
            read.backup(written)
            written.execute("PRAGMA journal_mode = DELETE")  # one file, whole
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return draft.replace(target)
    except (sqlite3.Error, OSError) as error:
        draft.unlink(missing_ok=True)
        hint = "see that it is a SQLite database, and that there is room for a copy"
        raise LocalError(f"{source} cannot be copied to {target}: {error}", code="backup", hint=hint) from None
