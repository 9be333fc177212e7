"""One authenticated TLS connection between two peers, and the frames on it.

::

    u32 length of the header, u32 length of the payload (both big endian), header, payload

A frame is sent whole or not at all, whatever happens to the task that sends it. Frames are read straight from the
connection, so a peer that does not `receive` makes TCP itself slow the sender down; there is no queue to fill but what
one read brings, for a peer that has a part in a session. Nothing is allocated because of a length that the peer has not
been allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable, Iterator

from node.p2p.budget import SMALL_BYTES, ReceiveBudget
from node.p2p.pace import Pace
from node.p2p.tls import CLOSED_HERE, TlsSocket
from node.ports import STRANGER, Allowance, LinkRank
from protocol.errors import LocalError, LostPeerError, MalformedError

__all__ = ["FRAME_S", "LEAST_RATE", "MAX_HEADER_BYTES", "MAX_PAYLOAD_BYTES", "PREFIX", "Link", "read_lengths"]

PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
"""Default; a data plane may be told otherwise."""
FRAME_S = 10.0
"""Seconds for a frame to get through from its first byte on; a long one has more, see `LEAST_RATE`."""
LEAST_RATE = 512 * 1024
"""Bytes a second of a long frame, at least: what a poor line at home still sends."""

_SLICE_BYTES = 256 * 1024
"""After so many bytes without a wait, other tasks get their turn."""
_TURN_BYTES = 4096
"""What a read counts for at least towards a slice: tiny frames cost time, too."""
_READ_BYTES = 16 * 1024
"""Asked for in one read, of a peer with a part in a session: what TLS delivers at a time."""
_STRANGERS_FRAMES_PER_S = 20.0
_STRANGERS_FRAMES_AT_ONCE = 16
"""Frames of a peer without a part in any session; further ones are read later, and so sent later."""
UNANSWERED_S = 6.0
"""Seconds for which nothing that was sent gets through, after which a link has ended.

