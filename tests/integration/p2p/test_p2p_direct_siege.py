"""Attacks on the data plane by peers that have nothing at stake: each costs little, ends, and keeps nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from node.p2p import direct, link, link_places
from node.p2p.certificate import issue
from node.p2p.direct import DataPlane, Link
from node.p2p.link import PREFIX
from node.p2p.tls import TlsSocket
from node.ports import STRANGER, Allowance, LinkRank
from protocol.errors import LostPeerError, MalformedError, PeerError, UnreachableError
from protocol.identity.signing import SigningKey
from protocol.names import DATA_ALPN

pytestmark = pytest.mark.asyncio

OWN = SigningKey(b"\x31" * 32)
CLIENT = SigningKey(b"\x32" * 32)
"""The one who has a session."""
BUSY = Allowance(header=4096, payload=1024 * 1024, rank=LinkRank.BUSY)


def allowances(public_key: bytes) -> Allowance:
    return BUSY if public_key == CLIENT.public_key else STRANGER


async def echo(each: Link) -> None:
    while True:
        await each.send(*await each.receive())


@pytest_asyncio.fixture
async def under_siege(new_plane: Callable[..., DataPlane]) -> AsyncIterator[str]:
    """A plane with eight places for links and four for handshakes; its address."""
    yield await new_plane(echo, secret=OWN.secret, allowances=allowances, descriptors=16).listen()


async def works(each: Link) -> None:
    async with asyncio.timeout(10):
        await each.send(b"still", b"here")
        assert await each.receive() == (b"still", b"here")


async def ended(each: Link) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(LostPeerError):
            await each.receive()


def port_of(address: str) -> int:
    return int(address.split("/")[4])


def hello() -> bytes:
    """How an honest handshake begins."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([DATA_ALPN])
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said).do_handshake()
    return said.read()


