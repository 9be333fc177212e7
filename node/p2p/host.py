"""A libp2p host for asyncio: identity, connections, requests, gossip.

The libp2p half runs in the trio thread (`backend`); this facade belongs to the event loop that started it. It owns
every subscription and every handler task, and ends them when it closes. A host that dies says so in `wait_closed`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import trio

from node.p2p.address import check_announced, check_bindable, check_listen, check_peer_address
from node.p2p.backend import Backend
from node.p2p.bridge import Bridge
from node.p2p.gossip import DEFAULT_QUEUE, Subscription, admit_all, check_size
from node.p2p.lifetime import Lifetime
from node.p2p.names import looked_up
from node.p2p.pace import Pace, Paces
from node.p2p.places import Bounds
from node.p2p.requests import Service, ask
from node.p2p.runtime import TrioRuntime
from protocol.errors import JoulemeshError, LocalError, LostPeerError, RefusedError, UnreachableError
from protocol.identity.peer_id import peer_id_of, public_key_of
from protocol.identity.signing import SigningKey

__all__ = ["Handler", "P2PHost"]

Handler = Callable[[bytes, bytes], Awaitable[bytes]]
"""(the asker's 33-byte public key, the question) -> the answer. Raises JoulemeshError to refuse."""

log = logging.getLogger(__name__)

T = TypeVar("T")

_PING_LIMIT_S = 10.0
_MAX_HANDLERS = 256
_MAX_HANDLERS_PER_PEER = 32


class P2PHost:
    """One identity on the network; made by `open`."""

    def __init__(self, bridge: Bridge, life: Lifetime, backend: Backend, key: SigningKey, publish_rate: float) -> None:
        self.public_key: bytes = key.public_key
        self.peer_id: str = peer_id_of(key.public_key)
        self.addresses: tuple[str, ...] = backend.addresses
        """Multiaddrs with the real port and /p2p/ID, for others to connect to."""
        self._key = key
        self._bridge = bridge
        self._life = life
        self._backend = backend
        self._publish_rate = publish_rate
        self._paces: dict[str, Pace] = {}
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._busy: dict[bytes, int] = {}
        """Handlers running, for each asker."""
        life.when_ended(self._end_subscriptions)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        runtime: TrioRuntime,
        secret: bytes,
        listen: str = "/ip4/127.0.0.1/tcp/0",
        *,
        announce: Sequence[str] = (),
        publish_rate: float = 10.0,
        bounds: Bounds | None = None,
    ) -> AsyncIterator[Self]:
        """Listen, and close when the block ends.

        Args:
            runtime: the process's trio thread.
            secret: 32 bytes; also the party's signing key.
            listen: a TCP multiaddr, port 0 for any free one.
            announce: multiaddrs that others reach this host at, where they are not the ones it listens on.
            publish_rate: publications a second on each topic; more than that wait. Neighbours drop what comes faster.
            bounds: connections that others may hold; each takes a descriptor.

        Raises:
            ListenError: a malformed address, or one that is taken or not this machine's.
        """
        check_listen(listen)
        check_bindable(listen)
        for address in announce:
            check_announced(address)
        key = SigningKey(secret)
        bridge = Bridge(runtime)
        life = Lifetime(runtime, bridge)
        backend = await life.begin(secret, listen, announce, bounds or Bounds(), peer_id_of(key.public_key))
        try:
            yield cls(bridge, life, backend, key, publish_rate)
        finally:
            await life.close()

    async def close(self) -> None:
        """Close every connection, subscription and handler before the end of the block. Again does nothing."""
        await self._life.close()

    async def wait_closed(self) -> None:
        """Return once it was closed; raise LocalError (code `host-died`) if the host ends by itself."""
        await self._life.wait_ended()

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
                await self._call(self._backend.connect, await looked_up(address))
        except TimeoutError:
            raise UnreachableError(f"no answer from {address} within {timeout_s:g} s") from None
        return peer_id

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
        self,
        protocol: str,
        handler: Handler,
        *,
        max_request: int = 64 * 1024,
        at_once: int = _MAX_HANDLERS,
        at_once_of_peer: int = _MAX_HANDLERS_PER_PEER,
        timeout_s: float = 60.0,
        rate: float = 20.0,
        burst: int = 100,
    ) -> None:
        """Answer requests. What the handler raises of JoulemeshError is told to the asker; other errors are logged.

        One asker gets `burst` answers at once and `rate` a second in the long run; what is beyond is refused (code
        `busy`), and so is what it asks while `at_once_of_peer` of its answers are not made or not taken yet. Where
        `at_once` of all askers' are, the one that is being taken for longest is given up.

        Args:
            max_request: bytes of one question.
        """
        paces = Paces[bytes](rate, burst)

        async def answer(asker: bytes, question: bytes) -> bytes:
            if not paces.allows(asker, trio.current_time()):
                raise RefusedError("too many requests in a short time", code="busy")
            return await self._bridge.ask_asyncio(self._handle, protocol, handler, timeout_s, asker, question)

        service = Service(answer, max_request=max_request, at_once=at_once, at_once_of_peer=at_once_of_peer)
        self._bridge.post(self._backend.serve, protocol, service)

    async def ping(self, peer: str) -> int:
        """Round trip to a peer in microseconds, the shortest of a few. Raises UnreachableError, LostPeerError."""
        public_key_of(peer)
        try:
            async with asyncio.timeout(_PING_LIMIT_S):
                return await self._call(self._backend.ping, peer)
        except TimeoutError:
            raise LostPeerError(f"{peer} does not answer pings") from None

    async def time(self, public_key: bytes) -> int:
        """Microseconds that a connected peer takes to sign a nonce, the shortest of a few: it is no further away.

        Raises SignatureError, RefusedError, UnreachableError, LostPeerError.
        """
        peer = peer_id_of(public_key)
        try:
            async with asyncio.timeout(_PING_LIMIT_S):
                return await self._call(self._backend.time, peer, public_key)
        except TimeoutError:
            raise LostPeerError(f"{peer} does not answer challenges") from None

    def answer_challenges(self) -> None:
        """Let others time this host: sign their nonces with its key."""
        self._bridge.post(self._backend.answer_challenges, self._key)

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
        now = self._bridge.loop.time()
        pace = self._paces.setdefault(topic, Pace(self._publish_rate, max(1, int(self._publish_rate)), now))
        await asyncio.sleep(pace.take(now))
        await self._call(self._backend.publish, topic, data)

    async def subscribe(
        self,
        topic: str,
        validate: Callable[[bytes], T],
        *,
        admit: Callable[[bytes], None] = admit_all,
        queue: int = DEFAULT_QUEUE,
    ) -> Subscription[T]:
        """Join a topic and relay it; what `validate` makes of each message is what the subscription yields.

        `validate` raises PeerError for a message that is neither delivered nor relayed. It runs in the network thread,
        once for every message that arrives, so it must be quick and touch nothing that the event loop changes. `admit`
        is asked before, and raises PeerError for a message that is not worth the check of its sender's signature.

        Raises:
            LocalError: subscribed already.
        """
        if topic in self._subscriptions:
            raise LocalError(f"already subscribed to {topic}")
        subscription = Subscription[T](topic, self._bridge.loop, queue)
        self._subscriptions[topic] = subscription
        await self._call(self._backend.subscribe, topic, admit, validate, subscription.deliver)
        return subscription

    async def unsubscribe(self, subscription: Subscription[Any]) -> None:
        """Leave a topic; the subscription's iteration ends after what it holds."""
        if self._subscriptions.pop(subscription.topic, None) is subscription:
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

    def _end_subscriptions(self, failure: LocalError | None) -> None:
        for subscription in self._subscriptions.values():
            subscription.end(failure)