The system would try for a quarter of an hour, ever more rarely, so that a way which was cut would stay dead for long
after it is back.
"""
_CLOSE_LIMIT_S = 5.0
_GONE = (OSError, EOFError)


def read_lengths(prefix: bytes, most: Allowance) -> tuple[int, int]:
    """Header and payload length from a frame's first 8 bytes.

    Raises:
        MalformedError: beyond what is allowed.
    """
    header, payload = PREFIX.unpack(prefix)
    if header > most.header:
        raise MalformedError(f"a frame header of {header} bytes where {most.header} are allowed", code="too-long")
    if payload > most.payload:
        raise MalformedError(f"a frame payload of {payload} bytes where {most.payload} are allowed", code="too-long")
    return header, payload


class Link:
    """Frames to and from the peer that `public_key` names, proven in the handshake. Any number of tasks may send."""

    def __init__(
        self,
        public_key: bytes,
        stream: TlsSocket,
        max_payload: int,
        budget: ReceiveBudget,
        *,
        on_closed: Callable[[Link], None],
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.since_s = now
        """When it was made, on the loop's clock."""
        self.heard_s = now
        """When its last frame came."""
        self.trip_s: float | None = None
        """Seconds to the peer and back, where this side dialled and the system told."""
        self._public_key = public_key
        self._stream = stream
        self._max_payload = max_payload
        self._on_closed = on_closed
        self._allowance: Callable[[], Allowance] = lambda: STRANGER
        self._admitted = LinkRank.STRANGER
        """What the peer had here when its last frame began."""
        self._unsent: asyncio.Task[None] | None = None
        """Sends the rest of a frame that has begun."""
        self._receiving = asyncio.Lock()
        self._budget = budget
        self._arriving = _Arriving(stream, public_key, budget)
        self._pace = Pace(_STRANGERS_FRAMES_PER_S, _STRANGERS_FRAMES_AT_ONCE, now)
        self._malformed = False
        self._closed = asyncio.Event()
        self._unanswered_s: float | None = None
        """Since when nothing gets through, on the loop's clock."""

    @property
    def public_key(self) -> bytes:
        """The peer's 33-byte public key."""
        return self._public_key

    @property
    def rank(self) -> LinkRank:
        """What its peer has here now."""
        return self._allowance().rank

    def allow(self, allowance: Callable[[], Allowance]) -> None:
        """Say what the peer may send; asked again for each frame, before its bytes are taken in. At first `STRANGER`.

        Never more than every link carries.
        """
        self._allowance = allowance

    async def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        """Send one frame; waits while the peer does not read. The payload must not change before it returns.

        A cancelled call has sent the whole frame or none of it; which of the two is not known.

        Raises:
            LocalError: longer than the link carries.
            LostPeerError: the connection is gone.
        """
        while self._unsent is not None:
            await asyncio.wait([self._unsent])
        rest = self._begin(header, payload)
        if rest is not None:
            await asyncio.shield(rest)

    def put(self, header: bytes, payload: bytes | memoryview = b"") -> bool:
        """Send one frame without waiting: whether it is on its way; not where one before it waits for the peer.

        Raises as `send` does.
        """
        if self._unsent is not None:
            return False
        self._begin(header, payload)
        return True

    def _begin(self, header: bytes, payload: bytes | memoryview) -> asyncio.Task[None] | None:
        """Send a frame as far as the peer takes it; what sends the rest, where there is one, whoever waits for it."""
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        if len(header) > MAX_HEADER_BYTES or size > self._max_payload:
            raise LocalError(f"a frame of {len(header)} and {size} bytes is too long for a link", code="too-long")
        pieces = _pieces(PREFIX.pack(len(header), size) + header, payload, size)
        first = next(pieces)
        try:
            sent = self._stream.put(first)
        except _GONE as error:  # what the peer sent before, its reason perhaps, can still be received
            raise LostPeerError(f"the link ended ({_describe(error)})") from None
        if sent and size <= _SLICE_BYTES:
            return None
        self._unsent = asyncio.create_task(self._send_rest(None if sent else first, pieces))
        self._unsent.add_done_callback(self._all_sent)
        return self._unsent

    async def receive(self) -> tuple[bytes, bytes]:
        """The next frame's header and payload. A cancelled call loses nothing.

        Raises:
            LostPeerError: the end of the connection, wherever it comes; a frame that takes longer than it may.
            MalformedError: lengths beyond the limits; the link is closed.
        """
        async with self._receiving:
            if self._malformed:
                raise LostPeerError("the link ended (bytes that are no frame)")
            try:
                frame = await self._arriving.frame(self._admit, ahead=self._admitted is not LinkRank.STRANGER)
            except MalformedError:
                self._malformed = True  # what follows is no frame either
                self.abort()
                raise
            except TimeoutError:
                self.abort()
                raise LostPeerError("the link ended (a frame took too long)") from None
            except _GONE as error:
                self.abort()
                raise LostPeerError(f"the link ended ({_describe(error)})") from None
        self._budget.strangers.leave(self)
        self.heard_s = asyncio.get_running_loop().time()
        return frame

    async def _admit(self, prefix: bytes) -> tuple[int, int]:
        allowed = self._allowance()
        self._admitted = allowed.rank
        if allowed.header > MAX_HEADER_BYTES or allowed.payload > self._max_payload:
            header, payload = min(allowed.header, MAX_HEADER_BYTES), min(allowed.payload, self._max_payload)
            allowed = Allowance(header=header, payload=payload, rank=allowed.rank)
        lengths = read_lengths(prefix, allowed)
        if allowed.rank is LinkRank.STRANGER and (pause_s := self._pace.take(asyncio.get_running_loop().time())):
            await asyncio.sleep(pause_s)
        if allowed.rank is LinkRank.STRANGER and lengths[1] > STRANGER.payload:
            self._budget.strangers.enter(self, lengths[1], self.abort)
        return lengths

    async def close(self) -> None:
        """Close; what was sent before is still delivered, unless the peer does not take it within seconds."""
        with contextlib.suppress(TimeoutError, *_GONE):
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                while self._unsent is not None:
                    await asyncio.wait([self._unsent])
                await self._stream.goodbye()
        self.abort()

    def end_if_cut_off(self, now: float) -> None:
        """Drop the connection where nothing has got through for `UNANSWERED_S`, to be asked every second or so.

        Not where the peer lives and takes nothing: that is its frame's time, and its owner's matter.
        """
        if not self._stream.is_unanswered:
            self._unanswered_s = None
        elif self._unanswered_s is None:
            self._unanswered_s = now
        elif now - self._unanswered_s >= UNANSWERED_S:
            self.abort("nothing gets through")

    def abort(self, why: str = CLOSED_HERE) -> None:
        """Drop the connection at once; whoever waits hears why."""
        self._stream.abort(why)
        self._arriving.drop()
        self._budget.strangers.leave(self)
        if not self._closed.is_set():
            self._closed.set()
            self._on_closed(self)

    async def wait_closed(self) -> None:
        """Return once the link has been closed or found lost on this side."""
        await self._closed.wait()

    async def _send_rest(self, blocked: bytes | memoryview | None, pieces: Iterator[bytes | memoryview]) -> None:
        try:
            if blocked is not None:
                await self._put(blocked)
            for piece in pieces:
                await self._put(piece)
                await asyncio.sleep(0)
        except _GONE as error:
            raise LostPeerError(f"the link ended ({_describe(error)})") from None

    async def _put(self, data: bytes | memoryview) -> None:
        while not self._stream.put(data):
            await self._stream.writable()

    def _all_sent(self, task: asyncio.Task[None]) -> None:
        self._unsent = None
        if not task.cancelled():
            task.exception()  # its sender may have been cancelled; nobody else needs it


