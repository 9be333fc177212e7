"""What everything that runs needs: time, chance, tasks, and a thread for what takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

__all__ = [
    "Clock",
    "Randomness",
    "Spawn",
    "T",
    "Worker",
]

Clock = Callable[[], int]
"""Unix seconds now."""

Randomness = Callable[[int], bytes]
"""So many unpredictable bytes."""

T = TypeVar("T")


Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Start a task under a name, in the care of somebody who ends with its reason if it fails."""


class Worker(Protocol):
    """Where calls run that take long or wait for a disk: one at a time, in the order in which they were given."""

    def run(self, call: Callable[[], T]) -> Awaitable[T]:
        """What `call` returns or raises. A caller that is cancelled stops waiting; the call runs all the same.

        Its turn may come before the answer is awaited.
        """

    def close(self) -> None:
        """End after what it is doing and what waits."""
