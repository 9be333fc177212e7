"""A host's life: addresses, connections, ports, pings, closing, dying."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time

import pytest

from node.p2p import muxer
from node.p2p.gossip import Announcer, Subscription
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.errors import (
    ListenError,
    LocalError,
    LostPeerError,
    MalformedError,
    RefusedError,
    SignatureError,
    UnreachableError,
)
from protocol.identity.peer_id import peer_id_of, public_key_of
from protocol.identity.signing import SigningKey

pytestmark = pytest.mark.asyncio

TOPIC = "test"


async def test_addresses_name_the_real_port_and_the_key(new_host):
    secret = os.urandom(32)
    host = await new_host(secret)
    (address,) = host.addresses
    assert host.public_key == SigningKey(secret).public_key
    assert host.peer_id == peer_id_of(host.public_key)
    assert address.endswith(f"/p2p/{host.peer_id}")
    assert "/tcp/0/" not in address


async def test_announced_addresses_replace_the_bound_ones(new_host):
    host = await new_host(announce=["/dns4/node.example.org/tcp/4001", "/ip4/192.0.2.1/tcp/4001"])
    assert host.addresses == (
        f"/dns4/node.example.org/tcp/4001/p2p/{host.peer_id}",
        f"/ip4/192.0.2.1/tcp/4001/p2p/{host.peer_id}",
    )
    for bad in ("/ip4/192.0.2.1", "/ip4/192.0.2.1/tcp/0", f"/ip4/192.0.2.1/tcp/4001/p2p/{host.peer_id}"):
        with pytest.raises(ListenError):
            await new_host(announce=[bad])


async def test_a_host_is_found_by_its_name(new_host):
    one, other = await new_host(), await new_host()
    named = other.addresses[0].replace("/ip4/127.0.0.1/", "/dns4/localhost/")
    assert await one.connect(named) == other.peer_id
    with pytest.raises(UnreachableError, match="leads nowhere"):
        await one.connect(named.replace("localhost", "nowhere.invalid"))


async def test_connect_and_ping(new_host):
    one, other = await new_host(), await new_host()
    assert await one.connect(other.addresses[0]) == other.peer_id
    assert await one.peers() == [other.peer_id]
    assert 0 < await one.ping(other.peer_id) < 5_000_000
    await one.connect(other.addresses[0])  # a second time does no harm
    assert await one.peers() == [other.peer_id]


async def test_connect_to_nobody(new_host):
    host = await new_host()
    with socket.socket() as unused:  # bound, not listening: refuses
        unused.bind(("127.0.0.1", 0))
        nobody = f"/ip4/127.0.0.1/tcp/{unused.getsockname()[1]}/p2p/{peer_id_of(SigningKey(os.urandom(32)).public_key)}"
        with pytest.raises(UnreachableError, match="cannot connect"):
            await host.connect(nobody)


async def test_connect_to_one_who_never_answers_is_bounded(new_host):
    host = await new_host()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{peer_id_of(SigningKey(os.urandom(32)).public_key)}"
        with pytest.raises(UnreachableError, match=r"within 0\.5 s"):
            await host.connect(mute, timeout_s=0.5)


async def test_a_failed_peer_can_be_connected_to_once_it_is_up(new_host):
    host = await new_host()
    secret = os.urandom(32)
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id_of(SigningKey(secret).public_key)}"
    with pytest.raises(UnreachableError):
        await host.connect(address)
    await new_host(secret, listen=f"/ip4/127.0.0.1/tcp/{port}")
    await host.connect(address)


async def test_another_peer_at_the_address_is_refused(new_host):
    host, other = await new_host(), await new_host()
    stranger = peer_id_of(SigningKey(os.urandom(32)).public_key)
    with pytest.raises(SignatureError, match="another peer"):
        await host.connect(other.addresses[0].replace(other.peer_id, stranger))
    assert await host.peers() == []


async def test_connecting_to_itself_is_refused(new_host):
    host = await new_host()
    with pytest.raises(UnreachableError, match="itself"):
        await host.connect(host.addresses[0])


@pytest.mark.parametrize("address", ["", "garbage", "/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2"])
async def test_malformed_peer_addresses(new_host, address):
    host = await new_host()
    with pytest.raises(MalformedError):
        await host.connect(address)


async def test_a_port_in_use_is_an_error_and_not_shared(new_host):
    host = await new_host()
    taken = host.addresses[0].partition("/p2p/")[0]
    with pytest.raises(ListenError, match=taken.replace(".", r"\.")):
        await new_host(listen=taken)


@pytest.mark.parametrize("listen", ["", "/ip4/127.0.0.1", "/dns4/localhost/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"])
async def test_malformed_listen_addresses(new_host, listen):
    with pytest.raises(ListenError):
        await new_host(listen=listen)


async def test_an_address_of_another_machine_cannot_be_listened_on(new_host):
    with pytest.raises(ListenError, match="cannot listen"):
        await new_host(listen="/ip4/192.0.2.1/tcp/0")


async def test_a_port_is_free_again_after_close(runtime):
    async with P2PHost.open(runtime, os.urandom(32)) as first:
        listen = first.addresses[0].partition("/p2p/")[0]
    async with P2PHost.open(runtime, os.urandom(32), listen) as second:
        assert second.addresses[0].startswith(listen)


async def test_closing_is_prompt_with_many_connections(new_host):
    host = await new_host()
    for other in [await new_host() for _ in range(6)]:
        await other.connect(host.addresses[0])
    begun = time.monotonic()
    await host.close()
    assert time.monotonic() - begun < 2
    await host.close()  # again does nothing
    await host.wait_closed()


async def test_calls_after_close_and_pending_ones_raise(new_host):
    answering = asyncio.Event()

    async def never(_asker: bytes, _question: bytes) -> bytes:
        answering.set()
        await asyncio.Event().wait()
        return b""

    other = await new_host()
    other.serve("/test/never/1", never)
    host = await new_host()
    await host.connect(other.addresses[0])
    pending = asyncio.create_task(host.request(other.peer_id, "/test/never/1", b""))
    await answering.wait()
    await host.close()
    with pytest.raises(LocalError, match="closed"):
        await pending
    with pytest.raises(LocalError, match="closed"):
        await host.peers()


async def test_running_handlers_are_cancelled_by_close(new_host):
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_asker: bytes, _question: bytes) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return b""

    host = await new_host()
    host.serve("/test/endless/1", endless)
    asker = await new_host()
    await asker.connect(host.addresses[0])
    pending = asyncio.create_task(asker.request(host.peer_id, "/test/endless/1", b""))
    await begun.wait()
    await host.close()
    assert cancelled.is_set()
    with pytest.raises((RefusedError, LostPeerError)):  # told, if there was still time to
        await pending


async def test_a_host_whose_thread_ends_says_so():
    async with TrioRuntime.open() as runtime, P2PHost.open(runtime, os.urandom(32)) as host:
        subscription = await host.subscribe("test", lambda data: data)
        await runtime.stop()
        with pytest.raises(LocalError, match="network thread ended") as caught:
            await host.wait_closed()
        assert caught.value.code == "host-died"
        with pytest.raises(LocalError):
            await anext(subscription)
        with pytest.raises(LocalError):
            await host.peers()
        with pytest.raises(LocalError, match="not running"):
            async with P2PHost.open(runtime, os.urandom(32)):
                pass


async def test_an_opening_that_is_given_up_leaves_no_thread_and_no_port(runtime):
    before = set(threading.enumerate())
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]

    async def open_both() -> None:
        async with TrioRuntime.open() as other, P2PHost.open(other, os.urandom(32), f"/ip4/127.0.0.1/tcp/{port}"):
            await asyncio.Event().wait()

    for turns in range(0, 12, 3):
        task = asyncio.create_task(open_both())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert set(threading.enumerate()) - before == set()
        async with P2PHost.open(runtime, os.urandom(32), f"/ip4/127.0.0.1/tcp/{port}"):
            pass


async def test_one_crashing_host_leaves_the_others_alone(new_host, monkeypatch):
    crashing, other, third = await new_host(), await new_host(), await new_host()

    async def crash() -> None:
        raise RuntimeError("planted")

    crashing._bridge.post(crashing._backend.nursery.start_soon, crash)
    with pytest.raises(LocalError, match="planted"):
        await crashing.wait_closed()
    await other.connect(third.addresses[0])
    assert await other.ping(third.peer_id) > 0


class Network:
    """A TCP relay to a port of this machine, which can be cut: then it takes everything and delivers nothing."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.is_cut = False

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: list[asyncio.Task[None]] = []
        return self._server.sockets[0].getsockname()[1]

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _relay(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [to_near, to_far]
        self._pumps += [asyncio.create_task(self._pump(near, to_far)), asyncio.create_task(self._pump(far, to_near))]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            if not self.is_cut:
                writer.write(piece)


async def test_a_connection_that_a_network_swallows_is_given_up_by_both_sides(new_host, monkeypatch):
    """The trap: nothing is refused and nothing arrives, and TCP by itself would wait for many minutes."""
    monkeypatch.setattr(muxer, "_PING_EVERY_S", 0.3)
    monkeypatch.setattr(muxer, "_PONG_LIMIT_S", 1.0)
    one, other = await new_host(), await new_host()
    network = Network(int(other.addresses[0].split("/")[4]))
    async with network as port:
        await one.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{other.peer_id}")
        (connection,) = one._backend.host.get_network().get_connections()
        await until(lambda: has_ponged(one, connection.muxed_conn, 3))
        network.is_cut = True
        await until(lambda: disconnected(one, other.peer_id))
        await until(lambda: disconnected(other, one.peer_id))
        network.is_cut = False
        await one.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{other.peer_id}")
        assert await one.ping(other.peer_id) > 0


async def test_a_peer_that_vanished_without_a_word_and_came_back_is_heard_and_hears_within_seconds(runtime, new_host):
    """The trap: the connection that it left is still open here, and gossip goes on into it."""
    secret = os.urandom(32)
    hub = await new_host()
    at_hub = await hub.subscribe(TOPIC, anything)
    network = Network(int(hub.addresses[0].split("/")[4]))
    async with network as port:
        async with P2PHost.open(runtime, secret) as first:
            at_first = await first.subscribe(TOPIC, anything)
            await first.connect(f"/ip4/127.0.0.1/tcp/{port}/p2p/{hub.peer_id}")
            await say_until_heard(first, at_hub, b"first")
            await say_until_heard(hub, at_first, b"welcome")
            network.is_cut = True
        assert first.peer_id in await hub.peers()
        second = await new_host(secret)
        at_second = await second.subscribe(TOPIC, anything)
        await second.connect(hub.addresses[0])
        async with asyncio.timeout(20):  # less than until the pings of the lost connection give up
            await say_until_heard(second, at_hub, b"second")
            await say_until_heard(hub, at_second, b"back")
        assert len(hub._backend.host.get_network().get_connections()) == 1


async def test_a_peer_that_vanished_without_a_word_is_dialled_anew(runtime, new_host):
    secret = os.urandom(32)
    one = await new_host()
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        behind = reserved.getsockname()[1]
    network = Network(behind)
    async with network as port:
        address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer_id_of(SigningKey(secret).public_key)}"
        async with P2PHost.open(runtime, secret, f"/ip4/127.0.0.1/tcp/{behind}"):
            await one.connect(address)
            network.is_cut = True
        second = await new_host(secret, listen=f"/ip4/127.0.0.1/tcp/{behind}")
        network.is_cut = False  # new connections pass; the old one leads nowhere
        async with asyncio.timeout(20):
            await one.connect(address, timeout_s=20)
            assert await one.ping(second.peer_id) > 0


