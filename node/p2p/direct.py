"""The data plane: direct TLS 1.3 connections between peers that prove the same keys as on libp2p.

Trust: anyone may connect and prove some key; who that is, and what it may send, is for `on_link` to judge. Before a
key is proven, connections are few, short and cost no more than a handshake.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from node.p2p.address import data_address, parse_data_address
from node.p2p.certificate import authenticate, client_context, new_certificate, server_context
from node.p2p.link import MAX_PAYLOAD_BYTES, READ_BUFFER_BYTES, Link
from node.p2p.pace import Paces
from protocol.errors import JoulemeshError, ListenError, PeerError, SignatureError, UnreachableError
from protocol.names import DATA_ALPN

__all__ = ["DataPlane", "Link", "Listener", "OnLink"]

OnLink = Callable[[Link], Awaitable[None]]
"""Serves an incoming link; the link is closed when it returns or raises."""

log = logging.getLogger(__name__)

T = TypeVar("T", str, bytes)

_BACKLOG = 128
_MAX_HANDSHAKES = 128
_MAX_HANDSHAKES_PER_HOST = 32
_LINKS_PER_S = 20.0
"""New connections a second from one IP address in the long run."""
_LINKS_AT_ONCE = 200
_MAX_LINKS = 1024
_MAX_LINKS_PER_PEER = 32
_CLOSE_LIMIT_S = 1
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO, errno.EPERM}
"""Reasons for which one connection cannot be accepted, and a later one can."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that is bound and queues connections until `DataPlane.serve` takes them."""

    socket: socket.socket
    address: str
    """With the real port, like "/ip4/127.0.0.1/tcp/4002/tls"."""

    @classmethod
    @contextmanager
    def open(cls, host: str = "127.0.0.1", port: int = 0) -> Iterator[Listener]:
        """Bind, and give the port back when the block ends. Raises ListenError: taken, or not ours."""
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)
            try:
                listening.bind((host, port))
                listening.listen(_BACKLOG)
            except OSError as error:
                raise ListenError(
                    f"cannot listen on {host} port {port}: {error.strerror or error}",
                    hint="choose another port, or stop what uses it",
                ) from None
            bound_host, bound_port, *_ = listening.getsockname()
            yield cls(listening, data_address(bound_host, bound_port))


class DataPlane:
    """Dials links, and accepts them where `serve` runs. An async context manager: at its end every link is closed.

    Args:
        secret: 32 bytes, the peer's key.
        max_payload: bytes in one frame.
        handshake_s: limit for connecting, or for a caller to prove its key.
    """

    def __init__(self, secret: bytes, *, max_payload: int = MAX_PAYLOAD_BYTES, handshake_s: float = 5.0) -> None:
        certificate, key = new_certificate(secret)
        self._server = server_context(certificate, key)
        self._client = client_context(certificate, key)
        self._max_payload = max_payload
        self._handshake_s = handshake_s
        self._tasks: set[asyncio.Task[None]] = set()
        """One for each caller: its handshake, then its service. Each ends its own link, and says why."""
        self._links: set[Link] = set()
        self._handshakes: Counter[str] = Counter()
        self._incoming: Counter[bytes] = Counter()
        self._paces = Paces[str](_LINKS_PER_S, _LINKS_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self, address: str, expected_public_key: bytes) -> Link:
        """Dial, and make sure that the peer with this key answers.

        Raises:
            MalformedError: not a data plane address.
            UnreachableError: nobody answers in time.
            SignatureError: somebody else answers, or nobody who proves a key.
        """
        target = parse_data_address(address)
        try:
            async with asyncio.timeout(self._handshake_s):
                reader, writer = await asyncio.open_connection(
                    target.host,
                    target.port,
                    ssl=self._client,
                    server_hostname="",
                    limit=READ_BUFFER_BYTES,
                    ssl_shutdown_timeout=_CLOSE_LIMIT_S,
                )
        except TimeoutError:
            raise UnreachableError(f"no answer from {address} within {self._handshake_s:g} s") from None
        except ssl.SSLError as error:
            raise SignatureError(f"{address} does not prove who it is ({error.reason or error})") from None
        except OSError as error:
            raise UnreachableError(f"cannot connect to {address}: {error.strerror or error}") from None
        try:
            public_key = _peer_of(writer)
            if public_key != expected_public_key:
                raise SignatureError(f"another peer answers at {address}")
        except SignatureError:
            writer.transport.abort()
            raise
        return self._new_link(public_key, reader, writer)

    async def serve(self, listener: Listener, on_link: OnLink) -> NoReturn:
        """Accept links until cancelled, each served by `on_link` in a task of its own.

        Links that were accepted outlive it, until `close`: a node that stops still says goodbye on them.

        Raises:
            ListenError: nothing can be accepted any more.
        """
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, remote = await loop.sock_accept(listener.socket)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise ListenError(f"cannot accept data links any more: {error.strerror or error}") from None
                log.warning("cannot accept a data link: %s", error)
                await asyncio.sleep(0.1)
                continue
            host = str(remote[0])
            if not self._has_room_for(host):
                connection.close()
                continue
            self._handshakes[host] += 1
            task = asyncio.create_task(self._serve(connection, host, on_link), name=f"data link from {host}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close every link and end their tasks. Again does nothing."""
        for link in tuple(self._links):
            link.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _has_room_for(self, host: str) -> bool:
        return (
            self._handshakes.total() < _MAX_HANDSHAKES
            and self._handshakes[host] < _MAX_HANDSHAKES_PER_HOST
            and self._incoming.total() < _MAX_LINKS
            and self._paces.allows(host, asyncio.get_running_loop().time())
        )

    async def _serve(self, connection: socket.socket, host: str, on_link: OnLink) -> None:
        try:
            link = await self._greet(connection)
        except (PeerError, OSError, TimeoutError) as error:
            log.debug("refused a data link from %s: %s", host, error)
            return
        finally:
            _decrement(self._handshakes, host)
        self._incoming[link.public_key] += 1
        try:
            if self._incoming[link.public_key] <= _MAX_LINKS_PER_PEER:
                await on_link(link)
        except JoulemeshError as error:
            log.debug("a data link from %s ended: %s", host, error)
        except Exception:
            log.exception("the service of a data link from %s failed", host)
        finally:
            _decrement(self._incoming, link.public_key)
            await link.close()

    async def _greet(self, connection: socket.socket) -> Link:
        """Handshake with a caller, which has to prove a key."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=READ_BUFFER_BYTES, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        try:
            async with asyncio.timeout(self._handshake_s):
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, connection, ssl=self._server, ssl_shutdown_timeout=_CLOSE_LIMIT_S
                )
        except BaseException:
            connection.close()
            raise
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            return self._new_link(_peer_of(writer), reader, writer)
        except SignatureError:
            transport.abort()
            raise

    def _new_link(self, public_key: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Link:
        # asyncio sets TCP_NODELAY on every connection: small frames leave at once.
        link = Link(public_key, reader, writer, self._max_payload, on_closed=self._links.discard)
        self._links.add(link)
        return link


def _peer_of(writer: asyncio.StreamWriter) -> bytes:
    connection = writer.get_extra_info("ssl_object")
    if not isinstance(connection, ssl.SSLObject) or connection.selected_alpn_protocol() != DATA_ALPN:
        raise SignatureError("the peer speaks another protocol")
    return authenticate(connection.getpeercert(binary_form=True))


def _decrement(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
