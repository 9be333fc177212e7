"""Workers (`ports.Worker`): a thread of one's own, or none at all where a test or a simulation has to be repeatable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["InlineWorker", "ThreadWorker"]

T = TypeVar("T")


class ThreadWorker:
    """One thread, and a queue before it."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._thread.submit(call))

    def close(self) -> None:
        self._thread.shutdown(wait=True)


class InlineWorker:
    """Runs a call where it is given; other tasks get their turn first."""

    async def run(self, call: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return call()

    def close(self) -> None:
        """There is nothing to end."""
