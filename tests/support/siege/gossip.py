"""Throwaway peers that talk: hosts connected to everybody, who publish as fast as they please.

What is said by thousands is signed beforehand, and said in one RPC for each peer: so an attacker that has little of a
processor keeps its pace.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX

from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.errors import JoulemeshError
from siege.attack import Target

__all__ = ["RATE", "say_all", "signed", "talkers"]

RATE = 10_000.0
"""Publications a second that a hostile host allows itself."""


@asynccontextmanager
async def talkers(target: Target, count: int) -> AsyncIterator[list[P2PHost]]:
    """So many hosts, each connected to the ledger and to every node."""
    async with TrioRuntime.open() as runtime, AsyncExitStack() as stack:
        hosts = []
        for _ in range(count):
            opening = P2PHost.open(runtime, secrets.token_bytes(32), publish_rate=RATE)
            host = await stack.enter_async_context(opening)
            for address in (target.ledger_peer, *(node.peer for node in target.nodes)):
                with suppress(JoulemeshError):
                    await host.connect(address)
            if not await host.peers():
                raise RuntimeError("nobody lets the talkers in")
            hosts.append(host)
        yield hosts


def signed(host: P2PHost, topic: str, number: int, data: bytes) -> Any:
    """A message of gossip by a host, under a sequence number of its own."""
    pubsub = host._backend.pubsub
    said = rpc_pb2.Message(
        data=data,
        topicIDs=[topic],
        from_id=pubsub.my_id.to_bytes(),
        seqno=(pubsub.counter + number).to_bytes(8, "big"),
    )
    said.signature = pubsub.sign_key.sign(PUBSUB_SIGNING_PREFIX.encode() + said.SerializeToString())
    said.key = pubsub.host.get_public_key().serialize()
    return said


async def say_all(host: P2PHost, messages: Sequence[Any]) -> int:
    """Say these at once to every peer of a host; how many took them."""
    pubsub = host._backend.pubsub

    async def write() -> int:
        rpc = rpc_pb2.RPC(publish=messages)
        return sum([await pubsub.write_msg(stream, rpc) for stream in tuple(pubsub.peers.values())])

    return await host._call(write)
