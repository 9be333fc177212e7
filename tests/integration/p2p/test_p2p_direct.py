"""The data plane over loopback: frames, back pressure, cancellation, and everybody who must not get in."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from node.p2p import certificate, direct
from node.p2p.direct import DataPlane, Link
from node.p2p.link import MAX_HEADER_BYTES
from protocol.errors import (
    ListenError,
    LocalError,
    LostPeerError,
    MalformedError,
    PeerError,
    SignatureError,
    UnpaidError,
    UnreachableError,
)
from protocol.identity.signing import SigningKey
from protocol.names import DATA_ALPN

pytestmark = pytest.mark.asyncio

MEBIBYTE = 1024 * 1024


async def echo(link: Link) -> None:
    while True:
        await link.send(*await link.receive())


class Joined:
    """Two planes and the two ends of a link between them."""

    def __init__(self) -> None:
        self.secret = os.urandom(32)
        self.key = SigningKey(self.secret).public_key
        self.incoming: asyncio.Queue[Link] = asyncio.Queue()

    async def hold(self, link: Link) -> None:
        await self.incoming.put(link)
        await link.wait_closed()


async def join(new_plane: Callable[..., DataPlane], **options: int) -> tuple[Link, Link]:
    """The dialling and the accepting end of a link."""
    joined = Joined()
    accepting, dialling = new_plane(joined.hold, secret=joined.secret, **options), new_plane(**options)
    near = await dialling.connect(await accepting.listen(), joined.key)
    return near, await joined.incoming.get()


async def test_both_ends_know_each_other(new_plane):
    joined = Joined()
    client_secret = os.urandom(32)
    plane, client = new_plane(joined.hold, secret=joined.secret), new_plane(secret=client_secret)
    near = await client.connect(await plane.listen(), joined.key)
    far = await joined.incoming.get()
    assert near.public_key == joined.key
    assert far.public_key == SigningKey(client_secret).public_key


@pytest.mark.parametrize(
    ("header", "payload"),
    [(0, 0), (1, 0), (0, 1), (MAX_HEADER_BYTES, 10), (100, 256 * 1024), (100, 256 * 1024 + 1), (9, 9 * MEBIBYTE)],
)
async def test_frames_of_any_size(new_plane, header, payload):
    near, far = await join(new_plane)
    frame = os.urandom(header), os.urandom(payload)
    sending = asyncio.create_task(near.send(frame[0], memoryview(frame[1])))
    assert await far.receive() == frame
    await sending


async def test_a_memoryview_of_numbers_travels_as_its_bytes(new_plane):
    near, far = await join(new_plane)
    numbers = memoryview(struct.pack("<300000f", *range(300000))).cast("f", (300, 1000))
    sending = asyncio.create_task(near.send(b"floats", numbers))
    assert await far.receive() == (b"floats", numbers.tobytes())
    await sending


async def test_many_senders_at_once_do_not_mix_their_frames(new_plane):
    near, far = await join(new_plane)
    frames = {bytes([number]): bytes([number]) * (number * 40_000) for number in range(20)}
    sending = asyncio.gather(*(near.send(header, payload) for header, payload in frames.items()))
    assert dict([await far.receive() for _ in frames]) == frames
    await sending


async def test_a_sender_waits_for_a_peer_that_does_not_read(new_plane):
    near, far = await join(new_plane)
    payload = bytes(MEBIBYTE)
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        for _ in range(64):
            await near.send(b"", payload)
            sent += 1

    sending = asyncio.create_task(send_all())
    _, blocked = await asyncio.wait({sending}, timeout=0.5)
    assert blocked
    stuck_at = sent
    assert stuck_at < 32
    for _ in range(64):
        assert len((await far.receive())[1]) == len(payload)
    await sending


async def test_a_stalled_reader_does_not_lose_the_link(new_plane):
    """Longer than the 5 s after which a libp2p stream would be reset."""
    near, far = await join(new_plane)
    sending = asyncio.create_task(near.send(b"step", bytes(16 * MEBIBYTE)))
    done, _ = await asyncio.wait({sending}, timeout=5.5)
    assert not done
    assert len((await far.receive())[1]) == 16 * MEBIBYTE
    await sending


async def test_a_cancelled_send_leaves_whole_frames(new_plane):
    near, far = await join(new_plane)
    payload = bytes(24 * MEBIBYTE)
    for _ in range(3):
        sending = asyncio.create_task(near.send(b"long", payload))
        await asyncio.wait({sending}, timeout=0.05)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    short = [asyncio.create_task(near.send(b"short", b"x" * 1000)) for _ in range(3)]
    short[1].cancel()  # before it began
    received = []
    while received.count((b"short", b"x" * 1000)) < 2:
        received.append(await far.receive())
    assert set(received) <= {(b"long", payload), (b"short", b"x" * 1000)}
    assert received[0] == (b"long", payload)


async def test_a_cancelled_receive_loses_nothing(new_plane):
    near, far = await join(new_plane)
    prefix = struct.pack(">II", 3, 5)
    for piece in (prefix[:5], prefix[5:] + b"he", b"a" + b"load"):
        near._stream.put(piece)
        receiving = asyncio.create_task(far.receive())
        await asyncio.wait({receiving}, timeout=0.1)
        assert not receiving.done()
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
    near._stream.put(b"!")
    await near.send(b"next", b"frame")
    assert await far.receive() == (b"hea", b"load!")
    assert await far.receive() == (b"next", b"frame")


async def test_what_was_sent_before_a_close_arrives(new_plane):
    near, far = await join(new_plane)
    sending = [asyncio.create_task(near.send(b"%d" % number, bytes(MEBIBYTE))) for number in range(4)]
    receiving = asyncio.create_task(receive_all(far))
    await asyncio.gather(*sending)
    await near.close()
    assert [header for header, _ in await receiving] == [b"0", b"1", b"2", b"3"]


async def send_for_ever(link: Link) -> None:
    while True:
        await link.send(b"", bytes(MEBIBYTE))


async def receive_all(link: Link) -> list[tuple[bytes, bytes]]:
    frames = []
    while True:
        try:
            frames.append(await link.receive())
        except LostPeerError:
            return frames


async def test_after_the_peer_is_gone(new_plane):
    near, far = await join(new_plane)
    far.abort()
    with pytest.raises(LostPeerError):
        await near.receive()
    with pytest.raises(LostPeerError):
        await send_for_ever(near)
    with pytest.raises(LostPeerError):
        await near.receive()
    await near.close()
    await near.close()


async def test_frames_too_long_to_send(new_plane):
    near, far = await join(new_plane, max_payload=1000)
    with pytest.raises(LocalError) as caught:
        await near.send(b"", bytes(1001))
    assert caught.value.code == "too-long"
    with pytest.raises(LocalError):
        await near.send(bytes(MAX_HEADER_BYTES + 1))
    await near.send(b"", bytes(1000))
    assert await far.receive() == (b"", bytes(1000))


@pytest.mark.parametrize("lengths", [(0, 1001), (MAX_HEADER_BYTES + 1, 0), (2**32 - 1, 2**32 - 1)])
async def test_frames_too_long_to_receive_end_the_link(new_plane, lengths):
    near, far = await join(new_plane, max_payload=1000)
    near._stream.put(struct.pack(">II", *lengths) + b"and more")
    with pytest.raises(MalformedError) as caught:
        await far.receive()
    assert caught.value.code == "too-long"
    with pytest.raises(LostPeerError):
        await far.receive()
    with pytest.raises(LostPeerError):
        await near.receive()


async def test_a_frame_cut_short(new_plane):
    near, far = await join(new_plane)
    near._stream.put(struct.pack(">II", 10, 10) + b"half")
    await near.close()
    with pytest.raises(LostPeerError):
        await far.receive()


async def test_another_peer_than_expected(new_plane):
    plane, client = new_plane(echo), new_plane()
    with pytest.raises(SignatureError, match="another peer"):
        await client.connect(await plane.listen(), SigningKey(os.urandom(32)).public_key)


async def test_nobody_there(new_plane):
    client = new_plane(handshake_s=0.5)
    key = SigningKey(os.urandom(32)).public_key
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UnreachableError):
            await client.connect(f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}/tls", key)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnreachableError, match=r"within 0\.5 s"):
        await client.connect(f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/tls", key)
    with pytest.raises(UnreachableError):
        await client.connect("/dns4/no-such-host.invalid/tcp/1/tls", key)


async def test_addresses_by_name_and_ip6(new_plane):
    secret = os.urandom(32)
    plane, client = new_plane(echo, secret=secret), new_plane()
    port = (await plane.listen()).split("/")[4]
    link = await client.connect(f"/dns4/localhost/tcp/{port}/tls", SigningKey(secret).public_key)
    await link.send(b"by name")
    assert await link.receive() == (b"by name", b"")
    six = new_plane(echo, secret=secret)
    try:
        address = await six.listen("::1")
    except ListenError:
        pytest.skip("no IPv6 here")
    assert address.startswith("/ip6/::1/tcp/")
    await (await client.connect(address, SigningKey(secret).public_key)).close()


async def test_a_port_in_use(new_plane):
    plane, second = new_plane(echo), new_plane(echo)
    port = int((await plane.listen()).split("/")[4])
    with pytest.raises(ListenError, match=str(port)):
        await second.listen("127.0.0.1", port)
    await plane.close()
    await second.listen("127.0.0.1", port)


async def test_a_service_that_raises_ends_its_link_only(new_plane, caplog):
    secret = os.urandom(32)

    async def serve(link: Link) -> None:
        header, _ = await link.receive()
        if header == b"bug":
            raise ZeroDivisionError("planted")
        if header == b"refuse":
            raise UnpaidError("no voucher")
        await link.send(b"served")

    plane, client = new_plane(serve, secret=secret), new_plane()
    address = await plane.listen()
    for header in (b"bug", b"refuse"):
        link = await client.connect(address, SigningKey(secret).public_key)
        await link.send(header)
        with pytest.raises(LostPeerError):
            await link.receive()
    link = await client.connect(address, SigningKey(secret).public_key)
    await link.send(b"good")
    assert await link.receive() == (b"served", b"")
    assert "planted" in caplog.text
    assert "no voucher" not in caplog.text


def context_with(role: int, chain: tuple[bytes, bytes] | None, folder) -> ssl.SSLContext:
    """TLS as an attacker sets it up: no checks, and a certificate of his choice."""
    context = ssl.SSLContext(role)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([DATA_ALPN])
    if chain is not None:
        path = folder / "attacker.pem"
        path.write_bytes(chain[0] + chain[1])
        context.load_cert_chain(path)
    return context


def pem(key: ec.EllipticCurvePrivateKey, extension: bytes | None) -> tuple[bytes, bytes]:
    """A certificate with any extension, issued by the public authority as anyone can."""
    return (
        certificate.issue(key, extension).public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def forged_chains() -> dict[str, tuple[bytes, bytes] | None]:
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    honest = certificate.identity_extension(os.urandom(32), key.public_key())
    victims = certificate.identity_extension(os.urandom(32), other.public_key())  # copied from its certificate
    mixed = victims[: 4 + 37] + honest[4 + 37 :]
    return {
        "no certificate": None,
        "no identity": pem(key, None),
        "empty identity": pem(key, b""),
        "garbage identity": pem(key, os.urandom(110)),
        "identity of another certificate": pem(key, victims),
        "another's key with one's own signature": pem(key, bytes([0x30, len(mixed) - 2]) + mixed[2:]),
        "trailing bytes": pem(key, honest + b"\x00"),
    }


@pytest.mark.parametrize("name", list(forged_chains()))
async def test_nobody_gets_in_without_proving_a_key(new_plane, tmp_path, name):
    served = []

    async def serve(link: Link) -> None:
        served.append(link)

    plane = new_plane(serve)
    port = int((await plane.listen()).split("/")[4])
    context = context_with(ssl.PROTOCOL_TLS_CLIENT, forged_chains()[name], tmp_path)
    with pytest.raises((OSError, asyncio.IncompleteReadError)):
        await say_something(port, context)
    assert served == []


async def say_something(port: int, context: ssl.SSLContext) -> None:
    """In TLS 1.3 a client may believe that it is in before the server has looked at its certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")
    try:
        writer.write(struct.pack(">II", 0, 0))
        await reader.readexactly(1)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("name", [name for name, chain in forged_chains().items() if chain])
