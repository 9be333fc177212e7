"""The data plane: direct TLS 1.3 connections between peers that prove the same keys as on libp2p.

Trust: anyone may connect and prove some key; who that is, and what it may send, is for whoever serves the links to
judge. Before a key is proven connections are few, short, and cost no more than a handshake, which is computed away
from the event loop. A place that is needed is made: the least deserving leaves, and no newcomer is turned away.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import NoReturn, Self

from node.ip_group import origin_of
from node.p2p.address import data_address, parse_data_address
from node.p2p.budget import ReceiveBudget
from node.p2p.certificate import authenticate, client_context, new_certificate, server_context
from node.p2p.link import MAX_PAYLOAD_BYTES, Link
from node.p2p.link_places import MAX_HANDSHAKES, MAX_LINKS, Places, Waiting, share_out
from node.p2p.lobby import Lobby
from node.p2p.tcp_info import round_trip_s
from node.p2p.tls import TlsSocket
from node.p2p.turns import Stage, Turns
from node.ports import STRANGER, Allowance, LinkRank
from protocol.errors import JoulemeshError, ListenError, PeerError, SignatureError, UnreachableError
from protocol.names import DATA_ALPN

__all__ = ["Allowances", "DataPlane", "Link", "Listener", "OnLink"]

OnLink = Callable[[Link], Awaitable[None]]
"""Serves an incoming link; the link is closed when it returns or raises."""

Allowances = Callable[[bytes], Allowance]
"""What the peer with this public key may send now."""

log = logging.getLogger(__name__)

_DIALLED = replace(STRANGER, rank=LinkRank.KNOWN)
"""What a peer that was dialled may send, unless its link's owner says more."""
_BACKLOG = 1024
"""Connections that the system keeps until they are accepted."""
_CALLERS_A_TURN = 8
"""Connections that are accepted before those who are in have their turn."""
_FIRST_WORD_S = 3
"""A caller that says nothing is left to the system for so long, where it can: until then it is not even accepted."""
_SWEEP_S = 1.0
_PAUSE_S = 0.05
"""Before the next try to accept, where the last one failed and no guest could be let go."""
_QUIET_S = 10.0
"""Between two warnings."""
_MAX_PROVEN = 4096
_REDIALS_S = (0.05, 0.1, 0.4)
"""Pauses before a peer is dialled again that took the connection and dropped it: it may have needed the place.

Few, for its address is its own word: it may be somebody else's, who wants none of this.
"""
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO, errno.EPERM}
"""Reasons for which one connection cannot be accepted, and a later one can."""
_NO_DESCRIPTOR = {errno.EMFILE, errno.ENFILE}


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
            if hasattr(socket, "TCP_DEFER_ACCEPT"):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _FIRST_WORD_S)
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
        max_payload: bytes in one frame, whoever sends it.
        handshake_s: limit for connecting, or for a caller to prove its key.
        descriptors: how many its callers may take.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        max_payload: int = MAX_PAYLOAD_BYTES,
        handshake_s: float = 5.0,
        descriptors: int = MAX_LINKS + MAX_HANDSHAKES,
    ) -> None:
        certificate, key = new_certificate(secret)
        self._server = server_context(certificate, key)
        self._client = client_context(certificate, key)
        self._max_payload = max_payload
        self._handshake_s = handshake_s
        self._budget = ReceiveBudget()
        self._turns = Turns("handshakes")
        self._proven: OrderedDict[str, None] = OrderedDict()
        """Where links came from whose peers had a part in a session: they go first. Longest ago is forgotten first."""
        self._tasks: set[asyncio.Task[None]] = set()
        """One for each caller: its handshake, then its service. Each ends its own link, and says why."""
        self._links: set[Link] = set()
        self._looking: asyncio.TimerHandle | None = None
        """While there are links."""
        links, self._most_waiting = share_out(descriptors)
        self._places = Places(links)
        self._waiting = Waiting(self._most_waiting)
        self._quiet_until_s = 0.0

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
                stream, trip_s = await self._dial(target.host, target.port)
        except TimeoutError:
            raise UnreachableError(f"no answer from {address} within {self._handshake_s:g} s") from None
        except ssl.SSLError as error:
            raise SignatureError(f"{address} does not prove who it is ({error.reason or error})") from None
        except OSError as error:
            raise UnreachableError(f"cannot connect to {address}: {error.strerror or error}") from None
        try:
            public_key = _peer_of(stream)
            if public_key != expected_public_key:
                raise SignatureError(f"another peer answers at {address}")
        except SignatureError:
            stream.abort()
            raise
        link = self._new_link(public_key, stream)
        link.trip_s = trip_s
        link.allow(lambda: _DIALLED)
        return link

    async def serve(
        self, listener: Listener, on_link: OnLink, *, allowances: Allowances = lambda _public_key: STRANGER
    ) -> NoReturn:
        """Accept links until cancelled, each served by `on_link` in a task of its own.

        Links that were accepted outlive it, until `close`: a node that stops still says goodbye on them.

        Args:
            allowances: what callers may send, and whose links are kept where places run short.

        Raises:
            ListenError: nothing can be accepted any more.
        """
        lobby = Lobby(
            self._most_waiting,
            self._handshake_s,
            lambda connection, origin: self._take_in(connection, origin, on_link, allowances),
        )
        sweeping = asyncio.create_task(self._sweep(lobby), name="callers that have had their time")
        loop, called = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(listener.socket, called.set)
        try:
            while True:
                await called.wait()
                called.clear()  # and set again at the loop's next turn, where more are waiting
                if not self._accept_some(listener, lobby):
                    loop.remove_reader(listener.socket)
                    await asyncio.sleep(_PAUSE_S)
                    loop.add_reader(listener.socket, called.set)
        finally:
            loop.remove_reader(listener.socket)
            sweeping.cancel()
            lobby.close()

    def hang_up(self) -> None:
        """End every link: whoever still wants something dials again."""
        for link in tuple(self._links):
            link.abort()

    async def close(self) -> None:
        """Close every link and end their tasks. Again does nothing."""
        self.hang_up()
        if self._looking is not None:
            self._looking.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._turns.close()

    # Callers

    def _accept_some(self, listener: Listener, lobby: Lobby) -> bool:
        """Take callers in, and leave the rest for the next turn; False where there is no place. Raises ListenError."""
        for _ in range(_CALLERS_A_TURN):
            try:
                connection, remote = listener.socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in _PASSING:
                    raise ListenError(f"cannot accept data links any more: {error.strerror or error}") from None
                if error.errno not in _NO_DESCRIPTOR or not (lobby.let_go() or self._places.let_go_stranger()):
                    self._waiting.let_go()
                    self._warn(f"cannot accept a data link: {error.strerror or error}")
                    return False
                break  # the descriptor of who leaves may be free at the next turn
            connection.setblocking(False)
            lobby.add(connection, origin_of(str(remote[0])))
        return True

    def _warn(self, text: str) -> None:
        """Once in a while: whoever makes this happen should not fill the disk, too."""
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until_s:
            self._quiet_until_s = now + _QUIET_S
            log.warning("%s", text)

    def _take_in(self, connection: socket.socket, origin: str, on_link: OnLink, allowances: Allowances) -> None:
        work = self._serve(connection, origin, on_link, allowances)
        task = asyncio.create_task(work, name=f"data link from {origin}")
        self._waiting.add(task, origin)
        self._tasks.add(task)
        task.add_done_callback(partial(self._forget, connection))

    def _forget(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        connection.close()  # where the task was cancelled before it began

    async def _sweep(self, lobby: Lobby) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = asyncio.get_running_loop().time()
            lobby.sweep(now)
            self._places.sweep(now)

    async def _serve(self, connection: socket.socket, origin: str, on_link: OnLink, allowances: Allowances) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            async with asyncio.timeout(self._handshake_s):
                link = await self._greet(connection, origin)
        except (PeerError, OSError, TimeoutError) as error:
            log.debug("refused a data link from %s: %s", origin, error)
            return
        finally:
            self._waiting.discard(task, origin)
        link.allow(partial(allowances, link.public_key))
        self._places.add(link, origin)
        if link.rank is not LinkRank.STRANGER:
            self._remember(origin)
        try:
            await on_link(link)
        except JoulemeshError as error:
            log.debug("a data link from %s ended: %s", origin, error)
        except Exception:
            log.exception("the service of a data link from %s failed", origin)
        finally:
            self._places.discard(link)
            await link.close()

    def _remember(self, origin: str) -> None:
        self._proven[origin] = None
        self._proven.move_to_end(origin)
        if len(self._proven) > _MAX_PROVEN:
            self._proven.popitem(last=False)

    async def _greet(self, connection: socket.socket, origin: str) -> Link:
        """Handshake with a caller, which has to prove a key."""
        task = asyncio.current_task()
        assert task is not None
        begins = Stage.KNOWN if origin in self._proven else Stage.NEW

        async def perform(step: Callable[[], None], answered: bool) -> None:
            if not answered:
                await self._turns.run(step, begins)
                return
            self._waiting.answered(task, origin)
            try:
                await self._turns.run(step, Stage.ANSWERED)
            except ssl.SSLWantReadError:
                self._waiting.not_yet(task, origin)
                raise

        stream = TlsSocket(connection, self._server, server_side=True)
        try:
            await stream.handshake(perform)
            return self._new_link(await self._turns.run(partial(_peer_of, stream), Stage.ANSWERED), stream)
        except BaseException:
            stream.abort()
            raise

    # Both

    async def _dial(self, host: str, port: int) -> tuple[TlsSocket, float | None]:
        """A connection after its handshake, and how far its peer is. Raises OSError, ssl.SSLError."""
        for pause_s in _REDIALS_S:
            try:
                return await self._dial_once(host, port)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
                await asyncio.sleep(pause_s)
        return await self._dial_once(host, port)

    async def _dial_once(self, host: str, port: int) -> tuple[TlsSocket, float | None]:
        connection = await _connected(host, port)
        trip_s = round_trip_s(connection)
        stream = TlsSocket(connection, self._client, server_side=False)
        try:
            await stream.handshake(_at_once)
        except BaseException:
            stream.abort()
            raise
        return stream, trip_s

    def _new_link(self, public_key: bytes, stream: TlsSocket) -> Link:
        link = Link(public_key, stream, self._max_payload, self._budget, on_closed=self._links.discard)
        self._links.add(link)
        if self._looking is None:
            self._look()
        return link

    def _look(self) -> None:
        """End the links whose way is cut off, and look again while there are any."""
        loop = asyncio.get_running_loop()
        for link in tuple(self._links):
            link.end_if_cut_off(loop.time())
        self._looking = loop.call_later(_SWEEP_S, self._look) if self._links else None


async def _connected(host: str, port: int) -> socket.socket:
    """A connection to the first address of a host that takes one. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


async def _at_once(call: Callable[[], None], _answered: bool) -> None:
    call()


def _peer_of(stream: TlsSocket) -> bytes:
    if stream.protocol != DATA_ALPN:
        raise SignatureError("the peer speaks another protocol")
    return authenticate(stream.certificate)
