"""One libp2p host in the trio thread: TCP, Noise and Yamux only. It knows nothing of asyncio; `host` is its facade.

Trust: whoever connects is authenticated by Noise as the holder of a key, and nothing more. Bytes that make libp2p
raise cost the peer its stream, never the host.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self, TypeVar

import trio
from libp2p import new_host
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.config import ConnectionConfig
from libp2p.network.exceptions import SwarmException
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.rcmgr import ResourceLimits, ResourceManager
from libp2p.security.noise.exceptions import PeerIDMismatchesPubkey
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL
from libp2p.security.noise.transport import Transport as Noise
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from node.p2p.door import Door
from node.p2p.guests import StreamCount
from node.p2p.muxer import OnlyGuardedYamux
from node.p2p.places import Bounds
from node.p2p.pubsub import Admit, GuardedPubsub, new_router
from node.p2p.quiet import quiet_libp2p
from node.p2p.requests import Service, answer_stream, open_stream, reset
from node.p2p.succession import Succession
from node.p2p.timing import PING_BYTES, PING_PROTOCOL, answer_challenges, answer_pings, time_peer
from node.p2p.unasked import turn_off
from node.p2p.usage import Usage
from protocol.errors import (
    ListenError,
    LostPeerError,
    MalformedError,
    RefusedError,
    SignatureError,
    UnreachableError,
)
from protocol.identity.signing import SigningKey
from protocol.names import CHALLENGE_PROTOCOL

__all__ = ["Backend"]

log = logging.getLogger(__name__)

T = TypeVar("T")

quiet_libp2p()

_PING_ROUNDS = 3
_NO_LIMIT = 1_000_000
"""Of the library's own bounds, which refuse whoever comes last: `door` and `guests` have better ones."""
_NEGOTIATION_S = 5.0
"""For a peer that opens a stream to say what it speaks."""
_ADDRESS_TTL_S = 3600
_CLOSE_LIMIT_S = 3.0


class Backend:
    """A host that listens; made by `open`. Its methods are to be awaited in the trio thread while it is open."""

    def __init__(self, host: Any, pubsub: GuardedPubsub, usage: Usage, nursery: Any) -> None:
        self.addresses: tuple[str, ...] = tuple(str(address) for address in host.get_addrs())
        """Multiaddrs with the real port and /p2p/ID."""
        self.host = host
        self.pubsub = pubsub
        self.usage = usage
        self.nursery = nursery
        """Where tasks on behalf of this host belong."""

    @classmethod
    @asynccontextmanager
    async def open(cls, secret: bytes, listen: str, announce: Sequence[str], bounds: Bounds) -> AsyncIterator[Self]:
        """Listen, and close every connection when the block ends.

        Raises:
            ListenError: the address cannot be listened on.
        """
        host = _new_host(secret, Multiaddr(listen), [Multiaddr(address) for address in announce])
        router = new_router()
        pubsub = GuardedPubsub(host, router)
        usage = Usage(trio.current_time, pubsub.listens, pubsub.in_mesh)
        pubsub.on_delivery = usage.delivered
        door = Door(host.get_network(), usage, bounds)
        host.get_network()._handle_inbound_connection = door
        host.get_network().upgrader.muxer_multistream = OnlyGuardedYamux(door.welcome)
        async with host.run([Multiaddr(listen)]):
            try:
                if not host.get_transport_addrs():
                    raise ListenError(f"cannot listen on {listen}", hint="choose another address or port")
                async with background_trio_service(router), background_trio_service(pubsub):
                    await pubsub.wait_until_ready()
                    async with trio.open_nursery() as nursery:
                        host.get_network().register_notifee(Succession(nursery, pubsub))
                        nursery.start_soon(door.watch)
                        yield cls(host, pubsub, usage, nursery)
                        nursery.cancel_scope.cancel()
            finally:
                await _close(host, pubsub)

    async def connect(self, address: str) -> None:
        """Dial a multiaddr that ends in /p2p/ID, unless that peer is connected already and answers.

        Raises:
            UnreachableError: nobody answers there, or not with Noise and Yamux.
            SignatureError: another peer answers there.
        """
        peer = info_from_p2p_addr(Multiaddr(address))
        swarm = self.host.get_network()
        for connection in swarm.get_connections(peer.peer_id):
            if not connection.is_closed and await connection.muxed_conn.answers():
                return
        try:
            # Not `host.connect`: that waits a quarter of a second, prefers addresses from earlier and, after a
            # failure, does not try again for a minute.
            connection = await swarm.dial_addr(peer.addrs[0], peer.peer_id)
            await connection.event_started.wait()
        except SwarmException as error:
            causes = _causes(error)
            if any(isinstance(cause, PeerIDMismatchesPubkey) for cause in causes):
                raise SignatureError(f"another peer answers at {address}") from None
            reason = str(causes[-1]) or type(causes[-1]).__name__
            raise UnreachableError(f"cannot connect to {address}: {reason}", hint="check address and port") from None
        swarm.unblock_peer(peer.peer_id)
        swarm.peerstore.clear_addrs(peer.peer_id)
        swarm.peerstore.add_addrs(peer.peer_id, peer.addrs, _ADDRESS_TTL_S)

    def serve(self, protocol: str, service: Service) -> None:
        """Answer streams of a request protocol."""

        async def handle(stream: Any) -> None:
            await answer_stream(stream, service, self.usage)

        self.host.set_stream_handler(protocol, handle)

    async def ping(self, peer_id: str) -> int:
        """Round trip in microseconds, the shortest of a few. Raises UnreachableError, LostPeerError."""
        stream = await open_stream(self.host, peer_id, PING_PROTOCOL)
        try:
            return min([await _ping_once(stream) for _ in range(_PING_ROUNDS)])
        except (BaseLibp2pError, trio.TooSlowError) as error:
            raise LostPeerError(f"{peer_id} was lost: {type(error).__name__}") from None
        finally:
            await reset(stream)

    async def time(self, peer_id: str, public_key: bytes) -> int:
        """How long a peer takes to sign (`timing.time_peer`)."""
        return await time_peer(self.host, peer_id, public_key)

    def answer_challenges(self, key: SigningKey) -> None:
        """Sign the nonces of whoever times this host."""
        self.host.set_stream_handler(CHALLENGE_PROTOCOL, partial(answer_challenges, key=key))

    def peers(self) -> list[str]:
        """Peer ids of open connections."""
        return [str(peer_id) for peer_id in self.host.get_connected_peers()]

    async def subscribe(
        self, topic: str, admit: Admit, validate: Callable[[bytes], T], deliver: Callable[[bytes, T], None]
    ) -> None:
        """Join a topic; see `GuardedPubsub.join`."""
        await self.pubsub.join(topic, admit, validate, deliver)

    async def unsubscribe(self, topic: str) -> None:
        """Leave a topic."""
        await self.pubsub.leave(topic)

    async def publish(self, topic: str, data: bytes) -> None:
        """Sign and publish. Raises PeerError: the topic's own validator refuses it."""
        await self.pubsub.publish(topic, data)


