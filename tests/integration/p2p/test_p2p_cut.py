"""A link whose way is cut off ends soon, whoever sends over it: real namespaces, real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from node.demo.wan import Wan
from node.p2p import link as link_module
from node.p2p import tls
from node.p2p.direct import DataPlane, Link
from protocol.errors import ConfigurationError, LostPeerError
from protocol.identity.signing import SigningKey

pytestmark = pytest.mark.asyncio


@pytest.fixture
def wan() -> Iterator[Wan]:
    """Two hosts, a millisecond apart."""
    try:
        with Wan(("here", "there"), round_trip_s=0.001) as hosts:
            yield hosts
    except ConfigurationError as error:
        pytest.skip(error.message)


async def test_both_ends_of_a_link_that_is_cut_off_find_out(
    wan: Wan, new_plane: Callable[..., DataPlane], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has sent what does not arrive, and one only listens."""
    monkeypatch.setattr(link_module, "UNANSWERED_S", 0.5)
    monkeypatch.setattr(tls, "QUIET_S", 1)
    monkeypatch.setattr(tls, "ASKED_EVERY_S", 1)
    secret, arrived, found = os.urandom(32), asyncio.Event(), asyncio.Event()

    async def listen(link: Link) -> None:
        await link.receive()
        arrived.set()
        try:
            await link.receive()
        except LostPeerError:
            found.set()
            raise

    plane = new_plane(listen, secret=secret)
    with wan.here("there"):
        address = await plane.listen(wan.address("there"))
    dialling = new_plane()
    with wan.here("here"):
        link = await dialling.connect(address, SigningKey(secret).public_key)
    await link.send(b"before")
    await arrived.wait()
    wan.cut("there")
    async with asyncio.timeout(10):
        await link.send(b"lost")
        with pytest.raises(LostPeerError, match="nothing gets through"):
            await link.receive()
        await found.wait()


async def test_a_peer_that_takes_nothing_keeps_its_link(new_plane: Callable[..., DataPlane]) -> None:
    """For as long as it likes: its system says that it lives whenever ours asks whether there is room."""
    secret, reads, read = os.urandom(32), asyncio.Event(), asyncio.Event()

    async def stall(link: Link) -> None:
        await reads.wait()
        assert (await link.receive())[0] == b"long"
        read.set()

    address = await new_plane(stall, secret=secret).listen()
    link = await new_plane().connect(address, SigningKey(secret).public_key)
    sending = asyncio.create_task(link.send(b"long", bytes(32 << 20)))
    now = asyncio.get_running_loop().time()
    while not sending.done() and (times := asked(link)) < 4:
        link.end_if_cut_off(now + 100 * times)
        await asyncio.sleep(0.01)
    reads.set()
    async with asyncio.timeout(10):
        await sending
        await read.wait()


def asked(link: Link) -> int:
    """How often the system has asked a peer whose window is full, each time after twice as long (`tcpi_backoff`)."""
    return link._stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 5)[4]
