"""Peers that name addresses, in the hope that a host dials them: a port of somebody's own, that counts who comes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
import trio
from libp2p import new_host as new_libp2p_host
from libp2p.crypto.secp256k1 import create_new_key_pair
from libp2p.peer.envelope import seal_record
from libp2p.peer.id import ID
from libp2p.peer.peer_record import PeerRecord
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils.varint import encode_varint_prefixed
from multiaddr import Multiaddr

from node.p2p.host import P2PHost

pytestmark = pytest.mark.asyncio

TOPIC = "test"
NewHost = Callable[..., Awaitable[P2PHost]]


class Victim:
    """A port that nobody has a reason to dial."""

    def __init__(self) -> None:
        self.visits = 0
        self.address = ""

    async def visited(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.close()


@pytest_asyncio.fixture
async def victim() -> AsyncIterator[Victim]:
    found = Victim()
    server = await asyncio.start_server(found.visited, "127.0.0.1", 0)
    async with server:
        found.address = f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}"
        yield found


async def in_own_thread(peer: Any, act: Callable[[Any], Awaitable[None]]) -> None:
    async def run() -> None:
        async with peer.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
            try:
                with trio.fail_after(20):
                    await act(peer)
            finally:
                await peer.close()

    await asyncio.to_thread(trio.run, run)


async def test_no_address_that_a_peer_names_is_dialled_or_kept(new_host: NewHost, victim: Victim) -> None:
    """By identify, by a signed record in gossip, and by the peers that a pruned one is told to connect to."""
    host = await new_host()
    heard = await host.subscribe(TOPIC, lambda data: data)
    keys = create_new_key_pair(os.urandom(32))
    named = create_new_key_pair(os.urandom(32))
    at_victim = [Multiaddr(victim.address)]
    named_id = ID.from_pubkey(named.public_key)
    record = seal_record(PeerRecord(named_id, at_victim), named.private_key).marshal_envelope()
    own_id = ID.from_pubkey(keys.public_key)
    own_record = seal_record(PeerRecord(own_id, at_victim), keys.private_key).marshal_envelope()

    px = rpc_pb2.PeerInfo(peerID=named_id.to_bytes(), signedPeerRecord=record)
    prune = rpc_pb2.ControlPrune(topicID=TOPIC, peers=[px])
    rpcs = [
        rpc_pb2.RPC(senderRecord=own_record),
        rpc_pb2.RPC(control=rpc_pb2.ControlMessage(prune=[prune])),
        rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)]),
    ]

    async def name(peer: Any) -> None:
        await peer.connect(info_from_p2p_addr(Multiaddr(host.addresses[0])))
        stream = await peer.new_stream(ID.from_base58(host.peer_id), [PROTOCOL_ID_V11])
        for rpc in rpcs:
            await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        while not host._backend.pubsub.listens(own_id):  # until the last of them has been read
            await trio.lowlevel.checkpoint()

    witness = await new_host()
    await witness.connect(host.addresses[0])
    await in_own_thread(new_libp2p_host(key_pair=keys, announce_addrs=at_victim), name)
    await witness.publish(TOPIC, b"witness")
    async with asyncio.timeout(10):
        assert await anext(heard) == b"witness"
    assert victim.visits == 0
    store = host._backend.host.get_peerstore()
    for peer_id in (own_id, named_id):
        assert peer_id not in store.peer_data_map or not store.addrs(peer_id)


async def test_the_connector_of_the_library_dials_nobody(new_host: NewHost, victim: Victim) -> None:
    host, other = await new_host(), await new_host()
    swarm = host._backend.host.get_network()
    swarm.peerstore.add_addrs(
        ID.from_pubkey(create_new_key_pair(os.urandom(32)).public_key), [Multiaddr(victim.address)], 60
    )
    await host.connect(other.addresses[0])
    await other.close()  # after which the library looks for others to connect to
    async with asyncio.timeout(10):
        while await host.peers():
            pass
    await host.connect((await new_host()).addresses[0])
    assert victim.visits == 0