async def test_no_server_without_the_expected_key_is_believed(new_plane, tmp_path, name):
    context = context_with(ssl.PROTOCOL_TLS_SERVER, forged_chains()[name], tmp_path)
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PeerError):
            await new_plane().connect(f"/ip4/127.0.0.1/tcp/{port}/tls", SigningKey(os.urandom(32)).public_key)


async def test_the_expected_key_in_another_protocol_is_refused(new_plane, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    secret = os.urandom(32)
    context = context_with(
        ssl.PROTOCOL_TLS_SERVER, pem(key, certificate.identity_extension(secret, key.public_key())), tmp_path
    )
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        address = f"/ip4/127.0.0.1/tcp/{port}/tls"
        link = await new_plane().connect(address, SigningKey(secret).public_key)
        assert link.public_key == SigningKey(secret).public_key
        context.set_alpn_protocols(["h2"])
        with pytest.raises(SignatureError):
            await new_plane().connect(address, SigningKey(secret).public_key)


async def test_old_tls_and_no_tls_are_refused(new_plane, tmp_path):
    plane = new_plane(echo)
    port = int((await plane.listen()).split("/")[4])
    context = context_with(ssl.PROTOCOL_TLS_CLIENT, None, tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await reader.read()  # an alert, then the end
    writer.close()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((SignatureError, UnreachableError)):
            await new_plane().connect(f"/ip4/127.0.0.1/tcp/{port}/tls", SigningKey(os.urandom(32)).public_key)


async def test_a_listener_that_breaks_ends_its_service_with_the_reason(new_plane):
    with direct.Listener.open() as listener:
        serving = asyncio.create_task(new_plane().serve(listener, echo))
        await asyncio.sleep(0)
        listener.socket.shutdown(socket.SHUT_RDWR)  # as when the operating system takes it away
        with pytest.raises(ListenError, match="any more"):
            async with asyncio.timeout(5):
                await serving


async def test_links_outlive_the_service_that_accepted_them(new_plane):
    """So that a node which stops can still say goodbye."""
    secret = os.urandom(32)
    plane, client = new_plane(echo, secret=secret), new_plane()
    link = await client.connect(await plane.listen(), SigningKey(secret).public_key)
    await link.send(b"one")
    assert await link.receive() == (b"one", b"")
    (accepting,) = plane.accepting
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    await link.send(b"two")
    assert await link.receive() == (b"two", b"")
    await plane.close()
    with pytest.raises(LostPeerError):
        await link.receive()
    assert plane._links == plane._tasks == set()