async def test_two_peers_that_dial_each_other_at_once_stay_connected(new_host):
    """A new connection does not end one that lives: each side would end the other's."""
    one, other = await new_host(), await new_host()
    await asyncio.gather(one.connect(other.addresses[0]), other.connect(one.addresses[0]))
    for _ in range(5):
        assert await one.ping(other.peer_id) > 0
        assert await other.ping(one.peer_id) > 0
    assert await one.peers() == [other.peer_id]


def anything(data: bytes) -> bytes:
    return data


async def say_until_heard(speaker: P2PHost, listener: Subscription[bytes], word: bytes) -> None:
    """Say a word again and again, as gossip is, until it is heard."""
    announcer = Announcer(speaker, TOPIC, interval_s=0.3)
    announcer.announce(b"", word, ttl_s=60)
    saying = asyncio.create_task(announcer.run())
    try:
        while await anext(listener) != word:
            pass
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def has_ponged(host: P2PHost, connection: muxer.GuardedYamux, times: int) -> bool:
    """Whether the peer has answered so many of the connection's own pings, and is still connected."""
    assert await host.peers()
    return connection._ping_id > times


async def connected(host: P2PHost, peer: str) -> bool:
    return peer in await host.peers()


async def disconnected(host: P2PHost, peer: str) -> bool:
    return peer not in await host.peers()


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # each turn waits for the network thread
            pass


