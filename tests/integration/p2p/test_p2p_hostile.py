"""Peers that break the rules: py-libp2p with its defaults in a thread of its own, or raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from libp2p import new_host as new_libp2p_host
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.network.stream.exceptions import StreamError
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr

from node.p2p import muxer
from protocol.errors import UnreachableError
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey

pytestmark = pytest.mark.asyncio

ECHO = "/test/echo/1"
TOPIC = "test"


async def echo(_asker: bytes, question: bytes) -> bytes:
    return question


async def in_own_thread(peer: Any, act: Callable[[Any], Awaitable[None]]) -> None:
    """Run a libp2p host in a trio run of its own while it acts."""

    async def run() -> None:
        async with peer.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            try:
                with trio.fail_after(20):
                    await act(peer)
            finally:
                await peer.close()

    await asyncio.to_thread(trio.run, run)


def plaintext_host(secret: bytes, claimed_public_key: Any) -> Any:
    """A host that offers only /plaintext/2.0.0, and says that its key is the claimed one."""
    keys = create_new_key_pair(secret)
    claimed = KeyPair(keys.private_key, claimed_public_key)
    return new_libp2p_host(key_pair=keys, sec_opt={PLAINTEXT_PROTOCOL_ID: InsecureTransport(claimed)})


async def test_no_account_is_kept_of_peers_that_have_gone(new_host):
    """The library's own, for a thousand of them; who may come how often is said at the door."""
    host = await new_host()
    assert host._backend.host.get_network()._resource_manager.connection_rate_limiter is None


async def test_a_plaintext_impersonator_cannot_connect(new_host):
    """The trap: libp2p's default host accepts /plaintext/2.0.0, where everyone is whom he claims to be."""
    host = await new_host()
    victim = create_new_key_pair(os.urandom(32)).public_key
    refused = []

    async def connect(peer: Any) -> None:
        try:
            await peer.connect(info_from_p2p_addr(Multiaddr(host.addresses[0])))
        except Exception as error:  # noqa: BLE001 - however libp2p puts it
            refused.append(error)

    await in_own_thread(plaintext_host(os.urandom(32), victim), connect)
    assert refused
    assert await host.peers() == []
    # The same peer is let in with Noise, as whom it is.
    honest = create_new_key_pair(os.urandom(32))
    seen = []

    async def connect_and_look(peer: Any) -> None:
        await connect(peer)
        seen.extend(await trio_call(host.peers))

    loop = asyncio.get_running_loop()

    async def trio_call(function: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(lambda: asyncio.run_coroutine_threadsafe(function(), loop).result())

    await in_own_thread(new_libp2p_host(key_pair=honest), connect_and_look)
    assert seen == [str(ID.from_pubkey(honest.public_key))]


async def test_a_plaintext_listener_is_not_connected_to(new_host):
    host = await new_host()
    secret = os.urandom(32)
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    done = trio.Event()
    token: list[Any] = []
    loop = asyncio.get_running_loop()

    async def wait(peer: Any) -> None:
        token.append(trio.lowlevel.current_trio_token())
        loop.call_soon_threadsafe(listening.set_result, str(peer.get_addrs()[0]))
        await done.wait()

    task = asyncio.create_task(in_own_thread(plaintext_host(secret, create_new_key_pair(secret).public_key), wait))
    address = await listening
    with pytest.raises(UnreachableError):
        await host.connect(address)
    token[0].run_sync_soon(done.set)
    await task


def garbage_rpcs() -> list[bytes]:
    """Gossip streams that make an unguarded libp2p raise."""
    somebody = ID.from_pubkey(create_new_key_pair(os.urandom(32)).public_key).to_bytes()
    foreign = rpc_pb2.Message(
        data=b"x", topicIDs=[TOPIC], from_id=b"\xff" * 40, seqno=b"1", key=b"\xff", signature=b"s"
    )
    unsigned = rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], from_id=somebody, seqno=b"1")
    forged = rpc_pb2.Message(data=b"x", topicIDs=[TOPIC], from_id=somebody, seqno=b"2", signature=b"\x30" * 70)
    control = rpc_pb2.ControlMessage()
    control.ihave.add(topicID=TOPIC, messageIDs=[b"not an id", b"('", b"(b'', 3)"])
    control.iwant.add(messageIDs=[b"not an id", b"__import__('os')"])
    return [
        encode_varint_prefixed(b"\xff\xff\xff garbage"),
        b"\xff" * 12,  # a length that never ends
        encode_varint_prefixed(rpc_pb2.RPC(publish=[foreign]).SerializeToString()),
        encode_varint_prefixed(rpc_pb2.RPC(publish=[unsigned, forged]).SerializeToString()),
        encode_varint_prefixed(rpc_pb2.RPC(control=control).SerializeToString()),
        encode_varint_prefixed(rpc_pb2.RPC(senderRecord=b"\x01\x02garbage").SerializeToString()),
    ]


