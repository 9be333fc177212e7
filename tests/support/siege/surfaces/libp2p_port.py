"""Attacks on the libp2p ports of a node and of the ledger."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import struct
from contextlib import AsyncExitStack

import trio

from node.p2p.host import P2PHost
from node.p2p.requests import open_stream
from node.p2p.runtime import TrioRuntime
from protocol.errors import JoulemeshError
from protocol.names import ORDER_PROTOCOL
from siege.attack import Ground, Surface, attack
from siege.sockets import Place, Up, connect, flood, hold_open, place_of, until_cut

MULTISTREAM = b"\x13/multistream/1.0.0\n"
QUESTION_BYTES = 2**20
STREAMS_PER_KEY = 60
LOOK_S = 1.0
HTTP = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"


def _peer(ground: Ground, on: str) -> str:
    return ground.target.ledger_peer if on == "ledger" else ground.target.nodes[0].peer


async def _hold_plain(ground: Ground, place: Place, words: bytes) -> None:
    async def act(_number: int, up: Up) -> None:
        reader, writer = await connect(place)
        try:
            writer.write(words)
            up()
            await until_cut(reader)
        finally:
            writer.transport.abort()

    await hold_open(ground, act)


@attack(Surface.LIBP2P, short=200, long=500, fresh=True)
async def libp2p_plain_sockets(ground: Ground) -> None:
    """Sockets at a node that say nothing."""
    await _hold_plain(ground, place_of(_peer(ground, "node0")), b"")


@attack(Surface.LIBP2P, short=0, long=500, on="ledger", fresh=True)
async def libp2p_plain_sockets_at_the_ledger(ground: Ground) -> None:
    """Sockets at the ledger's peer that say a greeting and no more."""
    await _hold_plain(ground, place_of(_peer(ground, "ledger")), MULTISTREAM)


async def _say_and_leave(ground: Ground, words: bytes, *, wait: bool) -> None:
    place = place_of(_peer(ground, "node0"))

    async def act(_number: int) -> None:
        reader, writer = await connect(place)
        try:
            writer.write(words)
            if wait:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2.0):
                        await until_cut(reader)
        finally:
            writer.close()

    await flood(ground, act)


@attack(Surface.LIBP2P, short=300, long=10_000)
async def libp2p_closed(ground: Ground) -> None:
    """Connections that are closed as soon as they stand."""
    await _say_and_leave(ground, b"", wait=False)


@attack(Surface.LIBP2P, short=200, long=10_000)
async def libp2p_garbage(ground: Ground) -> None:
    """Connections that say noise."""
    await _say_and_leave(ground, os.urandom(4000), wait=True)


@attack(Surface.LIBP2P, short=0, long=10_000)
async def libp2p_http(ground: Ground) -> None:
    """Connections that speak plain HTTP."""
    await _say_and_leave(ground, HTTP, wait=True)


async def _idle_keys(ground: Ground, address: str) -> None:
    async with TrioRuntime.open() as runtime:

        async def act(_number: int, up: Up) -> None:
            async with P2PHost.open(runtime, secrets.token_bytes(32)) as host:
                await host.connect(address, timeout_s=20.0)
                up()
                peer = address.rpartition("/")[2]
                while peer in await host.peers():  # noqa: ASYNC110 - no event tells of it
                    await asyncio.sleep(LOOK_S)

        await hold_open(ground, act, at_once=8)


@attack(Surface.LIBP2P, short=15, long=300, fresh=True)
async def libp2p_idle_keys(ground: Ground) -> None:
    """Proven peers at a node that want nothing."""
    await _idle_keys(ground, _peer(ground, "node0"))


@attack(Surface.LIBP2P, short=0, long=300, on="ledger", fresh=True)
async def libp2p_idle_keys_at_the_ledger(ground: Ground) -> None:
    """Proven peers at the ledger, where newcomers look for the others."""
    await _idle_keys(ground, _peer(ground, "ledger"))


async def _unfinished(host: P2PHost, ground: Ground, peer: str) -> None:
    """One question that wants its last byte, in the trio thread, until the stream breaks."""

    async def ask() -> None:
        stream = await open_stream(host._backend.host, peer, ORDER_PROTOCOL)
        await stream.write(struct.pack(">I", QUESTION_BYTES) + bytes(QUESTION_BYTES - 1))
        ground.tally["streams"] += 1
        with contextlib.suppress(Exception):
            while await stream.read(1000):
                pass

    try:
        await host._call(ask)
    except trio.BrokenResourceError:
        ground.tally["broken"] += 1
    except Exception as error:  # noqa: BLE001 - whatever libp2p makes of a stream that was cut
        raise ConnectionError(str(error)) from None


@attack(Surface.LIBP2P, short=24, long=180, came=("streams",))
async def libp2p_long_questions_held(ground: Ground) -> None:
    """Streams that ask with 1 MiB and keep back the last byte."""
    address = _peer(ground, "node0")
    peer = address.rpartition("/")[2]
    async with TrioRuntime.open() as runtime, AsyncExitStack() as stack:
        hosts = []
        for _ in range(-(-ground.count // STREAMS_PER_KEY)):
            host = await stack.enter_async_context(P2PHost.open(runtime, secrets.token_bytes(32)))
            hosts.append(host)

        async def act(number: int, up: Up) -> None:
            host = hosts[number // STREAMS_PER_KEY]
            with contextlib.suppress(JoulemeshError):
                await host.connect(address)
            up()
            await _unfinished(host, ground, peer)

        await hold_open(ground, act, at_once=8)
