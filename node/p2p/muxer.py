"""Yamux as libp2p has it, with what its defaults leave open closed: torn frames, unbounded memory, dead connections.

Five weaknesses of the underlying class, all met in practice:

- A cancelled task may leave half a frame, or an encrypted frame that was counted but never sent, on the connection;
  the other side then fails to authenticate everything after it, and every stream dies. Here frames are written
  whole or the connection is closed.
- The receive window is advertised but not enforced, and a frame may announce 4 GiB. Here the connection is closed
  before such a frame is read, and where too much lies unread. What lies on a stream that was reset here is dropped at
  once; the library keeps it for a minute or more.
- Every read, of a single byte too, sends a frame that opens the peer's window further, to 16 MiB within six reads:
  most of all frames of short streams. Here the window stays below 1 MiB, and credit is given back once it is worth
  a frame.
- Pings are answered as fast as they come, and each costs more here than at whoever sends it. Here a connection is read
  no further while its pings come too fast.
- A ping without an answer is ignored, so that after a network has been cut TCP alone decides, for minutes beyond the
  cut's end, when two peers may talk again. Here the connection is closed, and whoever needs it dials anew; and who
  doubts a connection, because its peer has just come in by another, may ask for a sign of life at once (`answers`).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakSet

import trio
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import (
    FLAG_ACK,
    FLAG_SYN,
    PROTOCOL_ID,
    TYPE_PING,
    TYPE_WINDOW_UPDATE,
    YAMUX_HEADER_FORMAT,
    Yamux,
)

from node.p2p.pace import Pace

__all__ = ["GuardedYamux", "OnlyGuardedYamux"]

log = logging.getLogger(__name__)

_MAX_FRAME_BYTES = 256 * 1024
"""A window as it is at first; four times what implementations send in one frame."""
_MAX_THEIRS_BYTES = 512 * 1024
"""Unread on all streams that the peer has opened: questions, which are short, and gossip, which is read as it comes."""
_MAX_OURS_BYTES = 1024 * 1024
"""Unread on one stream that was opened here, on average: answers, which may be long, and are read as they come."""
_MAX_UNREAD_BYTES = 48 * 1024 * 1024
"""On what peers have opened, over all connections of the process; those of the peer with the most are ended."""
_CREDIT_BYTES = 64 * 1024
"""Withheld at most, of a window of 256 KiB: a sender is never stopped by it."""
_HEADER = struct.Struct(YAMUX_HEADER_FORMAT)
_WRITE_LIMIT_S = 30.0
_CLOSE_LIMIT_S = 1.0
_PONGS_PER_S = 10.0
_PONGS_AT_ONCE = 20
_PING_EVERY_S = 15.0
_PONG_LIMIT_S = 15.0
_DOUBT_LIMIT_S = 3.0
"""For a pong where there is reason to think that none will come."""


class _Bell:
    """Wakes all who wait for its next sound; the library `set`s it at each pong."""

    def __init__(self) -> None:
        self.next = trio.Event()

    def set(self) -> None:
        self.next.set()
        self.next = trio.Event()


class GuardedYamux(Yamux):  # type: ignore[misc]  # libp2p is not typed strictly enough to be followed
    """A Yamux connection that survives cancelled writers and refuses floods."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._writing: set[Any] = set()
        self._credit: dict[int, int] = {}
        """Bytes read from a stream that its sender has not been told of."""
        self._ping_id: int = 0
        self._ping_event: Any = _Bell()
        self._pongs = Pace(_PONGS_PER_S, _PONGS_AT_ONCE, trio.current_time())
        self._theirs = 0
        """Unread bytes on the peer's streams, when a frame last came."""
        _open.add(self)

    def rtt(self) -> float:
        """In seconds, for the tuning of windows only: so short that a larger window is never called for."""
        return 1e-9

    async def _write_frame(self, data: bytes) -> None:
        _, kind, flags, stream_id, length = _HEADER.unpack_from(data)
        if kind == TYPE_WINDOW_UPDATE and flags == 0:
            credit = self._credit.get(stream_id, 0) + length
            if credit < _CREDIT_BYTES:
                self._credit[stream_id] = credit
                return
            self._credit[stream_id] = 0
            data = _HEADER.pack(0, kind, 0, stream_id, credit)
        elif kind == TYPE_PING and flags & FLAG_ACK:
            await trio.sleep(self._pongs.take(trio.current_time()))  # whoever reads the connection waits for it
        elif flags:  # a stream begins or ends
            self._credit.pop(stream_id, None)
        await self._write_whole(data)

    async def _write_whole(self, data: bytes) -> None:
        scope = trio.CancelScope(shield=True, deadline=trio.current_time() + _WRITE_LIMIT_S)
        self._writing.add(scope)
        try:
            with scope:
                await super()._write_frame(data)
        finally:
            self._writing.discard(scope)
        if scope.cancelled_caught:  # half a frame may be out: nothing after it could be read
            with trio.CancelScope(shield=True):
                await self._cleanup_on_error()
            raise trio.BrokenResourceError("the peer did not take a frame in time")

    async def _read_data_body(self, length: int) -> bytes | None:
        if length > _MAX_FRAME_BYTES or not self._has_room(length):
            return None  # which the caller takes for the end of the connection
        await _keep_below(_MAX_UNREAD_BYTES)
        body: bytes = await super()._read_data_body(length)
        return body

    def _has_room(self, length: int) -> bool:
        own = self.next_stream_id % 2
        ours, theirs, count = 0, 0, 0
        for stream_id, unread in self.stream_buffers.items():
            if stream_id % 2 == own:
                ours += len(unread)
                count += 1
            else:
                theirs += len(unread)
        self._theirs = theirs + length
        # Looked at before a frame, which does not say here whose stream it is for: so one may be too many.
        return theirs <= _MAX_THEIRS_BYTES and ours <= _MAX_OURS_BYTES * count

    def _finalize_stream_locked(self, stream: Any, *, fully_closed: bool) -> None:
        if fully_closed and stream.send_closed and stream.reset_received:  # reset here: nobody reads on
            self.stream_buffers.pop(stream.stream_id, None)
        super()._finalize_stream_locked(stream, fully_closed=fully_closed)

    async def _measure_rtt_loop(self) -> None:
        """What runs beside each connection: here it watches that the peer is still there."""
        while True:
            with trio.move_on_after(_PING_EVERY_S):
                await self.event_shutting_down.wait()
            if self.event_shutting_down.is_set():
                return
            await self.answers(_PONG_LIMIT_S)

    async def answers(self, limit_s: float = _DOUBT_LIMIT_S) -> bool:
        """Whether the peer gives a sign of life within so many seconds; the connection is closed if not."""
        pong = self._ping_event.next
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say_ping)
            with trio.move_on_after(limit_s) as patience:
                await pong.wait()
            nursery.cancel_scope.cancel()
            if patience.cancelled_caught:
                log.debug("%s answers no pings; its connection is closed", self.peer_id)
                await self._drop()
        return not self.event_shutting_down.is_set()

    async def _say_ping(self) -> None:
        self._ping_id = (self._ping_id + 1) % 2**32
        try:
            await self._write_frame(_HEADER.pack(0, TYPE_PING, FLAG_SYN, 0, self._ping_id))
        except Exception:  # noqa: BLE001 - of whatever kind: the connection is gone
            self._ping_event.set()

    async def _cleanup_on_error(self) -> None:
        await super()._cleanup_on_error()
        self._ping_event.set()  # nobody has to wait for a pong any more

    async def _drop(self) -> None:
        """Close at once, with those who are still writing to a peer that reads nothing."""
        with trio.CancelScope(shield=True):
            for scope in tuple(self._writing):
                scope.cancel()
            await self._cleanup_on_error()

    async def close(self, *args: Any, **kwargs: Any) -> None:
        with trio.move_on_after(_CLOSE_LIMIT_S) as farewell:
            await super().close(*args, **kwargs)
        self._ping_event.set()
        if farewell.cancelled_caught:  # a peer that reads nothing holds up the farewell
            await self._drop()


_open: WeakSet[GuardedYamux] = WeakSet()
"""All connections of the process."""


async def _keep_below(most: int) -> None:
    """End the connections with most unread on the peer's streams, until all together have no more than this."""
    total = sum(each._theirs for each in _open)
    while total > most:
        worst = max(_open, key=lambda each: each._theirs)
        log.debug("%s leaves most unread; its connection is closed", worst.peer_id)
        total -= worst._theirs
        worst._theirs = 0
        await worst._drop()


class OnlyGuardedYamux(MuxerMultistream):  # type: ignore[misc]  # as above
    """Negotiates Yamux and nothing else. The library's own class makes a plain Yamux whatever class it was given."""

    def __init__(self, welcome: Callable[[], Awaitable[None]]) -> None:
        super().__init__({PROTOCOL_ID: GuardedYamux})
        self._welcome = welcome
        """Waited for before a connection that came in goes on."""

    async def new_conn(self, conn: Any, peer_id: Any) -> Any:
        if not conn.is_initiator:
            await self._welcome()
        await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        return GuardedYamux(conn, peer_id, is_initiator=conn.is_initiator)
