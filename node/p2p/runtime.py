"""One trio run in one thread of its own, for a program that otherwise lives in asyncio.

libp2p here is written for trio. Sharing the asyncio thread would let a busy event loop stop gossip, and a second trio
run in one thread is not possible; so a process has one `TrioRuntime`, and any number of hosts share it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import trio

from protocol.errors import LocalError

__all__ = ["TrioRuntime"]

_STOP_LIMIT_S = 15.0


class TrioRuntime:
    """The trio thread. Use as an async context manager, or `start` and `stop`.

    A host is one task in it that catches its own errors, so that the crash of one leaves the others alone; what
    crashes the whole run (a system task of libp2p) ends every host with the reason.
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        """Why the run ended, when it crashed."""
        self._ready: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._token: Any = None
        self._nursery: Any = None
        self._thread = threading.Thread(target=self._run, name="trio", daemon=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> Self:
        """Start the thread; returns once it runs tasks."""
        self._thread.start()
        await asyncio.wrap_future(self._ready)
        return self

    async def stop(self) -> None:
        """Cancel every task and end the thread. Hosts that were not closed before end with a reason."""
        if self._thread.ident is None:  # never started
            return
        self.post(self._cancel)
        done, _ = await asyncio.wait({asyncio.wrap_future(self._ended)}, timeout=_STOP_LIMIT_S)
        if not done:
            raise LocalError("the network thread did not stop in time")
        self._thread.join()  # its last statement has run

    @property
    def running(self) -> bool:
        """Whether tasks can still be started."""
        return self._ready.done() and not self._ended.done()

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Run a plain function in the trio thread soon, in order; from any thread. False when the run has ended."""
        try:
            self._token.run_sync_soon(function, *args)
        except (trio.RunFinishedError, AttributeError):  # ended, or never started
            return False
        return True

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task in the trio thread; from any thread. The task must not raise.

        Raises:
            LocalError: the run has ended.
        """
        if not self.running or not self.post(self._start, task, name):
            raise LocalError(f"the network thread is not running ({self.failure or 'it was stopped'})")

    def _start(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        self._nursery.start_soon(task, name=name)

    def _cancel(self) -> None:
        self._nursery.cancel_scope.cancel()

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: BLE001 - the end of a thread: whoever waits for it is told
            self.failure = f"{type(error).__name__}: {error}"
            if not self._ready.done():
                self._ready.set_exception(error)
        finally:
            self._ended.set_result(None)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as self._nursery:
            self._ready.set_result(None)
            await trio.sleep_forever()
