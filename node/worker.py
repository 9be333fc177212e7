"""Workers (`ports.Worker`): a thread of one's own, or none at all where a test or a simulation has to be repeatable."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

__all__ = ["InlineWorker", "ThreadWorker"]

T = TypeVar("T")


class ThreadWorker:
    """One thread, and a queue before it.

    An executor's futures, which any thread may wait for, cost two turns of the loop and several locks; a call here has
    one loop that waits for it, which is told once.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, call: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise RuntimeError(f"the worker {self._thread.name!r} has ended")
        loop = asyncio.get_running_loop()
        over: asyncio.Future[T] = loop.create_future()
        self._calls.put(partial(_perform, call, over, loop))
        return over

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._calls.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (perform := self._calls.get()) is not None:
            perform()
            del perform  # what it was for is not held until the next one comes


def _perform(call: Callable[[], T], over: asyncio.Future[T], loop: asyncio.AbstractEventLoop) -> None:
    """In the thread."""
    try:
        tell = partial(_settle, over, call(), None)
    except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
        tell = partial(_settle, over, None, error)
    with contextlib.suppress(RuntimeError):  # the loop may have ended
        loop.call_soon_threadsafe(tell)
    del call, over, tell  # an error refers to this frame


def _settle(over: asyncio.Future[Any], found: object, error: BaseException | None) -> None:
    if over.done():  # nobody waits any more
        return
    if error is None:
        over.set_result(found)
    else:
        over.set_exception(error)


class InlineWorker:
    """Runs a call where it is given; other tasks get their turn first."""

    async def run(self, call: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return call()

    def close(self) -> None:
        """There is nothing to end."""
