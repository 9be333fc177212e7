"""TLS on a non-blocking socket, for one task that reads and one that writes.

asyncio's own TLS transport keeps 256 KiB for each connection whatever the peer deserves, reads ahead by megabytes, and
leaves a failed handshake to the garbage collector, which in a process with a model comes by too rarely. Here a
connection that says nothing costs OpenSSL's state alone, bytes are taken out of the kernel only where somebody asks
for them, and what ends is freed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

from node.p2p.tcp_info import is_unanswered

__all__ = ["CLOSED_HERE", "Gate", "Perform", "TlsSocket", "hang_up"]

Perform = Callable[[Callable[[], None], bool], Awaitable[None]]
"""Runs a call that takes a millisecond of computing, here or in another thread; returns when it has returned.

The second argument tells whether the peer has answered since the call before.
"""

QUIET_S = 15
"""Seconds without a byte after which the other end is asked whether it is there."""
ASKED_EVERY_S = 5
"""Seconds from one such question to the next."""
_ASKED_AT_MOST = 6
"""Such questions without an answer, after which the system ends the connection by itself."""

CLOSED_HERE = "closed on this side"
_GOODBYE_S = 1.0
"""Seconds for a peer to take what was sent last, and to close in its turn."""
_DRAIN_BYTES = 64 * 1024


class Gate:
    """Waits until a descriptor can be read, or written; `shut` ends every wait.

    The loop goes on watching it after a wait, until it is ready and nobody waits: whoever reads one frame after another
    costs the system no call besides the reading.
    """

    def __init__(self, descriptor: int, *, write: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._add, self._remove = (
            (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
        )
        self._waiting: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._watched = False
        self._why_shut: str | None = None

    async def wait(self, done: Callable[[], bool] = lambda: True) -> None:
        """Return once the descriptor is ready and `done`, asked whenever it is, says so.

        What is read there and then, the system does not tell of a second time.

        Raises ConnectionAbortedError when the gate is shut, and what `done` raises.
        """
        if self._why_shut is not None:
            raise ConnectionAbortedError(self._why_shut)
        waiting = asyncio.get_running_loop().create_future()
        if not self._watched:
            self._watched = True
            self._add(self._descriptor, self._open)
        self._waiting[waiting] = done
        try:
            await waiting
        finally:
            self._waiting.pop(waiting, None)

    def shut(self, why: str = CLOSED_HERE) -> None:
        """End every wait, before the descriptor is closed, and say why."""
        if self._why_shut is not None:
            return
        self._why_shut = why
        self._unwatch()
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(ConnectionAbortedError(why))

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._remove(self._descriptor)

    def _open(self) -> None:
        if not self._waiting:
            self._unwatch()
        for waiting, done in self._waiting.items():
            try:
                if not waiting.done() and done():
                    waiting.set_result(None)
            except Exception as error:  # noqa: BLE001 - raised again where it is awaited
                waiting.set_exception(error)


def _notice_silence(raw: socket.socket) -> None:
    """Let the system ask a peer that says nothing whether it is there; see `TlsSocket.is_unanswered`."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", QUIET_S),
        ("TCP_KEEPINTVL", ASKED_EVERY_S),
        ("TCP_KEEPCNT", _ASKED_AT_MOST),
    ):
        if (option := getattr(socket, name, None)) is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)