async def test_garbage_on_its_streams_costs_the_peer_its_stream_only(new_host):
    host, honest = await new_host(), await new_host()
    heard = await host.subscribe(TOPIC, lambda data: data)
    host.serve(ECHO, echo, max_request=1000)
    await honest.connect(host.addresses[0])

    async def misbehave(peer: Any) -> None:
        await peer.connect(info_from_p2p_addr(Multiaddr(host.addresses[0])))
        for protocol, data in [
            *((PROTOCOL_ID_V11, rpc) for rpc in garbage_rpcs()),
            (ECHO, struct.pack(">I", 2**32 - 1) + b"more"),
            (ECHO, b"\x00\x00"),
            ("/ipfs/ping/1.0.0", b"short"),
        ]:
            stream = await peer.new_stream(ID.from_base58(host.peer_id), [protocol])
            await stream.write(data)
            await stream.close()
            with trio.move_on_after(0.3), contextlib.suppress(StreamError):
                while await stream.read(1000):
                    pass

    await in_own_thread(new_libp2p_host(key_pair=create_new_key_pair(os.urandom(32))), misbehave)
    assert await honest.request(host.peer_id, ECHO, b"alive") == b"alive"
    await honest.publish(TOPIC, b"and listening")
    async with asyncio.timeout(10):
        assert await anext(heard) == b"and listening"


async def test_yamux_frames_that_announce_gigabytes_end_the_connection(new_host):
    host = await new_host()
    host.serve(ECHO, echo)
    cut = []

    async def flood(peer: Any) -> None:
        await peer.connect(info_from_p2p_addr(Multiaddr(host.addresses[0])))
        stream = await peer.new_stream(ID.from_base58(host.peer_id), [ECHO])
        muxed = stream.muxed_conn
        header = struct.pack("!BBHII", 0, 0, 0, stream.muxed_stream.stream_id, 2**32 - 1)
        await muxed._write_frame(header + bytes(1000))
        await muxed.event_closed.wait()
        cut.append(True)

    await in_own_thread(new_libp2p_host(key_pair=create_new_key_pair(os.urandom(32))), flood)
    assert cut


async def test_what_lies_unread_is_bounded(new_host):
    """Streams whose handler does not read on: the peer sends all the same, beyond the windows it was given."""
    host = await new_host()
    go_on = asyncio.Event()

    async def wait(_asker: bytes, _question: bytes) -> bytes:
        await go_on.wait()
        return b""

    host.serve(ECHO, wait)
    unread, cut = [], []

    async def flood(peer: Any) -> None:
        await peer.connect(info_from_p2p_addr(Multiaddr(host.addresses[0])))
        stream = await peer.new_stream(ID.from_base58(host.peer_id), [ECHO])
        await stream.write(struct.pack(">I", 0))
        muxed = stream.muxed_conn
        header = struct.pack("!BBHII", 0, 0, 0, stream.muxed_stream.stream_id, 60_000)
        with contextlib.suppress(Exception):
            for _ in range(100):
                await muxed._write_frame(header + bytes(60_000))
        await muxed.event_closed.wait()
        cut.append(True)

    def most_unread() -> int:
        return max((each._theirs for each in muxer._open), default=0)

    flooding = asyncio.create_task(in_own_thread(new_libp2p_host(key_pair=create_new_key_pair(os.urandom(32))), flood))
    while not flooding.done():
        unread.append(most_unread())
        await host.peers()
    await flooding
    go_on.set()
    assert cut
    assert max(unread) <= 600_000


async def test_a_name_of_a_protocol_without_end(new_host):
    """Before any key is proven: a message of the negotiation may be said to have 2^60 bytes."""
    host = await new_host()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(host.addresses[0].split("/")[4]))
    writer.write(b"\x13/multistream/1.0.0\n" + b"\xff" * 8 + b"\x0f" + bytes(1000))
    async with asyncio.timeout(3):
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                pass
    writer.close()


async def test_garbage_on_the_socket(new_host):
    host, honest = await new_host(), await new_host()
    port = int(host.addresses[0].split("/")[4])
    for garbage in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4000), b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\xff"):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(garbage)
        writer.close()
    await honest.connect(host.addresses[0])
    assert await honest.ping(host.peer_id) > 0


async def test_a_peer_with_another_kind_of_key_gets_no_answer(new_host):
    """An Ed25519 peer is no party here: it may relay gossip, but has no key that could sign or be paid."""
    host = await new_host()
    asked = []

    async def remember(asker: bytes, _question: bytes) -> bytes:
        asked.append(asker)
        return b""

    host.serve(ECHO, remember)
    failed = []

    async def ask(peer: Any) -> None:
        await peer.connect(info_from_p2p_addr(Multiaddr(host.addresses[0])))
        try:
            stream = await peer.new_stream(ID.from_base58(host.peer_id), [ECHO])
            await stream.write(struct.pack(">I", 1) + b"x")
            await stream.read(100)
        except Exception as error:  # noqa: BLE001 - however libp2p puts it
            failed.append(error)

    await in_own_thread(new_libp2p_host(), ask)
    assert failed
    assert asked == []


async def test_peer_ids_agree_with_libp2p(new_host):
    for _ in range(20):
        secret = os.urandom(32)
        assert peer_id_of(SigningKey(secret).public_key) == str(ID.from_pubkey(create_new_key_pair(secret).public_key))
