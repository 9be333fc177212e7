"""One authenticated TLS connection between two peers, and the frames on it.

::

    u32 length of the header, u32 length of the payload (both big endian), header, payload

A frame is written whole or not at all, whatever happens to the task that sends it. Frames are read straight from the
connection, so a peer that does not `receive` makes TCP itself slow the sender down; there is no queue to fill.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from collections.abc import Callable

from protocol.errors import LocalError, LostPeerError, MalformedError

__all__ = ["MAX_HEADER_BYTES", "MAX_PAYLOAD_BYTES", "PREFIX", "Link", "read_lengths"]

PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""Default; a data plane may be told otherwise."""
READ_BUFFER_BYTES = 1024 * 1024

_SLICE_BYTES = 256 * 1024
"""A long payload is handed to TLS in such pieces, so that other tasks get their turn in between."""
_CLOSE_LIMIT_S = 5.0
_GONE = (OSError, ssl.SSLError, asyncio.IncompleteReadError)


def read_lengths(prefix: bytes, max_payload: int) -> tuple[int, int]:
    """Header and payload length from a frame's first 8 bytes.

    Raises:
        MalformedError: beyond what is allowed.
    """
    header, payload = PREFIX.unpack(prefix)
    if header > MAX_HEADER_BYTES:
        raise MalformedError(f"a frame header of {header} bytes where {MAX_HEADER_BYTES} are allowed", code="too-long")
    if payload > max_payload:
        raise MalformedError(f"a frame payload of {payload} bytes where {max_payload} are allowed", code="too-long")
    return header, payload


class Link:
    """Frames to and from the peer that `public_key` names, proven in the handshake. Any number of tasks may send."""

    def __init__(
        self,
        public_key: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        max_payload: int,
        *,
        on_closed: Callable[[Link], None],
    ) -> None:
        self._public_key = public_key
        self._reader = reader
        self._writer = writer
        self._max_payload = max_payload
        self._on_closed = on_closed
        self._sending = asyncio.Lock()
        self._receiving = asyncio.Lock()
        self._lengths: tuple[int, int] | None = None
        """Of the frame whose first bytes have been read; kept when a `receive` is cancelled there."""
        self._malformed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = asyncio.Event()

    @property
    def public_key(self) -> bytes:
        """The peer's 33-byte public key."""
        return self._public_key

    async def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        """Send one frame; waits while the peer does not read. The payload must not change before it returns.

        A cancelled call has sent the whole frame or none of it; which of the two is not known.

        Raises:
            LocalError: longer than the link carries.
            LostPeerError: the connection is gone.
        """
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        if len(header) > MAX_HEADER_BYTES or size > self._max_payload:
            raise LocalError(f"a frame of {len(header)} and {size} bytes is too long for a link", code="too-long")
        prefix = PREFIX.pack(len(header), size) + header
        if size <= _SLICE_BYTES:
            await self._send_short(prefix + payload)
            return
        data = memoryview(payload).cast("B")
        task = asyncio.create_task(self._send_long(prefix, data))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        await asyncio.shield(task)

    async def receive(self) -> tuple[bytes, bytes]:
        """The next frame's header and payload. A cancelled call loses nothing.

        Raises:
            LostPeerError: the end of the connection, wherever it comes.
            MalformedError: lengths beyond the limits; the link is closed.
        """
        async with self._receiving:
            if self._malformed:
                raise LostPeerError("the link ended (bytes that are no frame)")
            try:
                if self._lengths is None:
                    self._lengths = read_lengths(await self._reader.readexactly(PREFIX.size), self._max_payload)
                header, payload = self._lengths
                frame = await self._reader.readexactly(header + payload)
            except MalformedError:
                self._malformed = True  # what follows in the buffer is no frame either
                self.abort()
                raise
            except _GONE as error:
                self.abort()
                raise LostPeerError(f"the link ended ({_describe(error)})") from None
            self._lengths = None
        return frame[:header], frame[header:]

    async def close(self) -> None:
        """Close; what was sent before is still delivered, unless the peer does not take it within seconds."""
        with contextlib.suppress(TimeoutError, *_GONE):
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                async with self._sending:
                    await self._writer.drain()
                    self._writer.close()
                await self._writer.wait_closed()
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._writer.transport.abort()
        if not self._closed.is_set():
            self._closed.set()
            self._on_closed(self)

    async def wait_closed(self) -> None:
        """Return once the link has been closed or found lost on this side."""
        await self._closed.wait()

    async def _send_short(self, frame: bytes) -> None:
        async with self._sending:
            try:
                await self._writer.drain()  # before: a sender cancelled below must not let the next one pile up more
                self._writer.write(frame)
                await self._writer.drain()
            except _GONE as error:  # what the peer sent before, its reason perhaps, can still be received
                raise LostPeerError(f"the link ended ({_describe(error)})") from None

    async def _send_long(self, prefix: bytes, payload: memoryview) -> None:
        async with self._sending:
            try:
                await self._writer.drain()
                self._writer.write(prefix)
                for start in range(0, len(payload), _SLICE_BYTES):
                    self._writer.write(payload[start : start + _SLICE_BYTES])
                    await self._writer.drain()
            except _GONE as error:
                raise LostPeerError(f"the link ended ({_describe(error)})") from None

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its sender may have been cancelled; nobody else needs it


def _describe(error: Exception) -> str:
    return "end of stream" if isinstance(error, asyncio.IncompleteReadError) else str(error) or type(error).__name__
