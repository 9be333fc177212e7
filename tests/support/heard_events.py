"""Events that a test listens to."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from node.events import Event

E = TypeVar("E", bound=Event)


class Heard:
    """Events, and a way to wait for them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    async def until(self, kind: type[E]) -> E:
        """The first one of a kind, which may have happened already."""
        async with asyncio.timeout(30):
            while True:
                for event in self.events:
                    if isinstance(event, kind):
                        return event
                self._news.clear()
                await self._news.wait()
