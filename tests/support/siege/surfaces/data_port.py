"""Attacks on the data plane's port, by callers without a session; most without even a key."""

from __future__ import annotations

import asyncio
import os
import secrets

from node.p2p.direct import DataPlane, Link
from node.p2p.link import MAX_PAYLOAD_BYTES, PREFIX
from protocol.encoding.codec import encode
from protocol.identity.peer_id import public_key_of
from protocol.session.frames import Attach
from siege.attack import Ground, Surface, attack
from siege.sockets import Place, Up, connect, flood, hold_open, place_of, until_cut

LINKS_PER_KEY = 30
MEBIBYTE = 2**20


def _door(ground: Ground) -> Place:
    return place_of(ground.target.nodes[0].data)


@attack(Surface.DATA, short=400, long=10_000)
async def data_closed(ground: Ground) -> None:
    """Connections that are closed as soon as they stand."""

    async def act(_number: int) -> None:
        _, writer = await connect(_door(ground))
        writer.close()

    await flood(ground, act)


@attack(Surface.DATA, short=300, long=10_000)
async def data_garbage(ground: Ground) -> None:
    """Connections that say noise where a handshake belongs."""

    async def act(_number: int) -> None:
        reader, writer = await connect(_door(ground))
        try:
            writer.write(os.urandom(2000))
            await until_cut(reader)
        finally:
            writer.transport.abort()

    await flood(ground, act)


@attack(Surface.DATA, short=0, long=10_000)
async def data_http(ground: Ground) -> None:
    """Connections that speak plain HTTP."""

    async def act(_number: int) -> None:
        reader, writer = await connect(_door(ground))
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: node\r\n\r\n")
            await until_cut(reader)
        finally:
            writer.transport.abort()

    await flood(ground, act)


@attack(Surface.DATA, short=200, long=1_000)
async def data_half_handshakes(ground: Ground) -> None:
    """Connections that begin a handshake, and say no more."""

    async def act(_number: int, up: Up) -> None:
        reader, writer = await connect(_door(ground))
        try:
            writer.write(bytes.fromhex("1603010200010001fc0303") + secrets.token_bytes(32))
            up()
            await until_cut(reader)
        finally:
            writer.transport.abort()

    await hold_open(ground, act)


class _Strangers:
    """Keys of nobody, some links each."""

    def __init__(self, ground: Ground) -> None:
        node = ground.target.nodes[0]
        self._address = node.data
        self._key = public_key_of(node.peer.rpartition("/")[2])
        self._planes: dict[int, DataPlane] = {}

    async def link(self, number: int) -> Link:
        plane = self._planes.get(number // LINKS_PER_KEY)
        if plane is None:
            plane = self._planes[number // LINKS_PER_KEY] = DataPlane(secrets.token_bytes(32), handshake_s=10.0)
        return await plane.connect(self._address, self._key)


@attack(Surface.DATA, short=120, long=1_030)
async def data_idle_links(ground: Ground) -> None:
    """Proven links of throwaway keys that never name a session."""
    strangers = _Strangers(ground)

    async def act(number: int, up: Up) -> None:
        link = await strangers.link(number)
        up()
        try:
            await link.receive()
        finally:
            link.abort()

    await hold_open(ground, act, at_once=16)


@attack(Surface.DATA, short=0, long=2_000, most_files=1024)
async def data_idle_links_of_a_small_node(ground: Ground) -> None:
    """The same where the system gives the node 1,024 descriptors."""
    await data_idle_links(ground)


@attack(Surface.DATA, short=12, long=40, came=("mebibytes",))
async def data_long_frames_held(ground: Ground) -> None:
    """Proven links that begin a frame of 64 MiB, and keep back its last."""
    strangers = _Strangers(ground)
    rest = bytes(MEBIBYTE)

    async def act(number: int, up: Up) -> None:
        link = await strangers.link(number)
        up()
        try:
            header = encode(Attach(session=bytes(32)))
            await link._put(PREFIX.pack(len(header), MAX_PAYLOAD_BYTES) + header)
            for _ in range(MAX_PAYLOAD_BYTES // MEBIBYTE - 1):
                await link._put(rest)
                ground.tally["mebibytes"] += 1
            await link.receive()
        finally:
            link.abort()

    await hold_open(ground, act, at_once=8)


@attack(Surface.DATA, short=60, long=400)
async def data_slow_frames(ground: Ground) -> None:
    """Proven links that say a frame byte by byte."""
    strangers = _Strangers(ground)

    async def act(number: int, up: Up) -> None:
        link = await strangers.link(number)
        up()
        try:
            header = encode(Attach(session=bytes(32)))
            for byte in PREFIX.pack(len(header), 4096) + header + bytes(4096):
                await link._put(bytes([byte]))
                await asyncio.sleep(1.0)
        finally:
            link.abort()

    await hold_open(ground, act, at_once=16)


@attack(Surface.DATA, short=0, long=2_000)
async def data_links_come_and_go(ground: Ground) -> None:
    """Proven links that end as soon as they stand: each costs the node a handshake."""
    strangers = _Strangers(ground)

    async def act(number: int) -> None:
        (await strangers.link(number)).abort()

    await flood(ground, act, at_once=16)
