"""One trio run in one thread of its own, for a program that otherwise lives in asyncio.

libp2p here is written for trio. Sharing the asyncio thread would let a busy event loop stop gossip, and a second trio
run in one thread is not possible; so a process has one `TrioRuntime`, and any number of hosts share it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, Self

import trio

from protocol.errors import LocalError

__all__ = ["TrioRuntime"]

_STOP_LIMIT_S = 15.0


class TrioRuntime:
    """The trio thread, running; made by `open`.

    A host is one task in it that catches its own errors, so that the crash of one leaves the others alone; what
    crashes the whole run (a system task of libp2p) ends every host with the reason.
    """

    def __init__(self, token: Any, nursery: Any, ended: Future[str | None]) -> None:
        self._token = token
        self._nursery = nursery
        self._ended = ended
        """Set to why the run ended, when it crashed."""

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        """Start the thread, and stop it when the block ends."""
        ready: Future[Self] = Future()
        ended: Future[str | None] = Future()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                ready.set_result(cls(trio.lowlevel.current_trio_token(), nursery, ended))
                await trio.sleep_forever()

        def run() -> None:
            reason: str | None = None
            try:
                trio.run(main)
            except BaseException as error:  # noqa: BLE001 - the end of a thread: whoever waits for it is told
                reason = f"{type(error).__name__}: {error}"
                if not ready.done():
                    ready.set_exception(error)
            finally:
                ended.set_result(reason)

        thread = threading.Thread(target=run, name="trio", daemon=True)
        thread.start()
        # Shielded: a thread that has been started is stopped again, whatever becomes of the task that waits for it.
        opening = asyncio.wrap_future(ready)
        try:
            yield await asyncio.shield(opening)
        finally:
            await (await opening).stop()
            thread.join()  # its last statement has run

    async def stop(self) -> None:
        """Cancel every task and wait for the end of the run. Hosts that were not closed before end with a reason."""
        self.post(self._nursery.cancel_scope.cancel)
        done, _ = await asyncio.wait({asyncio.wrap_future(self._ended)}, timeout=_STOP_LIMIT_S)
        if not done:
            raise LocalError("the network thread did not stop in time")

    @property
    def failure(self) -> str | None:
        """Why the run ended, when it crashed."""
        return self._ended.result() if self._ended.done() else None

    def post(self, function: Callable[..., object], *args: Any) -> bool:
        """Run a plain function in the trio thread soon, in order; from any thread. False when the run has ended."""
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            return False
        return True

    def spawn(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Start a task in the trio thread; from any thread. The task must not raise.

        Raises:
            LocalError: the run has ended.
        """

        def start() -> None:
            self._nursery.start_soon(task, name=name)

        if self._ended.done() or not self.post(start):
            raise LocalError(f"the network thread is not running ({self.failure or 'it was stopped'})")
