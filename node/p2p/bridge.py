"""Between one asyncio event loop and the trio thread: calls in both directions, with cancellation.

A call from asyncio becomes a task of the host's nursery. When the caller is cancelled it stops waiting at once, while
the trio task is cancelled and ends in its own time: writes there are shielded until whole frames are out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import trio

from node.p2p.runtime import TrioRuntime
from protocol.errors import JoulemeshError, LocalError, LostPeerError

__all__ = ["Bridge"]

log = logging.getLogger(__name__)

T = TypeVar("T")


class Bridge:
    """Belongs to the event loop that made it. After `close` every call, pending or new, raises the given error."""

    def __init__(self, runtime: TrioRuntime) -> None:
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._pending: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[bytes]] = set()
        self._closed: LocalError | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        return self._loop

    def to_asyncio(self, function: Callable[..., object], *args: Any) -> None:
        """Run a plain function in the event loop soon; from the trio thread."""
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the event loop has been closed, and with it everybody who could care
            log.debug("the event loop is gone")

    def post(self, function: Callable[..., object], *args: Any) -> None:
        """Run a plain function in the trio thread soon; from the event loop."""
        self._runtime.post(function, *args)

    async def call(self, nursery: Any, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run an async function in the trio thread, in `nursery`, and wait for its result.

        Raises:
            JoulemeshError: what the function raised; any other error of it becomes a LostPeerError.
        """
        if self._closed is not None:
            raise self._closed
        future: asyncio.Future[T] = self._loop.create_future()
        scope = trio.CancelScope()

        async def task() -> None:
            settle: Callable[..., None] = _fail
            outcome: object = LostPeerError("the host is closing")
            with scope:
                try:
                    outcome = await function(*args)
                    settle = _succeed
                except JoulemeshError as error:
                    outcome = error
                except Exception as error:  # whatever libp2p raises is the doing of a peer or of the network
                    log.debug("a libp2p call failed", exc_info=error)
                    outcome = LostPeerError(f"{type(error).__name__}: {error}")
            self.to_asyncio(settle, future, outcome)

        self._pending.add(future)
        self._runtime.post(nursery.start_soon, task)
        try:
            return await future
        except asyncio.CancelledError:
            self._runtime.post(scope.cancel)
            raise
        finally:
            self._pending.discard(future)

    async def ask_asyncio(self, function: Callable[..., Coroutine[Any, Any, bytes]], *args: Any) -> bytes:
        """Run an async function in the event loop and wait for its result; from the trio thread."""
        done = trio.Event()
        outcome: list[bytes | BaseException] = []
        running: list[asyncio.Task[bytes]] = []

        def finish(task: asyncio.Task[bytes]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                outcome.append(LocalError("the host is closing", code="closing"))
            else:
                outcome.append(task.exception() or task.result())
            self._runtime.post(done.set)

        def begin() -> None:
            if self._closed is not None:
                outcome.append(self._closed)
                self._runtime.post(done.set)
                return
            task = self._loop.create_task(function(*args))
            running.append(task)
            self._tasks.add(task)
            task.add_done_callback(finish)

        def abandon() -> None:
            for task in running:
                task.cancel()

        self.to_asyncio(begin)
        try:
            await done.wait()
        except trio.Cancelled:
            self.to_asyncio(abandon)
            raise
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    async def close(self, reason: LocalError) -> None:
        """Fail pending calls with `reason` and cancel running handlers; waits for these."""
        self.fail(reason)
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def fail(self, reason: LocalError) -> None:
        """Fail pending and future calls with `reason`."""
        self._closed = self._closed or reason
        for future in tuple(self._pending):
            _fail(future, reason)


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
