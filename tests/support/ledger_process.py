"""A ledger in a process of its own, for tests that kill or attack it: prints its address, then serves until the end.

It is forked from one that has imported what it needs.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger_world import OPERATOR, ledger_settings

from node.demo.forked import Command, Forked
from node.ledger import run_ledger


async def main(folder: Path, descriptors: int, connections: int) -> None:
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    settings = ledger_settings(folder, connections=connections or None)
    async with run_ledger(settings, OPERATOR, lambda: int(time.time())) as ledger:
        print(ledger.url, flush=True)
        await ledger.wait()


class Ledger(Command):
    """With a folder, a bound on descriptors, one on connections, and where it writes its standard error."""

    def perform(self) -> None:
        folder, descriptors, connections, log = sys.argv[1:]
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        asyncio.run(main(Path(folder), int(descriptors), int(connections)))


@dataclass(frozen=True, slots=True)
class LedgerProcess:
    """One that runs."""

    url: str
    process: Forked
    log: Path
    """What it wrote to standard error."""

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def resident_mib(self) -> float:
        """Memory that it holds now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    def descriptors(self) -> int:
        """Files and sockets that it holds open now."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())


async def spawn_ledger(folder: Path, *, descriptors: int = 0, connections: int = 0) -> LedgerProcess:
    """Start one in `folder`; it is up when this returns. Bounds of 0 are those by default."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    path = folder / "stderr.log"
    process = await Forked.start([str(folder), str(descriptors), str(connections), str(path)], {}, kind=Ledger)
    process.stdin.close()
    async with asyncio.timeout(60):
        url = (await process.stdout.readline()).decode().strip()
    return LedgerProcess(url, process, path)


@asynccontextmanager
async def started_ledger(folder: Path, *, descriptors: int = 0, connections: int = 0) -> AsyncIterator[LedgerProcess]:
    """One that is stopped when the block ends."""
    ledger = await spawn_ledger(folder, descriptors=descriptors, connections=connections)
    try:
        yield ledger
    finally:
        if ledger.process.returncode is None:
            ledger.process.send_signal(signal.SIGKILL)
        await ledger.process.wait()