def _new_host(secret: bytes, listen: Multiaddr, announce: list[Multiaddr]) -> Any:
    key_pair = create_new_key_pair(secret)
    noise_key = create_new_x25519_key_pair().private_key
    host = new_host(
        key_pair=key_pair,
        # The defaults also take /plaintext/2.0.0, over which anyone may claim to be anyone.
        sec_opt={NOISE_PROTOCOL: Noise(key_pair, noise_privkey=noise_key)},
        listen_addrs=[listen],
        connection_config=ConnectionConfig(
            max_connections=_NO_LIMIT,
            high_watermark=_NO_LIMIT,
            inbound_stream_protocol_negotiation_timeout=_NEGOTIATION_S,
        ),
        resource_manager=ResourceManager(
            limits=ResourceLimits(max_connections=_NO_LIMIT, max_streams=_NO_LIMIT),
            enable_memory_limits=False,  # they judge by the memory of the process, which holds a model
            enable_circuit_breaker=False,  # hostile connections could open it against honest ones
            enable_graceful_degradation=False,
            enable_rate_limiting=False,  # by peer, so that it remembers a thousand; `door` has others
            enable_metrics=False,
        ),
        announce_addrs=announce or None,
        disable_identify_address_discovery=True,
    )
    network = host.get_network()
    network.retry_config.max_retries = 0  # one dial is one dial: who counts them must know of each
    network.set_stream_handler(_guarded(network.common_stream_handler, StreamCount()))
    host.set_stream_handler(PING_PROTOCOL, answer_pings)
    turn_off(host)
    return host


async def _close(host: Any, pubsub: GuardedPubsub) -> None:
    # The library leaves the listening socket open when its service is cancelled, and closes one connection after
    # another, a quarter of a second each.
    with trio.move_on_after(_CLOSE_LIMIT_S) as scope:
        scope.shield = True
        async with trio.open_nursery() as nursery:
            for connection in host.get_network().get_connections():
                nursery.start_soon(connection.close)
        await host.close()
    pubsub.seen_messages.stop()  # a thread that sweeps a cache


def _guarded(handler: Callable[[Any], Awaitable[None]], count: StreamCount) -> Callable[[Any], Awaitable[None]]:
    """A stream handler whose errors end its stream; unguarded, they end every stream of the host."""

    async def handle(stream: Any) -> None:
        with count.opened(stream.muxed_conn.peer_id) as may:
            try:
                if not may:
                    raise RefusedError("too many streams", code="busy")
                await handler(stream)
            except Exception as error:  # noqa: BLE001 - the boundary of a task that a peer started
                log.debug("reset a stream of %s: %s %s", stream.muxed_conn.peer_id, type(error).__name__, error)
                await reset(stream)

    return handle


async def _ping_once(stream: Any) -> int:
    nonce = os.urandom(PING_BYTES)
    sent = time.perf_counter_ns()
    await stream.write(nonce)
    echo = b""
    while len(echo) < PING_BYTES:
        echo += await stream.read(PING_BYTES - len(echo))
    if echo != nonce:
        raise MalformedError("a ping came back changed")
    return (time.perf_counter_ns() - sent) // 1000


def _causes(error: BaseException) -> list[BaseException]:
    """An error and what caused it, innermost last; libp2p wraps each failure several times."""
    causes = [error]
    while len(causes) < 16:
        nested = getattr(causes[-1], "errors", None)  # of a MultiError
        inner = causes[-1].__cause__ or (nested[0] if nested else None)
        if inner is None:
            break
        causes.append(inner)
    return causes
