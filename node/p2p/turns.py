"""Computing for strangers: in a thread of its own, for a share of a core's time, those who are further first.

A flood takes every turn that there is. So turns together have a bounded share of a core, which leaves the rest to those
who pay for it. Among those who wait, whoever came last is the likeliest to be still there: an honest newcomer among a
thousand others has the next turn, where a queue would have it wait for all of them. Those who have answered are few,
since nobody new is served before them; they go in the order in which they came.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Generic, TypeVar

__all__ = ["Stage", "Turns"]

T = TypeVar("T")

_SHARE = 0.3
"""Of a core, in the long run: some 240 handshakes a second."""
_BURST_S = 0.25
"""Computing that may come at once: some 190 handshakes."""


class Stage(IntEnum):
    """How far a caller has come; those who are further go first."""

    NEW = 0
    KNOWN = 1
    """It comes from where somebody came from before who had a part in a session."""
    ANSWERED = 2
    """It has done work of its own."""


class Turns:
    """One call at a time, in a thread that picks the next one itself: on a busy machine a way back takes long."""

    def __init__(self, name: str, *, share: float = _SHARE, burst_s: float = _BURST_S) -> None:
        self._share = share
        self._burst_s = burst_s
        self._changed = threading.Condition()
        """Guards what follows."""
        self._waiting: dict[Stage, list[_Step[object]]] = {stage: [] for stage in reversed(Stage)}
        """Each in the order in which they came."""
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run(self, call: Callable[[], T], stage: Stage = Stage.NEW) -> T:
        """What `call` returns or raises. A cancelled caller waits until a call that has begun is over."""
        step = _Step(call)
        with self._changed:
            self._waiting[stage].append(step)  # type: ignore[arg-type]
            self._changed.notify()
        try:
            await step.over.wait()
        except asyncio.CancelledError:
            if not self._took_back(step, stage):
                await step.over.wait()
            raise
        return step.outcome()

    def close(self) -> None:
        """End after what is being done; who waits is not served any more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _took_back(self, step: _Step[T], stage: Stage) -> bool:
        with self._changed:
            if step not in self._waiting[stage]:
                return False
            self._waiting[stage].remove(step)  # type: ignore[arg-type]
            return True

    # In the thread

    def _work(self) -> None:
        credit_s, at_s = self._burst_s, time.monotonic()
        while (step := self._pick()) is not None:
            cost_s = step.perform()
            del step
            now_s = time.monotonic()
            credit_s = min(self._burst_s, credit_s + (now_s - at_s) * self._share) - cost_s
            at_s = now_s
            if credit_s < 0:
                time.sleep(-credit_s / self._share)

    def _pick(self) -> _Step[object] | None:
        """The next step, once there is one; None at the end."""
        with self._changed:
            while not self._closed:
                for stage, waiting in self._waiting.items():
                    if waiting:
                        return waiting.pop(0 if stage is Stage.ANSWERED else -1)
                self._changed.wait()
        return None


class _Step(Generic[T]):
    """One call, and what came of it."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._call: Callable[[], T] | None = call
        self._found: list[T] = []
        self._error: Exception | None = None

    def perform(self) -> float:
        """Call, in the thread; the seconds of computing that it took."""
        call, self._call = self._call, None  # what it was for is not held longer than it takes
        assert call is not None
        began = time.thread_time()
        try:
            self._found.append(call())
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            self._error = error.with_traceback(None)
        cost_s = time.thread_time() - began
        del call
        with contextlib.suppress(RuntimeError):  # the loop may have ended
            self._loop.call_soon_threadsafe(self.over.set)
        return cost_s

    def outcome(self) -> T:
        """What the call returned, or raises what it raised."""
        if self._error is not None:
            error, self._error = self._error, None  # else it would hold this, and this it, until a garbage collection
            try:
                raise error
            finally:
                del error
        return self._found[0]
