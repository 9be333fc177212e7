"""One backend's life in the trio thread, as the event loop sees it: it comes up, and it ends with a reason."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

import trio

from node.p2p.backend import Backend
from node.p2p.bridge import Bridge
from node.p2p.places import Bounds
from node.p2p.runtime import TrioRuntime
from protocol.errors import JoulemeshError, LocalError

__all__ = ["Lifetime"]

log = logging.getLogger(__name__)

_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 10.0


class Lifetime:
    """From `begin` to `close`, or to the backend's own end. Belongs to the event loop that made it."""

    def __init__(self, runtime: TrioRuntime, bridge: Bridge) -> None:
        self._runtime = runtime
        self._bridge = bridge
        self._ready: asyncio.Future[Backend] = bridge.loop.create_future()
        self._stop = trio.Event()  # belongs to the trio thread
        self._closing = False
        self._ended = asyncio.Event()
        self._failure: LocalError | None = None
        self._heirs: list[Callable[[LocalError | None], None]] = []

    async def begin(self, secret: bytes, listen: str, announce: Sequence[str], bounds: Bounds, name: str) -> Backend:
        """Start a backend; see `Backend.open`. Raises ListenError, LocalError."""
        self._runtime.spawn(partial(self._run, secret, listen, announce, bounds), name=f"libp2p host {name}")
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            await self.close()
            raise LocalError("the libp2p host did not start in time") from None
        except BaseException:
            await self.close()
            raise

    def when_ended(self, heir: Callable[[LocalError | None], None]) -> None:
        """Have `heir` called at the end, with why the backend died or None where it was closed."""
        if self._ended.is_set():
            heir(self._failure)
        else:
            self._heirs.append(heir)

    async def close(self) -> None:
        """End every call and the backend. Does nothing when done before."""
        self._closing = True
        await self._bridge.close(LocalError("the host is closed", code="closed"))
        self._runtime.post(self._stop.set)
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await self._ended.wait()
        except TimeoutError:
            log.warning("a libp2p host did not close in time")

    async def wait_ended(self) -> None:
        """Return once it was closed; raise LocalError (code `host-died`) if it ended by itself."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def _run(self, secret: bytes, listen: str, announce: Sequence[str], bounds: Bounds) -> None:
        """In the trio thread, the backend's one task there."""
        failure: BaseException | None = None
        ended = False
        try:
            async with Backend.open(secret, listen, announce, bounds) as backend:
                self._bridge.to_asyncio(self._set_ready, backend)
                await self._stop.wait()
            ended = True
        except Exception as error:  # noqa: BLE001 - the top of the host's task: `_finish` passes the reason on
            failure = error
            ended = True
        finally:
            if not ended:  # cancelled, with the whole trio run
                failure = LocalError(f"the network thread ended: {self._runtime.failure or 'it was stopped'}")
            self._bridge.to_asyncio(self._finish, failure)

    def _set_ready(self, backend: Backend) -> None:
        if not self._ready.done():
            self._ready.set_result(backend)

    def _finish(self, error: BaseException | None) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None and not self._closing:
            text = error.message if isinstance(error, JoulemeshError) else f"{type(error).__name__}: {error}"
            self._failure = LocalError(f"the libp2p host died: {text}", code="host-died")
        if not self._ready.done():
            self._ready.set_exception(error if isinstance(error, LocalError) else LocalError(f"no host: {error}"))
        self._bridge.fail(self._failure or LocalError("the host is closed", code="closed"))
        self._ended.set()
        for heir in self._heirs:
            heir(self._failure)