async def knock(port: int, first: bytes) -> None:
    """Say something that leads nowhere, and wait for the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    if not first or first[:1] == b"\x16":
        writer.close()
    with contextlib.suppress(OSError):
        await reader.read()
    writer.transport.abort()


FIRST_WORDS = {
    "nothing": b"",
    "plain HTTP": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    "garbage": bytes(range(1, 256)),
    "half a hello": hello()[:100],
    "a hello and no more": hello(),
    "a record that is no hello": b"\x16\x03\x01\x00\x10" + bytes(16),
}


@pytest.mark.parametrize("what", list(FIRST_WORDS))
async def test_connections_that_end_before_their_handshake_leave_nothing(new_plane, what):
    """Without a garbage collection: in a process with a model, there is none for hours."""
    plane = new_plane(echo)
    port = port_of(await plane.listen())
    await knock(port, FIRST_WORDS[what])
    gc.collect()
    gc.disable()
    try:
        before, others = descriptors(), tls_sockets()
        for _ in range(30):
            await asyncio.gather(*(knock(port, FIRST_WORDS[what]) for _ in range(4)))
        await all_over(plane)
        assert tls_sockets() <= others
        assert descriptors() <= before
    finally:
        gc.enable()


@pytest.mark.parametrize("piece", [1, 3, 5, 90, 10_000])
async def test_a_hello_in_pieces_is_answered_once_it_is_whole(under_siege, piece):
    said, before = hello(), tls_sockets()
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(under_siege))
    for at in range(0, len(said) - 1, piece):
        writer.write(said[at : min(at + piece, len(said) - 1)])
        for _ in range(3):
            await asyncio.sleep(0)  # the other side has its turn
    assert tls_sockets() == before, "half a hello is the system's affair"
    writer.write(said[-1:])
    async with asyncio.timeout(10):
        assert await reader.readexactly(1) == b"\x16"
    writer.transport.abort()


@pytest.mark.parametrize("head", [b"\x16\x03\x01\x40\x01", b"\x16\x03\x01\xff\xff", b"\x16\x02\x01\x00\x10", b"\x17"])
async def test_what_begins_no_handshake_is_hung_up_on_at_once(under_siege, head):
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(under_siege))
    writer.write(head)
    async with asyncio.timeout(direct._FIRST_WORD_S):
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
    writer.transport.abort()


async def test_wrong_certificates_leave_nothing(new_plane, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + issue(key, os.urandom(100)).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "wrong.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([DATA_ALPN])
    context.load_cert_chain(tmp_path / "wrong.pem")
    plane = new_plane(echo)
    port = port_of(await plane.listen())
    gc.collect()
    gc.disable()
    try:
        others = tls_sockets()
        for _ in range(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
            writer.transport.abort()
        await all_over(plane)
        assert tls_sockets() <= others
    finally:
        gc.enable()


def tls_sockets() -> set[int]:
    """Those in memory, by identity; tests before may have left some to whoever reports of them."""
    return {id(each) for each in gc.get_objects() if type(each) is TlsSocket}


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def all_over(plane: DataPlane) -> None:
    async with asyncio.timeout(10):
        while plane._tasks:
            await asyncio.gather(*plane._tasks, return_exceptions=True)
        await asyncio.sleep(0)


@pytest.mark.parametrize("first", [b"", hello()[:60], hello()], ids=["nothing", "half a hello", "a hello"])
async def test_callers_without_end_keep_no_newcomer_out(under_siege, first):
    mute = []
    for _ in range(60):
        connection = socket.create_connection(("127.0.0.1", port_of(under_siege)))
        connection.sendall(first)
        mute.append(connection)
        await asyncio.sleep(0)
    async with DataPlane(CLIENT.secret) as client:
        await works(await client.connect(under_siege, OWN.public_key))
    for connection in mute:
        connection.close()


async def test_idle_links_of_many_keys_keep_no_newcomer_out(under_siege):
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(DataPlane(CLIENT.secret))
        paying = await client.connect(under_siege, OWN.public_key)
        idle = []
        for _ in range(20):
            sybil = await stack.enter_async_context(DataPlane(os.urandom(32)))
            idle.append(await sybil.connect(under_siege, OWN.public_key))
        await works(paying)
        await works(idle[-1])
        for each in idle[:8]:
            await ended(each)
        await works(await client.connect(under_siege, OWN.public_key))


async def test_many_links_of_one_key_take_the_places_of_that_key(new_plane):
    plane = new_plane(echo, secret=OWN.secret, allowances=allowances)
    address = await plane.listen()
    async with DataPlane(os.urandom(32)) as other, DataPlane(os.urandom(32)) as stranger:
        bystander = await other.connect(address, OWN.public_key)
        links = [await stranger.connect(address, OWN.public_key) for _ in range(link_places.LINKS_OF_A_STRANGER + 2)]
        for each in links[:2]:
            await ended(each)
        for each in (*links[2:], bystander):
            await works(each)


async def test_a_stranger_without_a_session_is_let_go_and_a_client_stays(new_plane, monkeypatch):
    monkeypatch.setattr(link_places, "NAMING_S", 0.1)
    monkeypatch.setattr(direct, "_SWEEP_S", 0.05)
    address = await new_plane(echo, secret=OWN.secret, allowances=allowances).listen()
    async with DataPlane(CLIENT.secret) as client, DataPlane(os.urandom(32)) as stranger:
        paying = await client.connect(address, OWN.public_key)
        await ended(await stranger.connect(address, OWN.public_key))
        await works(paying)


async def test_a_link_whose_sessions_are_over_has_longer(new_plane, monkeypatch):
    monkeypatch.setattr(link_places, "NAMING_S", 0.1)
    monkeypatch.setattr(link_places, "IDLE_S", 0.5)
    monkeypatch.setattr(direct, "_SWEEP_S", 0.05)
    known = Allowance(header=4096, payload=4096, rank=LinkRank.KNOWN)
    address = await new_plane(echo, secret=OWN.secret, allowances=lambda key: known).listen()
    async with DataPlane(CLIENT.secret) as client:
        link_ = await client.connect(address, OWN.public_key)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await ended(link_)
        assert loop.time() - began > 0.4


async def test_a_stranger_cannot_have_more_than_a_refusal_takes(under_siege):
    async with DataPlane(os.urandom(32)) as stranger, DataPlane(CLIENT.secret) as client:
        each = await stranger.connect(under_siege, OWN.public_key)
        await each.send(bytes(4096), bytes(4096))
        assert await each.receive() == (bytes(4096), bytes(4096))
        each._stream.put(PREFIX.pack(10, 63 * 1024 * 1024))
        await ended(each)
        paying = await client.connect(under_siege, OWN.public_key)
        paying.allow(lambda: BUSY)
        sending = asyncio.create_task(paying.send(b"rows", bytes(BUSY.payload)))
        assert await paying.receive() == (b"rows", bytes(BUSY.payload))
        await sending


async def test_a_frame_that_drips_is_given_up(new_plane, monkeypatch):
    monkeypatch.setattr(link, "FRAME_S", 0.3)
    ends: asyncio.Queue[PeerError] = asyncio.Queue()

    async def read(each: Link) -> None:
        try:
            await each.receive()
        except PeerError as error:
            await ends.put(error)

    address = await new_plane(read, secret=OWN.secret, allowances=allowances).listen()
    async with DataPlane(CLIENT.secret) as client:
        each = await client.connect(address, OWN.public_key)
        dripping = asyncio.create_task(drip(each))
        async with asyncio.timeout(10):
            error = await ends.get()
        assert isinstance(error, LostPeerError)
        assert "too long" in error.message
        await dripping


async def drip(each: Link) -> None:
    with contextlib.suppress(OSError):
        for byte in PREFIX.pack(100, 0) + bytes(100):
            each._stream.put(bytes([byte]))
            await asyncio.sleep(0.02)


async def test_frames_of_a_stranger_are_read_slowly_and_those_of_a_client_are_not(new_plane, monkeypatch):
    monkeypatch.setattr(link, "_STRANGERS_FRAMES_PER_S", 0.001)
    monkeypatch.setattr(link, "_STRANGERS_FRAMES_AT_ONCE", 3)
    address = await new_plane(echo, secret=OWN.secret, allowances=allowances).listen()
    async with DataPlane(os.urandom(32)) as stranger, DataPlane(CLIENT.secret) as client:
        each = await stranger.connect(address, OWN.public_key)
        for _ in range(3):
            await works(each)
        await each.send(b"one more")
        waiting = asyncio.create_task(each.receive())
        paying = await client.connect(address, OWN.public_key)
        for _ in range(20):
            await works(paying)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


SERVE = """
import asyncio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
from node.p2p.direct import DataPlane, Listener

