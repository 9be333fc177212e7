"""Front ends of one PostgreSQL ledger as processes, for tests that kill and stop them; they print events."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger_world import OPERATOR, ledger_settings

from node.demo.forked import Command, Forked
from node.events import Event
from node.ledger import run_ledger


def tell(event: Event) -> None:
    print(json.dumps({"event": event.name, **event.to_json()}), flush=True)


async def main(folder: Path, database: str, port: int) -> None:
    settings = ledger_settings(folder, database=database, port=port)
    async with run_ledger(settings, OPERATOR, lambda: int(time.time()), events=tell) as ledger:
        print(json.dumps({"event": "ready", "url": ledger.url}), flush=True)
        await ledger.wait()


class Front(Command):
    """With a folder, a database's URL and a port."""

    def perform(self) -> None:
        folder, database, port = sys.argv[1:]
        asyncio.run(main(Path(folder), database, int(port)))


@dataclass(slots=True)
class FrontProcess:
    """One that runs."""

    name: str
    process: Forked
    url: str = ""
    heard: list[dict[str, Any]] = field(default_factory=list)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reader: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def event(self, name: str, **details: Any) -> dict[str, Any]:
        """The first event of this name and with these details."""
        async with asyncio.timeout(60), self._news:
            while True:
                for each in self.heard:
                    if each["event"] == name and details.items() <= each.items():
                        return each
                if self._reader is not None and self._reader.done():
                    raise RuntimeError(f"it ended before {name!r}: {self.heard}")
                await self._news.wait()

    def forget(self) -> None:
        """Only events from here on count."""
        self.heard.clear()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def read(self) -> None:
        while line := await self.process.stdout.readline():
            async with self._news:
                self.heard.append(json.loads(line))
                self._news.notify_all()
        async with self._news:
            self.heard.append({"event": "ended"})
            self._news.notify_all()


@dataclass(slots=True)
class Fronts:
    """Use as an async context manager; every process is killed at its end."""

    folder: Path
    database: str
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _running: list[FrontProcess] = field(default_factory=list)

    async def __aenter__(self) -> Fronts:
        return self

    async def __aexit__(self, *_: object) -> None:
        for front in self._running:
            if front.process.returncode is None:
                front.signal(signal.SIGKILL)
            await front.process.wait()
            if front._reader is not None:
                await front._reader

    async def start(self, name: str, *, port: int = 0) -> FrontProcess:
        """The first one begins the ledger; others get a copy of its log key, as an operator gives it to them."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for key in self.folder.glob("*/log.key"):
            if not (folder / "log.key").exists():
                shutil.copy(key, folder / "log.key")
        process = await Forked.start([str(folder), self.database, str(port)], {}, kind=Front)
        process.stdin.close()
        front = FrontProcess(name, process)
        front._reader = asyncio.create_task(front.read())
        self._running.append(front)
        front.url = (await front.event("ready"))["url"]
        return front
