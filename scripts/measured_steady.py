"""The part of some answers in which all of them are under way, for what measures several at once."""

from __future__ import annotations

import asyncio

__all__ = ["Steady"]


class Steady:
    """The part of some answers in which all are under way, by how many tokens of each have come.

    Args:
        settled: tokens of each answer before it begins.
        most: tokens of each answer that it ends before.
    """

    def __init__(self, streams: int, *, settled: int, most: int) -> None:
        self._counts = [0] * streams
        self._settled = settled
        self._most = most
        self.began = asyncio.Event()
        self.over = asyncio.Event()
        """Set before `began` is where one stream came to its end while another had hardly begun."""

    @property
    def tokens(self) -> int:
        """That came in all."""
        return sum(self._counts)

    def note(self, number: int) -> None:
        """One more token of a stream."""
        self._counts[number] += 1
        if self._counts[number] >= self._most:
            self.over.set()
        if not self.over.is_set() and min(self._counts) >= self._settled:
            self.began.set()

    async def beginning(self) -> bool:
        """Wait until it begins; False where it never does."""
        waits = [asyncio.create_task(event.wait()) for event in (self.began, self.over)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return self.began.is_set()
