"""Tasks in somebody's care: none is lost, and what one fails with ends whoever owns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["Tasks", "owned_tasks"]


class Tasks:
    """Owns the tasks that are spawned through it. Made by `owned_tasks`."""

    def __init__(self, failed: asyncio.Future[None]) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task; what it fails with is raised by `watch`."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._note)
        return task

    async def watch(self) -> None:
        """Until one of the tasks fails: raises what it failed with."""
        await asyncio.shield(self._failed)

    def _note(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def end(self) -> None:
        """Cancel what still runs, and wait for it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def owned_tasks() -> AsyncIterator[Tasks]:
    """Tasks that end when the block does."""
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tasks = Tasks(failed)
    try:
        yield tasks
    finally:
        await tasks.end()
        if failed.done() and not failed.cancelled():
            failed.exception()  # told by `watch`, to whoever watched