async def test_starting_and_stopping_again_and_again_leaves_no_threads():
    before = set(threading.enumerate())
    for _ in range(3):
        async with (
            TrioRuntime.open() as first,
            TrioRuntime.open() as second,
            P2PHost.open(first, os.urandom(32)) as one,
            P2PHost.open(second, os.urandom(32)) as other,
        ):
            await one.connect(other.addresses[0])
    assert set(threading.enumerate()) - before == set()


PROGRAM = """
import asyncio, logging, os
from node.p2p import muxer
from node.p2p.gossip import Announcer, Subscription
from node.p2p.host import P2PHost
from node.p2p.runtime import TrioRuntime
from protocol.errors import RefusedError, UnreachableError

KEY = os.urandom(32)

async def main():
    async with TrioRuntime.open() as trio, P2PHost.open(trio, KEY) as one, P2PHost.open(trio, os.urandom(32)) as two:
        await one.connect(two.addresses[0])
        try:
            await one.request(two.peer_id, "/unknown/1", b"")
        except RefusedError:
            logging.getLogger("node.p2p.test").warning("ours")
    async with TrioRuntime.open() as runtime, P2PHost.open(runtime, os.urandom(32)) as one:
        try:
            await one.connect(two.addresses[0])
        except UnreachableError:
            print(len(logging.getLogger().handlers))

asyncio.run(main())
"""


async def test_libp2p_is_quiet_and_our_log_is_not():
    """In a program of its own, since the test runner has handlers on every logger."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert err.decode().splitlines() == ["ours"]
    assert out.decode().split() == ["0"]


async def test_identity_of_public_key(new_host):
    host = await new_host()
    assert public_key_of(host.peer_id) == host.public_key
