"""Who may write a ledger: one process at a time.

For SQLite a locked file beside the database, which goes with the process. For PostgreSQL an advisory lock of the very
connection that writes, so that whoever has lost the lock has lost the way to write with it. A process that is stopped,
or that nobody reaches, keeps its connection open for as long as the machines between leave it: another one that waits
for the lock has the server end the session of a writer that was silent for too long.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from protocol.errors import ConfigurationError, LocalError

__all__ = ["DeposedError", "cut_off", "end_silent_writer", "lock_beside", "say", "second_writer", "take_lock"]

_ADVISORY_LOCK = 0x6A6F756C65  # "joule"
_STARTING = "joule ledger, starting"
_WRITING = "joule ledger, writing"
_STARTING_S = 60
"""Seconds that a writer may be silent while it reads what the ledger holds: it computes, and cannot say so."""

_END_SILENT = text(
    """
    SELECT pg_terminate_backend(pid)
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND classid = :high AND objid = :low
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND wait_event_type = 'Client'
      AND clock_timestamp() - state_change > interval '1 second' * CASE application_name
          WHEN :starting THEN CAST(:starting_s AS float8) ELSE CAST(:patience_s AS float8) END
    """
)
"""The server waits for this writer, not the writer for a server that is busy."""


class DeposedError(LocalError):
    """Another process has become the writer; code ``ledger-deposed``."""

    default_code = "ledger-deposed"


def second_writer() -> LocalError:
    """What is raised where another process is the writer."""
    return LocalError(
        "another process is writing this ledger",
        code="ledger-locked",
        hint="one ledger has one writer: stop the other `joule ledger run`, or give this one its own folder",
    )


# SQLite


def lock_beside(url: URL) -> int:
    """The descriptor of the locked file beside a SQLite database; closing it gives the lock back.

    Whoever opens the same file meets the same lock, whatever the folder is called. Raises LocalError.
    """
    database = _plain_file(url)
    path = database.with_name(f"{database.name}.lock")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror}", hint="the ledger's database stands in a folder of its user's own"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise second_writer() from None
    return descriptor


def _plain_file(url: URL) -> Path:
    """The database's file, behind all links to it. Raises ConfigurationError where it has a second name."""
    path = Path(url.database or "ledger").resolve()
    if path.exists() and path.stat().st_nlink > 1:
        # Under each name it would have a lock and a write-ahead log of its own, and two writers would spoil it.
        raise ConfigurationError(
            f"the ledger database {path} has more than one name (hard links)",
            hint="remove all but one of its names; a symbolic link does no harm",
        )
    return path


# PostgreSQL


async def take_lock(connection: AsyncConnection) -> bool:
    """Take the lock for as long as this connection lives; False where another one has it."""
    taken = await connection.scalar(select(func.pg_try_advisory_lock(_ADVISORY_LOCK)))
    await connection.commit()  # the lock belongs to the connection, not to this transaction
    if taken:
        await say(connection, starting=True)
    return bool(taken)


async def say(connection: AsyncConnection, *, starting: bool) -> None:
    """Name the session by what the writer does, which the server shows to others."""
    name = _STARTING if starting else _WRITING
    await connection.execute(select(func.set_config("application_name", name, False)))
    await connection.commit()


async def end_silent_writer(connection: AsyncConnection, patience_s: float) -> bool:
    """Have the server end the session of a writer that was silent for so long; whether there was one.

    What it had not committed is undone before its lock is free. The server lets a role end sessions of its own only.
    """
    values = {
        "high": _ADVISORY_LOCK >> 32,
        "low": _ADVISORY_LOCK & 0xFFFFFFFF,
        "starting": _STARTING,
        "starting_s": float(_STARTING_S),
        "patience_s": patience_s,
    }
    ended = (await connection.execute(_END_SILENT, values)).all()
    await connection.commit()
    return bool(ended)


@contextmanager
def cut_off(driver: Any, seconds: float) -> Iterator[None]:
    """Drop a connection whose server has not answered within so many seconds: whatever waits for it then fails.

    Args:
        driver: the driver's own connection; None where there is no server.
    """
    if driver is None:
        yield
        return
    handle = asyncio.get_running_loop().call_later(seconds, driver.terminate)
    try:
        yield
    finally:
        handle.cancel()
