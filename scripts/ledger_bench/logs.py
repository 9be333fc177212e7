"""A log of so many entries, whose writer is killed when it has them: what a crash leaves."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

from ledger_bench.commits import writing
from ledger_bench.load import Load
from node.ledger.log_key import create_log_key
from node.ledger.schema import sqlite_url

_GROUP = 500


def database_of(folder: Path) -> Path:
    """Where it is."""
    return folder / "ledger.sqlite3"


def build(folder: Path, mix: str, entries: int) -> None:
    """Make it in `folder`, unless one is there."""
    if database_of(folder).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("spawn").Process(target=_write, args=(folder, mix, entries))
    process.start()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        raise SystemExit(f"the writer of the log ended with status {process.exitcode}")


def _write(folder: Path, mix: str, entries: int) -> None:
    asyncio.run(_write_all(folder, mix, entries))


async def _write_all(folder: Path, mix: str, entries: int) -> None:
    key = create_log_key(folder / "log.key", "bench")
    async with writing(sqlite_url(database_of(folder)), key, 1) as (_, sequencer):
        load = Load(sequencer.domain, mix)
        operations = list(load.deposits())
        while (size := sequencer.published.head.checkpoint.size) < entries:
            await asyncio.gather(*map(sequencer.submit, operations))
            operations = load.take(min(_GROUP, max(1, entries - size - len(operations))))
            if sys.stderr.isatty():
                print(f"\r{size} of {entries} entries", end="", file=sys.stderr)
        with contextlib.suppress(ProcessLookupError):
            os.kill(os.getpid(), signal.SIGKILL)
