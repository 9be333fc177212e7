"""Running a coroutine under signals: the first one cancels it and lets it clean up, a second one does not wait."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from node.cli.terminal.boundary import Interrupted
from node.events import Events, Stopped, Stopping, unheard

__all__ = ["run_job", "serve", "serve_quietly", "survive_hangups"]

T = TypeVar("T")


class _Signals:
    """The signal that came, while the loop runs."""

    def __init__(self, events: Events = unheard, reload: Callable[[], None] | None = None) -> None:
        self.received: int | None = None
        self._events = events
        self._reload = reload

    def watch(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number: int) -> None:
            self.received = number
            for each in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(each)
            if task is not None:
                task.cancel()
            self._events(Stopping())

        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stop, each)
        if self._reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload)


async def _watched(signals: _Signals, work: Coroutine[Any, Any, T]) -> T:
    signals.watch()
    return await work


def survive_hangups() -> None:
    """From here on SIGHUP does not end this process: a service that is still starting reads its settings anyway."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def serve(work: Coroutine[Any, Any, None], *, events: Events, reload: Callable[[], None]) -> None:
    """Run a service until it ends or is stopped by a signal; being stopped is how it should end.

    Args:
        events: told of the end.
        reload: called on SIGHUP; it raises nothing.
    """
    signals = _Signals(events, reload)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_watched(signals, work))
        return
    if signals.received is None:
        raise RuntimeError("the service was cancelled, but not by a signal")
    events(Stopped())


def serve_quietly(work: Coroutine[Any, Any, None]) -> None:
    """As `serve`, for what tells nothing of its end and has nothing to read again."""
    signals = _Signals()
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_watched(signals, work))
        return
    if signals.received is None:
        raise RuntimeError("the service was cancelled, but not by a signal")


def run_job(work: Coroutine[Any, Any, T]) -> tuple[T, int]:
    """Run something that has a result; returns it with the exit status: 0, or 128 and the signal that cut it short.

    Raises:
        Interrupted: a signal stopped it before there was anything to return.
    """
    signals = _Signals()
    try:
        result = asyncio.run(_watched(signals, work))
    except asyncio.CancelledError:
        if signals.received is None:
            raise RuntimeError("the command was cancelled, but not by a signal") from None
        raise Interrupted(128 + signals.received) from None
    return result, 0 if signals.received is None else 128 + signals.received
