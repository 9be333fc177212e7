"""What a node told of each day, counted on disk: for whoever asks later why no work came (`joule doctor`).

Every event counts, whatever level is printed: by the day, its name and its code, with the last one of each in full. Who
can read the file learns what the node's log tells; who can write it can mislead its operator, and nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.app.process.clock import clock
from node.database_file import DatabaseFile
from node.events import Event, Events
from node.worker import ThreadWorker
from protocol.errors import LocalError
from protocol.identity.ids import Address, checksum_address
from protocol.reputation.standing import DAY_S

__all__ = ["Told", "activity_file", "open_activity", "read_activity"]

VERSION = 1
"""Of the table."""
KEPT_DAYS = 30
MOST_KINDS = 1_000
"""Of events and codes in one day; further ones are not counted."""
GATHER_S = 1.0
"""Seconds in which events are gathered for one write."""
_TABLE = """
CREATE TABLE IF NOT EXISTS told (
    day INTEGER NOT NULL, event TEXT NOT NULL, code TEXT NOT NULL, count INTEGER NOT NULL, last_at INTEGER NOT NULL,
    last TEXT NOT NULL, PRIMARY KEY (day, event, code)
) WITHOUT ROWID
"""
_ADD = """
INSERT INTO told VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET
    count = count + excluded.count, last_at = max(last_at, excluded.last_at), last = excluded.last
"""
_FORGET = "DELETE FROM told WHERE day < ? AND event <> 'node ready'"
"""What a node said when it was ready last holds for as long as it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One kind of event on one day."""

    day: int
    """Days since 1970."""
    event: str
    """Its name."""
    code: str
    """What it says for programs; empty where it has no code."""
    count: int
    last_at: int
    """Unix seconds."""
    last: dict[str, Any]
    """The fields of the last one."""


def activity_file(data_dir: Path, node: Address) -> Path:
    """What the node with this key told."""
    return data_dir / "activity" / f"{checksum_address(node)}.sqlite"


def _file(path: Path) -> DatabaseFile:
    hint = "make room on its disk, or move the file away: events are then counted anew"
    return DatabaseFile(path, tables=(_TABLE,), version=VERSION, code="activity", hint=hint)


def read_activity(data_dir: Path, node: Address, since: int) -> list[Told]:
    """What was told on the days from `since` (Unix seconds) on, also while the node runs. Raises LocalError."""
    file = _file(activity_file(data_dir, node))
    if not file.exists:
        return []
    try:
        with file.transaction() as connection:
            rows = connection.execute("SELECT * FROM told WHERE day >= ? ORDER BY last_at", (since // DAY_S,))
            return [
                Told(day=day, event=event, code=code, count=count, last_at=last_at, last=json.loads(last))
                for day, event, code, count, last_at, last in rows
            ]
    finally:
        file.close()


class _Counting:
    """Counts events on their way to whoever tells them."""

    def __init__(self, path: Path, events: Events) -> None:
        self._events = events
        self._file = _file(path)
        self._worker = ThreadWorker("activity")
        self._counted: dict[tuple[int, str, str], tuple[int, int, Event]] = {}

    def __call__(self, event: Event) -> None:
        now = clock()
        key = now // DAY_S, event.name, str(getattr(event, "code", ""))
        if key in self._counted or len(self._counted) < MOST_KINDS:
            self._counted[key] = self._counted.get(key, (0, now, event))[0] + 1, now, event
        self._events(event)

    async def keep(self) -> None:
        """Write what was counted, until this is cancelled."""
        while True:
            await asyncio.sleep(GATHER_S)
            await self.write()

    async def write(self) -> None:
        """What is not written now is written later."""
        counted, self._counted = self._counted, {}
        rows = [
            (day, name, code, count, at, json.dumps(event.to_json()))
            for (day, name, code), (count, at, event) in counted.items()
        ]
        if rows:
            with contextlib.suppress(LocalError):  # it is kept for comfort
                await self._worker.run(lambda: self._add(rows))

    def _add(self, rows: list[tuple[int, str, str, int, int, str]]) -> None:
        with self._file.transaction() as connection:
            connection.executemany(_ADD, rows)
            connection.execute(_FORGET, (rows[0][0] - KEPT_DAYS,))

    async def close(self) -> None:
        await self.write()
        await self._worker.run(self._file.close)
        self._worker.close()


@asynccontextmanager
async def open_activity(data_dir: Path, node: Address, events: Events) -> AsyncIterator[Events]:
    """Events that are counted for a node, and told to `events`. A disk that fails is no reason to say nothing."""
    counting = _Counting(activity_file(data_dir, node), events)
    keeping = asyncio.create_task(counting.keep(), name="activity")
    try:
        yield counting
    finally:
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        await counting.close()
