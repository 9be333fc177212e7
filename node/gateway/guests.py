"""Connections to the gateway: how many there may be, and how long one may take to say what it wants.

It knows no HTTP: what comes goes to aiohttp's protocol. A connection has some seconds for the head of a request, and
a body's deadline is its reader's (`entrance`); one that is answered may stay, and read, as its answer's writer allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

__all__ = ["HEAD_S", "Guest", "Guests"]

HEAD_S = 10.0
"""Seconds for the head of a request, from its first byte, or from the connection's beginning."""
MOST_HEAD_BYTES = 64 * 1024
"""Before a request is heard."""


class Guests:
    """The connections of one server.

    Args:
        make_inner: makes the protocol that speaks HTTP.
        most: connections at once; one more is turned away.
    """

    def __init__(self, make_inner: Callable[[], asyncio.Protocol], *, most: int, head_s: float) -> None:
        self.make_inner = make_inner
        self.most = most
        self.head_s = head_s
        self.now: set[Guest] = set()

    def __call__(self) -> Guest:
        return Guest(self)


class Guest(asyncio.Protocol):
    """One connection."""

    def __init__(self, guests: Guests) -> None:
        self._guests = guests
        self._inner = guests.make_inner()
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._bytes = 0
        self._serving = False

    def heard(self) -> None:
        """The head of a request has come whole, and is being answered."""
        self._serving, self._bytes = True, 0
        self._stop_waiting()

    def answered(self) -> None:
        """It is idle until it asks again; aiohttp closes what is idle for too long."""
        self._serving = False

    def leave(self) -> None:
        """Close at once; what it has not read is lost."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._guests.now) >= self._guests.most:
            self._transport.abort()
            return
        self._guests.now.add(self)
        self._inner.connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self not in self._guests.now:
            return
        if not self._serving:
            self._bytes += len(data)
            if self._bytes > MOST_HEAD_BYTES + len(data):
                self.leave()
                return
            if self._deadline is None:
                self._wait()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_waiting()
        self._transport = None
        if self in self._guests.now:
            self._guests.now.discard(self)
            self._inner.connection_lost(error)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._guests.head_s, self.leave)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
