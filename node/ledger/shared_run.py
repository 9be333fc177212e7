"""Doing once what several ask for at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["SharedRun"]


class SharedRun:
    """Calling it waits for a run of `work` that began after the call, and is shared by all who came before it began.

    One run is under way at a time, so however many call, the work is done as often as it can be, and no more. A run
    that fails is nobody's but that of the caller who began it: the next one tries again.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._turn = asyncio.Lock()
        self._begun = 0
        self._done = 0
        """Number of the last run that succeeded."""

    async def __call__(self) -> None:
        """Raises what `work` raises."""
        wanted = self._begun + 1
        async with self._turn:
            if self._done >= wanted:
                return
            self._begun += 1
            number = self._begun
            await self._work()
            self._done = number
