"""The data plane: direct TLS 1.3 connections between peers that prove the same keys as on libp2p.

Trust: anyone may connect and prove some key; who that is, and what it may send, is for `on_link` to judge. Before a
key is proven, connections are few, short and cost no more than a handshake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from node.p2p.address import data_address, parse_data_address
from node.p2p.certificate import authenticate, client_context, new_certificate, server_context
from node.p2p.link import MAX_PAYLOAD_BYTES, READ_BUFFER_BYTES, Link
from protocol.errors import JoulemeshError, ListenError, PeerError, SignatureError, UnreachableError
from protocol.names import DATA_ALPN

__all__ = ["DataPlane", "Link", "OnLink"]

OnLink = Callable[[Link], Awaitable[None]]
"""Serves an incoming link; the link is closed when it returns or raises."""

log = logging.getLogger(__name__)

T = TypeVar("T", str, bytes)

_BACKLOG = 128
_MAX_HANDSHAKES = 128
_MAX_HANDSHAKES_PER_HOST = 32
_MAX_LINKS = 1024
_MAX_LINKS_PER_PEER = 32
_CLOSE_LIMIT_S = 1


class DataPlane:
    """Dials links, and accepts them once `listen` is called.

    Args:
        secret: 32 bytes, the peer's key.
        on_link: serves each incoming link in a task of its own.
        max_payload: bytes in one frame.
        handshake_s: limit for connecting, or for a caller to prove its key.
    """

    def __init__(
        self,
        secret: bytes,
        on_link: OnLink | None = None,
        *,
        max_payload: int = MAX_PAYLOAD_BYTES,
        handshake_s: float = 5.0,
    ) -> None:
        certificate, key = new_certificate(secret)
        self._server = server_context(certificate, key)
        self._client = client_context(certificate, key)
        self._on_link = on_link
        self._max_payload = max_payload
        self._handshake_s = handshake_s
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[Link] = set()
        self._handshakes: Counter[str] = Counter()
        self._incoming: Counter[bytes] = Counter()

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Accept links; returns the address with the real port, like "/ip4/127.0.0.1/tcp/4002/tls".

        Raises:
            ListenError: taken, or not an address of this machine.
        """
        if self._on_link is None or self._socket is not None:
            raise ListenError("a data plane listens once, and needs somebody to serve its links")
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setblocking(False)
        try:
            self._socket.bind((host, port))
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            self._socket = None
            raise ListenError(
                f"cannot listen on {host} port {port}: {error.strerror or error}",
                hint="choose another port, or stop what uses it",
            ) from None
        bound_host, bound_port, *_ = self._socket.getsockname()
        self._accepting = asyncio.create_task(self._accept(self._socket), name="data plane")
        return data_address(bound_host, bound_port)

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

    async def close(self) -> None:
        """Stop listening, close every link and end their tasks."""
        if self._accepting is not None:
            self._accepting.cancel()
        if self._socket is not None:
            self._socket.close()
        for link in tuple(self._links):
            link.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *([self._accepting] if self._accepting else []), return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, remote = await loop.sock_accept(listening)
            except OSError as error:  # out of file descriptors, most likely: others must end first
                log.warning("cannot accept a data link: %s", error)
                await asyncio.sleep(0.1)
                continue
            host = str(remote[0])
            if (
                self._handshakes.total() >= _MAX_HANDSHAKES
                or self._handshakes[host] >= _MAX_HANDSHAKES_PER_HOST
                or self._incoming.total() >= _MAX_LINKS
            ):
                connection.close()
                continue
            self._handshakes[host] += 1
            task = asyncio.create_task(self._serve(connection, host), name=f"data link from {host}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket, host: str) -> None:
        try:
            link = await self._greet(connection)
        except (PeerError, OSError, TimeoutError) as error:
            log.debug("refused a data link from %s: %s", host, error)
            return
        finally:
            _decrement(self._handshakes, host)
        self._incoming[link.public_key] += 1
        try:
            if self._incoming[link.public_key] <= _MAX_LINKS_PER_PEER and self._on_link is not None:
                await self._on_link(link)
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
        link = Link(public_key, reader, writer, self._max_payload)
        self._links.add(link)
        task = asyncio.create_task(self._forget(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return link

    async def _forget(self, link: Link) -> None:
        await link.wait_closed()
        self._links.discard(link)


def _peer_of(writer: asyncio.StreamWriter) -> bytes:
    connection = writer.get_extra_info("ssl_object")
    if not isinstance(connection, ssl.SSLObject) or connection.selected_alpn_protocol() != DATA_ALPN:
        raise SignatureError("the peer speaks another protocol")
    return authenticate(connection.getpeercert(binary_form=True))


def _decrement(counter: Counter[T], key: T) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
