"""Lines of standard input while other things go on: read by a thread of its own, a few ahead and no more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

__all__ = ["Lines"]

AHEAD = 16
"""Lines that are read before somebody wants them."""
MOST_BYTES = 4 * 1024 * 1024
"""Of one line; a longer one comes in parts."""


class Lines:
    """Begins to read when it is made, in a running event loop. Nothing waits for its end: the thread ends with the
    process, even where nobody ever writes another line.

    Args:
        descriptor: stays open until its end was read. Were it closed before, what gets its number next would be read.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._read: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD)
        threading.Thread(target=self._run, name="lines", daemon=True).start()

    async def next(self) -> str | None:
        """The next line without its end; None after the last."""
        line = await self._read.get()
        self._room.release()
        if line is None:
            self._read.put_nowait(None)
        return line

    def _run(self) -> None:
        # Not through sys.stdin: a thread that waits within its lock could not be left behind at the end.
        rest = b""
        with contextlib.suppress(OSError, RuntimeError):  # a terminal that is gone, or a loop that has ended
            while data := os.read(self._descriptor, 65_536):
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > MOST_BYTES:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._hand_on(line.removesuffix(b"\r").decode(errors="replace"))
            if rest:
                self._hand_on(rest.decode(errors="replace"))
        with contextlib.suppress(RuntimeError):
            self._hand_on(None)

    def _hand_on(self, line: str | None) -> None:
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._read.put_nowait, line)
