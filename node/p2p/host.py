"""A libp2p host for asyncio: identity, connections, requests, gossip.

The libp2p half runs in the trio thread (`backend`); this facade belongs to the event loop that started it. It owns
every subscription and every handler task, and ends them when it closes. A host that dies says so in `wait_closed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from node.p2p.address import check_announced, check_bindable, check_listen, check_peer_address
from node.p2p.backend import Backend
from node.p2p.bridge import Bridge
from node.p2p.gossip import DEFAULT_QUEUE, Pace, Subscription, check_size
from node.p2p.identity import peer_id_of, public_key_of
from node.p2p.requests import ask
from node.p2p.runtime import TrioRuntime
from protocol.errors import JoulemeshError, LocalError, LostPeerError, PeerError, RefusedError, UnreachableError
from protocol.signing import SigningKey

__all__ = ["Handler", "P2PHost"]

Handler = Callable[[bytes, bytes], Awaitable[bytes]]
"""(the asker's 33-byte public key, the question) -> the answer. Raises JoulemeshError to refuse."""

log = logging.getLogger(__name__)

T = TypeVar("T")

_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 10.0
_PING_LIMIT_S = 10.0
_MAX_HANDLERS = 256
_MAX_HANDLERS_PER_PEER = 32


class P2PHost:
    """One identity on the network.

    Args:
        runtime: the process's trio thread, running.
        secret: 32 bytes; also the party's signing key.
        listen: a TCP multiaddr, port 0 for any free one.
        announce: multiaddrs that others reach this host at, where they are not the ones it listens on.
        publish_rate: publications a second on each topic; more than that wait. Neighbours drop what comes faster.
    """

    def __init__(
        self,
        runtime: TrioRuntime,
        secret: bytes,
        listen: str = "/ip4/127.0.0.1/tcp/0",
        *,
        announce: Sequence[str] = (),
        publish_rate: float = 10.0,
    ) -> None:
        self.public_key: bytes = SigningKey(secret).public_key
        self.peer_id: str = peer_id_of(self.public_key)
        self._runtime = runtime
        self._secret = secret
        self._listen = listen
        self._announce = tuple(announce)
        self._publish_rate = publish_rate
        self._paces: dict[str, Pace] = {}
        self._validators: dict[str, Callable[[bytes], None]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._busy: dict[bytes, int] = {}
        """Handlers running, for each asker."""
        self._addresses: list[str] = []
        self._started = False
        self._closing = False
        self._failure: LocalError | None = None

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def addresses(self) -> list[str]:
        """Multiaddrs with the real port and /p2p/ID, for others to connect to."""
        return list(self._addresses)

    async def start(self) -> Self:
        """Listen.

        Raises:
            ListenError: a malformed address, or one that is taken or not this machine's.
        """
        check_listen(self._listen)
        check_bindable(self._listen)
        for address in self._announce:
            check_announced(address)
        self._bridge = Bridge(self._runtime)
        self._ready: asyncio.Future[list[str]] = self._bridge.loop.create_future()
        self._ended = asyncio.Event()
        self._backend = Backend(self._secret, self._listen, self._announce)
        self._runtime.spawn(self._run_backend, name=f"libp2p host {self.peer_id}")
        self._started = True
        try:
            async with asyncio.timeout(_START_LIMIT_S):
                self._addresses = await self._ready
        except TimeoutError:
            await self.close()
            raise LocalError("the libp2p host did not start in time") from None
        except asyncio.CancelledError:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Close every connection, subscription and handler. Does nothing when done before."""
        self._closing = True
        if not self._started:
            return
        await self._bridge.close(LocalError("the host is closed", code="closed"))
        self._runtime.post(self._backend.stop)
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await self._ended.wait()
        except TimeoutError:
            log.warning("the libp2p host of %s did not close in time", self.peer_id)

    async def wait_closed(self) -> None:
        """Return once `close` has been called; raise LocalError (code `host-died`) if the host ends by itself."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def connect(self, address: str, *, timeout_s: float = 10.0) -> str:
        """Connect to a multiaddr that ends in /p2p/ID; returns the peer id.

        Raises:
            MalformedError: not such an address.
            UnreachableError: nobody answers in time, or nobody who speaks the same.
            SignatureError: another peer answers.
        """
        peer_id = check_peer_address(address)
        if peer_id == self.peer_id:
            raise UnreachableError(f"{address} is this host itself")
        try:
            async with asyncio.timeout(timeout_s):
                await self._call(self._backend.connect, address)
        except TimeoutError:
            raise UnreachableError(f"no answer from {address} within {timeout_s:g} s") from None
        return peer_id

    async def stay_connected(self, address: str, *, retry_s: float = 5.0) -> None:
        """Keep a connection to a multiaddr, for ever: reconnect when it is lost, try again while nobody answers.

        Raises:
            MalformedError: not such an address.
            LocalError: the host has ended.
        """
        peer_id = check_peer_address(address)
        while True:
            if peer_id not in await self.peers():
                try:
                    await self.connect(address)
                except (UnreachableError, PeerError) as error:
                    log.info("%s; trying again in %g s", error.message, retry_s)
            await asyncio.sleep(retry_s)

    async def request(
        self, peer: str, protocol: str, data: bytes, *, timeout_s: float = 30.0, max_reply: int = 1024 * 1024
    ) -> bytes:
        """Ask a peer (by peer id) and return its answer.

        Raises:
            RefusedError: the peer refused, with its code; `no-such-protocol` when it does not serve this one.
            MalformedError: no peer id, or an answer longer than `max_reply`.
            UnreachableError: not connected, and no known address answers.
            LostPeerError: it went away, or gave no answer in time.
        """
        public_key_of(peer)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._call(ask, self._backend.host, peer, protocol, data, max_reply)
        except TimeoutError:
            raise LostPeerError(f"no answer from {peer} within {timeout_s:g} s") from None

    def serve(
        self, protocol: str, handler: Handler, *, max_request: int = 1024 * 1024, timeout_s: float = 60.0
    ) -> None:
        """Answer requests. What the handler raises of JoulemeshError is told to the asker; other errors are logged."""

        async def answer(asker: bytes, question: bytes) -> bytes:
            return await self._bridge.ask_asyncio(self._handle, protocol, handler, timeout_s, asker, question)

        self._runtime.post(self._backend.serve, protocol, answer, max_request)

    async def ping(self, peer: str) -> int:
        """Round trip to a peer in microseconds, the shortest of a few. Raises UnreachableError, LostPeerError."""
        public_key_of(peer)
        try:
            async with asyncio.timeout(_PING_LIMIT_S):
                return await self._call(self._backend.ping, peer)
        except TimeoutError:
            raise LostPeerError(f"{peer} does not answer pings") from None

    async def peers(self) -> list[str]:
        """Peer ids of the open connections."""

        async def read() -> list[str]:
            return self._backend.peers()

        return await self._call(read)

    async def publish(self, topic: str, data: bytes) -> None:
        """Publish, at the pace that neighbours accept; returns when it is on its way, which is no promise of arrival.

        Raises:
            LocalError: more than 64 KiB.
            PeerError: the topic's own validator refuses it.
        """
        check_size(data)
        if topic in self._validators:
            self._validators[topic](data)
        now = self._bridge.loop.time()
        pace = self._paces.setdefault(topic, Pace(self._publish_rate, max(1, int(self._publish_rate)), now))
        await asyncio.sleep(pace.take(now))
        await self._call(self._backend.publish, topic, data)

    async def subscribe(
        self, topic: str, validate: Callable[[bytes], None], *, queue: int = DEFAULT_QUEUE
    ) -> Subscription:
        """Join a topic and relay it.

        `validate` raises PeerError for a message that is neither delivered nor relayed. It runs in the network thread
        for every copy that arrives, so it must be quick and touch nothing that the event loop changes.

        Raises:
            LocalError: subscribed already.
        """
        if topic in self._subscriptions:
            raise LocalError(f"already subscribed to {topic}")
        subscription = Subscription(topic, self._bridge.loop, queue)
        self._subscriptions[topic] = subscription
        self._validators[topic] = validate
        await self._call(self._backend.subscribe, topic, validate, subscription.deliver)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Leave a topic; the subscription's iteration ends after what it holds."""
        if self._subscriptions.pop(subscription.topic, None) is subscription:
            self._validators.pop(subscription.topic, None)
            subscription.end(None)
            await self._call(self._backend.unsubscribe, subscription.topic)

    async def _call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        return await self._bridge.call(self._backend.nursery, function, *args)

    async def _handle(self, protocol: str, handler: Handler, timeout_s: float, asker: bytes, question: bytes) -> bytes:
        busy = self._busy.get(asker, 0)
        if busy >= _MAX_HANDLERS_PER_PEER or sum(self._busy.values()) >= _MAX_HANDLERS:
            raise RefusedError("too many requests at once", code="busy")
        self._busy[asker] = busy + 1
        try:
            async with asyncio.timeout(timeout_s):
                return await handler(asker, question)
        except JoulemeshError:
            raise
        except TimeoutError:
            raise RefusedError(f"no answer within {timeout_s:g} s", code="timeout") from None
        except Exception:
            log.exception("the handler of %s failed", protocol)
            raise RefusedError("the handler failed; its log says why", code="internal") from None
        finally:
            self._busy[asker] -= 1
            if not self._busy[asker]:
                del self._busy[asker]

    async def _run_backend(self) -> None:
        """In the trio thread, the host's one task there."""
        failure: BaseException | None = None
        ended = False
        try:
            await self._backend.run(lambda addresses: self._bridge.to_asyncio(self._set_ready, addresses))
            ended = True
        except Exception as error:  # noqa: BLE001 - the top of the host's task: `_finish` passes the reason on
            failure = error
            ended = True
        finally:
            if not ended:  # cancelled, with the whole trio run
                failure = LocalError(f"the network thread ended: {self._runtime.failure or 'it was stopped'}")
            self._bridge.to_asyncio(self._finish, failure)

    def _set_ready(self, addresses: list[str]) -> None:
        if not self._ready.done():
            self._ready.set_result(addresses)

    def _finish(self, error: BaseException | None) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None and not self._closing:
            text = error.message if isinstance(error, JoulemeshError) else f"{type(error).__name__}: {error}"
            self._failure = LocalError(f"the libp2p host died: {text}", code="host-died")
        if not self._ready.done():
            self._ready.set_exception(error if isinstance(error, LocalError) else LocalError(f"no host: {error}"))
        for subscription in self._subscriptions.values():
            subscription.end(self._failure)
        self._bridge.fail(self._failure or LocalError("the host is closed", code="closed"))
        self._ended.set()
