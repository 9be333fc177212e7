"""Those who crowd a host's port, and the newcomer who must be served all the same; everybody at one address."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from p2p_strangers import HALF_NOISE, descriptors

from node.p2p import door
from node.p2p.host import P2PHost
from node.p2p.places import Bounds
from protocol.errors import LostPeerError, UnreachableError

pytestmark = pytest.mark.asyncio

ECHO = "/test/echo/1"
NewHost = Callable[..., Awaitable[P2PHost]]


async def echo(_asker: bytes, question: bytes) -> bytes:
    return question


def port_of(host: P2PHost) -> int:
    return int(host.addresses[0].split("/")[4])


@asynccontextmanager
async def sockets(host: P2PHost, count: int, said: bytes = b"") -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many connections that say this and no more."""
    writers, readers = [], []
    try:
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(host))
            writer.write(said)
            writers.append(writer)
            readers.append(reader)
        yield readers
    finally:
        for writer in writers:
            writer.close()


async def served(host: P2PHost, newcomer: P2PHost) -> bool:
    await newcomer.connect(host.addresses[0])
    return await newcomer.request(host.peer_id, ECHO, b"served?") == b"served?"


async def gone(host: P2PHost, peer: str) -> None:
    """Until a host has no connection to a peer."""
    async with asyncio.timeout(15):
        while peer in await host.peers():  # each question takes a turn of the other thread
            pass


@pytest.mark.parametrize("said", [b"", b"\x13/multistream/1.0.0\n", HALF_NOISE], ids=["silent", "a word", "half noise"])
async def test_sockets_that_never_prove_a_key_do_not_keep_a_newcomer_out(new_host: NewHost, said: bytes) -> None:
    host = await new_host(bounds=Bounds(greeting=6))
    host.serve(ECHO, echo)
    async with sockets(host, 12, said):
        assert await served(host, await new_host())


async def test_who_says_nothing_is_sent_away(new_host: NewHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_FIRST_WORD_S", 0.1)
    monkeypatch.setattr(door, "_GREETING_S", 0.3)
    host = await new_host()
    for said in (b"", b"\x13/multi", HALF_NOISE):
        async with sockets(host, 2, said) as readers, asyncio.timeout(10):
            for reader in readers:
                with contextlib.suppress(ConnectionError):
                    await reader.read()


async def test_what_is_not_libp2p_is_sent_away_at_once(new_host: NewHost) -> None:
    host = await new_host()
    async with sockets(host, 3, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n") as readers, asyncio.timeout(1):
        for reader in readers:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""


async def test_keys_that_sit_idle_make_room(new_host: NewHost) -> None:
    host = await new_host(bounds=Bounds(proven=3))
    host.serve(ECHO, echo)
    idle = [await new_host() for _ in range(3)]
    for each in idle:
        await each.connect(host.addresses[0])
    assert await served(host, await new_host())
    await gone(idle[0], host.peer_id)


async def test_who_asks_stays_and_who_only_sits_there_goes(new_host: NewHost) -> None:
    host = await new_host(bounds=Bounds(proven=2))
    host.serve(ECHO, echo)
    asking, idle, newcomer = await new_host(), await new_host(), await new_host()
    assert await served(host, asking)
    await idle.connect(host.addresses[0])
    assert await served(host, newcomer)
    await gone(idle, host.peer_id)
    assert {asking.peer_id, newcomer.peer_id} <= set(await host.peers())


async def test_one_key_has_few_connections(new_host: NewHost) -> None:
    host = await new_host(bounds=Bounds(of_key=1))
    secret = os.urandom(32)
    first, second = await new_host(secret), await new_host(secret)
    await first.connect(host.addresses[0])
    await second.connect(host.addresses[0])
    await gone(first, host.peer_id)
    assert host.peer_id in await second.peers()


async def test_idle_peers_are_let_go_and_subscribers_are_not(
    new_host: NewHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "_IDLE_S", 0.5)
    monkeypatch.setattr(door, "_SWEEP_S", 0.05)
    host, idle, listening = await new_host(), await new_host(), await new_host()
    await host.subscribe("topic", lambda data: data)
    heard = await listening.subscribe("topic", lambda data: data)
    await listening.connect(host.addresses[0])
    await idle.connect(host.addresses[0])
    await gone(idle, host.peer_id)
    await host.publish("topic", b"still there")
    async with asyncio.timeout(10):
        assert await anext(heard) == b"still there"


async def test_whom_the_host_dialled_stays(new_host: NewHost) -> None:
    host, dialled = await new_host(bounds=Bounds(proven=1)), await new_host()
    first, second = await new_host(), await new_host()
    await host.connect(dialled.addresses[0])
    for each in (first, second):
        await each.connect(host.addresses[0])
    await gone(first, host.peer_id)
    assert dialled.peer_id in await host.peers()
    assert await host.ping(dialled.peer_id) > 0


async def test_handshakes_wait_for_their_turn(new_host: NewHost, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("_HANDSHAKES", "_WELCOMES"):
        monkeypatch.setattr(door, f"{step}_AT_ONCE", 1)
        monkeypatch.setattr(door, f"{step}_PER_S", 2.0)
    host = await new_host()
    host.serve(ECHO, echo)
    hosts = [await new_host() for _ in range(4)]
    assert all(await asyncio.gather(*(served(host, each) for each in hosts)))


async def test_connections_that_fail_leave_nothing_behind(new_host: NewHost) -> None:
    host = await new_host()
    host.serve(ECHO, echo)
    newcomer = await new_host()
    before = descriptors()
    for said in (b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(3000), b"\x13/multistream/1.0.0\n", HALF_NOISE):
        async with sockets(host, 40, said):
            pass
    async with asyncio.timeout(15):
        while descriptors() > before:
            await host.peers()
    assert await served(host, newcomer)


async def tried(newcomer: P2PHost, address: str) -> bool:
    try:
        return await newcomer.request(await newcomer.connect(address), ECHO, b"served?") == b"served?"
    except (UnreachableError, LostPeerError):
        return False


FULL_TABLE = """
import asyncio, os, resource, sys
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime

async def main():
    async with TrioRuntime.open() as runtime, P2PHost.open(runtime, os.urandom(32)) as host:
        async def echo(_asker, question):
            return question
        host.serve("/test/echo/1", echo)
        await asyncio.to_thread(int)  # loads what threads need while files can still be opened
        used = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        print(host.addresses[0], flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
async def test_a_full_table_of_descriptors_does_not_end_the_host(new_host: NewHost) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL_TABLE,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    crowd = [socket.create_connection(("127.0.0.1", int(address.split("/")[4]))) for _ in range(20)]
    newcomer = await new_host()
    try:
        with contextlib.suppress(Exception):
            await newcomer.connect(address, timeout_s=1.0)
        for each in crowd:
            each.close()
        async with asyncio.timeout(30):
            while not await tried(newcomer, address):
                pass
    finally:
        _, errors = await process.communicate(b"")
    assert process.returncode == 0
    assert b"Traceback" not in errors