class _Arriving:
    """The frame that is on its way in; what has come of it stays when whoever waits for it is cancelled."""

    def __init__(self, stream: TlsSocket, peer: bytes, budget: ReceiveBudget) -> None:
        self._stream = stream
        self._peer = peer
        self._budget = budget
        self._held = 0
        """Bytes of the budget."""
        self._lengths: tuple[int, int] | None = None
        self._buffer = bytearray(PREFIX.size)
        self._filled = 0
        self._ahead = b""
        """Read, and of no frame yet that has begun."""
        self._dry = False
        """Whether the last read took all that there was."""
        self._ended = False
        """Whether the peer has said that nothing follows."""
        self._due_s: float | None = None
        """When it has to be here, on the loop's clock; None before its first byte."""
        self._unbroken = 0
        """Bytes since the last wait."""

    async def frame(self, admit: Callable[[bytes], Awaitable[tuple[int, int]]], *, ahead: bool) -> tuple[bytes, bytes]:
        """Header and payload. Raises OSError, EOFError, TimeoutError.

        Args:
            admit: has the lengths from the first bytes.
            ahead: whether to read what there is, not only what the frame still lacks.
        """
        if self._lengths is None:
            if self._filled < PREFIX.size:
                await self._fill(ahead)
            lengths = header, payload = await admit(bytes(self._buffer))
            if payload <= SMALL_BYTES and len(self._ahead) >= header + payload:
                await self._rest(header + payload)
                return self._cut_off(header, header + payload)
            await self._make_room(*lengths)
            self._lengths = lengths
        await self._fill(ahead)
        header, frame = self._lengths[0], memoryview(self._buffer)
        found = bytes(frame[:header]), bytes(frame[header:])
        frame.release()
        self._forget()
        return found

    def _cut_off(self, header: int, size: int) -> tuple[bytes, bytes]:
        """A frame that came in one read."""
        ahead, self._ahead = self._ahead, self._ahead[size:]
        self._forget()
        return ahead[:header], ahead[header:size]

    def drop(self) -> None:
        """Forget what has come."""
        self._ahead = b""
        self._forget()

    def _forget(self) -> None:
        """Begin with another frame."""
        self._buffer, self._filled, self._lengths, self._due_s = bytearray(PREFIX.size), 0, None, None
        if self._held:
            held, self._held = self._held, 0
            self._budget.give(self._peer, held)

    async def _make_room(self, header: int, payload: int) -> None:
        if payload > SMALL_BYTES:
            await self._budget.take(self._peer, payload)
            self._held = payload
        self._buffer, self._filled = bytearray(header + payload), 0
        self._due_s = asyncio.get_running_loop().time() + FRAME_S + payload / LEAST_RATE

    async def _fill(self, ahead: bool) -> None:
        while (lacking := len(self._buffer) - self._filled) > 0:
            ahead = ahead and lacking < _READ_BYTES
            if self._ahead:
                piece, self._ahead = self._ahead[:lacking], self._ahead[lacking:]
                self._buffer[self._filled : self._filled + len(piece)] = piece
                await self._took(len(piece))
            elif self._ended:
                raise EOFError("end of stream")
            elif ahead:
                if self._dry or not self._read_ahead():
                    await self._more(self._read_ahead)
            elif (count := self._read_into()) is None:
                await self._more(lambda: True)
            elif count:
                await self._took(count)
            else:
                self._ended = True

    def _read_into(self) -> int | None:
        """How many bytes there were, 0 at the end, None where there are none yet."""
        with memoryview(self._buffer) as view, view[self._filled :] as rest:
            return self._stream.read_into(rest)

    def _read_ahead(self) -> bool:
        """Whether there was anything, the end included."""
        found = self._stream.read(_READ_BYTES)
        if found is None:
            return False
        # TLS hands out one record at a time: after a short one there is nothing that the system would not tell of.
        self._ahead, self._ended, self._dry = found, not found, len(found) < _READ_BYTES
        return True

    async def _more(self, done: Callable[[], bool]) -> None:
        self._unbroken, self._dry = 0, False
        if self._due_s is None:
            await self._stream.readable(done)
        else:
            async with asyncio.timeout_at(self._due_s):
                await self._stream.readable(done)

    async def _took(self, count: int) -> None:
        self._filled += count
        if self._due_s is None:
            self._due_s = asyncio.get_running_loop().time() + FRAME_S
        await self._rest(count)

    async def _rest(self, count: int) -> None:
        """After many bytes, others have their turn."""
        self._unbroken += max(count, _TURN_BYTES)
        if self._unbroken > _SLICE_BYTES:
            self._unbroken = 0
            await asyncio.sleep(0)


def _pieces(prefix: bytes, payload: bytes | memoryview, size: int) -> Iterator[bytes | memoryview]:
    """A frame in one piece if it is short, else in slices, so that other tasks get their turn in between."""
    if size <= _SLICE_BYTES:
        yield prefix + payload
        return
    yield prefix
    data = memoryview(payload).cast("B")
    for start in range(0, size, _SLICE_BYTES):
        yield data[start : start + _SLICE_BYTES]


def _describe(error: BaseException) -> str:
    return str(error) or type(error).__name__