async def echo(link):
    while True:
        await link.send(*await link.receive())

async def main():
    with Listener.open() as listener:
        async with DataPlane(b"\\x31" * 32) as plane:  # as if it had a thousand descriptors
            print(listener.address, flush=True)
            await plane.serve(listener, echo)

asyncio.run(main())
"""


async def test_a_process_without_descriptors_lets_guests_go_and_serves_on():
    pipe = asyncio.subprocess.PIPE
    serving = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVE, stdout=pipe, stderr=pipe)
    assert serving.stdout is not None
    try:
        address = (await serving.stdout.readline()).decode().strip()
        mute = [socket.create_connection(("127.0.0.1", port_of(address))) for _ in range(100)]
        async with DataPlane(CLIENT.secret) as client:
            await works(await client.connect(address, OWN.public_key))
        assert serving.returncode is None
        for connection in mute:
            connection.close()
    finally:
        serving.terminate()
        _, said = await serving.communicate()
    assert b"Traceback" not in said


async def test_who_drops_every_connection_is_dialled_a_few_times_and_no_more(monkeypatch):
    monkeypatch.setattr(direct, "_REDIALS_S", (0.0, 0.0, 0.0))
    dialled = 0

    def drop(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dialled
        dialled += 1
        writer.transport.abort()

    server = await asyncio.start_server(drop, "127.0.0.1", 0)
    async with server, DataPlane(CLIENT.secret) as client:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((PeerError, UnreachableError)):
            await client.connect(f"/ip4/127.0.0.1/tcp/{port}/tls", OWN.public_key)
    assert dialled <= 4


async def test_a_malformed_end_is_told_to_whoever_serves(new_plane):
    ends: asyncio.Queue[PeerError] = asyncio.Queue()

    async def read(each: Link) -> None:
        try:
            await each.receive()
        except PeerError as error:
            await ends.put(error)

    address = await new_plane(read, secret=OWN.secret, allowances=lambda key: STRANGER).listen()
    async with DataPlane(CLIENT.secret) as client:
        await (await client.connect(address, OWN.public_key)).send(b"rows", bytes(5000))
        async with asyncio.timeout(10):
            error = await ends.get()
    assert isinstance(error, MalformedError)
    assert error.code == "too-long"