class TlsSocket:
    """A connection that takes over a connected, non-blocking socket, and closes it with `abort`."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # small frames leave at once
            _notice_silence(raw)
        self._socket = context.wrap_socket(raw, server_side=server_side, do_handshake_on_connect=False)
        self._can_read = self._read_on = Gate(self._socket.fileno())
        self._can_write = self._write_on = Gate(self._socket.fileno(), write=True)
        self._why_ended: str | None = None

    async def handshake(self, perform: Perform) -> None:
        """Raises ssl.SSLError, OSError. The socket must not be closed before it returns, `perform` may be using it."""
        answered = False
        while True:
            try:
                await perform(self._socket.do_handshake, answered)
                return
            except ssl.SSLWantReadError:
                gate = self._can_read
            except ssl.SSLWantWriteError:
                gate = self._can_write
            await gate.wait()
            answered = True

    @property
    def protocol(self) -> str | None:
        """What ALPN settled on."""
        return self._socket.selected_alpn_protocol()

    @property
    def certificate(self) -> bytes | None:
        """The peer's, in DER."""
        return self._socket.getpeercert(binary_form=True)

    @property
    def is_unanswered(self) -> bool:
        """Whether what was sent, or asked, has had to be sent again and nothing came back: the way may be cut.

        Never where the peer lives and takes nothing, for its system answers each question about its window. Known where
        the system tells.
        """
        return self._why_ended is None and is_unanswered(self._socket)

    def read_into(self, buffer: memoryview) -> int | None:
        """How many bytes there were; 0 at the end, None where `readable` has to be awaited. Raises OSError."""
        self._check()
        try:
            return self._socket.recv_into(buffer)
        except ssl.SSLWantReadError:
            self._read_on = self._can_read
        except ssl.SSLWantWriteError:
            self._read_on = self._can_write
        return None

    def read(self, most: int) -> bytes | None:
        """What there is, at most so many bytes; none at the end, None where `readable` has to be awaited.

        Raises OSError.
        """
        self._check()
        try:
            return self._socket.recv(most)
        except ssl.SSLWantReadError:
            self._read_on = self._can_read
        except ssl.SSLWantWriteError:
            self._read_on = self._can_write
        return None

    def put(self, data: bytes | memoryview) -> bool:
        """Whether all of it was sent. Else await `writable` and call again, with the same bytes. Raises OSError."""
        self._check()
        if not len(data):
            return True
        try:
            self._socket.send(data)
        except ssl.SSLWantWriteError:
            self._write_on = self._can_write
        except ssl.SSLWantReadError:
            self._write_on = self._can_read
        else:
            return True
        return False

    async def readable(self, done: Callable[[], bool] = lambda: True) -> None:
        """Wait for what the last read lacked, and until `done` (`Gate.wait`). Raises OSError."""
        gate = self._read_on
        await gate.wait(lambda: done() or self._read_on is not gate)

    async def writable(self) -> None:
        """Wait for what the last `put` lacked. Raises ConnectionAbortedError."""
        await self._write_on.wait()

    async def goodbye(self) -> None:
        """Say that nothing more comes, and give the peer a moment to take what was sent. Nothing works after it.

        Without it, bytes that are still unread here would make the operating system take back what the peer has not
        read yet. Raises OSError, TimeoutError.
        """
        self._check()
        self._why_ended = CLOSED_HERE
        with contextlib.suppress(ssl.SSLError):  # nobody waits for the peer's own word: its end of the stream will do
            self._socket.unwrap()
        self._socket.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_GOODBYE_S):
            while True:
                try:
                    if not self._socket.recv(_DRAIN_BYTES):
                        return
                    await asyncio.sleep(0)
                except BlockingIOError:
                    await self._can_read.wait()

    def abort(self, why: str = CLOSED_HERE) -> None:
        """Close at once; who waits hears of it, and why. Again does nothing."""
        self._why_ended = self._why_ended or why
        self._can_read.shut(why)
        self._can_write.shut(why)
        hang_up(self._socket)

    def _check(self) -> None:
        if self._why_ended is not None:  # an unwrapped SSLSocket would send in the clear
            raise ConnectionAbortedError(self._why_ended)


def hang_up(connection: socket.socket) -> None:
    """Close, so that what was sent last, such as TLS's own reason for a refusal, is not taken back. Never waits."""
    with contextlib.suppress(OSError, ValueError):
        socket.socket.recv(connection, _DRAIN_BYTES)
    connection.close()
