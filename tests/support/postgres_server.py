"""A private PostgreSQL for tests, where Debian's package is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class PostgresServer:
    """A cluster of its own in a temporary folder, reached over a unix socket there."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self.folder = folder
        # The server refuses to run as root; Debian's package brings a user for it.
        self._as_user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs; what it says goes into the error when it fails."""
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=60, check=False, **self._as_user,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}")

    def start(self) -> None:
        if self._as_user:
            shutil.chown(self.folder, "postgres", "postgres")
        data = str(self.folder / "data")
        self.run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "--encoding=UTF8", "--locale=C",
                 "--wal-segsize=1")  # fmt: skip
        options = f"-c listen_addresses='' -k {self.folder} -c logging_collector=on"
        self.run("pg_ctl", "-D", data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def restart(self) -> None:
        """End every session, and start again."""
        self.run(
            "pg_ctl", "-D", str(self.folder / "data"), "-m", "fast", "-w", "-l", str(self.folder / "log"), "restart"
        )

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def empty_database(self) -> str:
        """The URL of the one database, emptied: making another for each test would copy megabytes."""
        again = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
        self.run("psql", "-h", str(self.folder), "-U", "postgres", "-q", "-c", again)
        return f"postgresql://postgres@/postgres?host={self.folder}"


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the length of the block; skips with a message where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="joule-pg-", dir="/tmp") as folder:  # a socket's path must be short
        server = PostgresServer(found[-1].parent, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
