"""`node.ports.Link`, of both kinds: over TLS on loopback, and in memory as the pipeline's tests have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from memory_links import link_pair

from node.p2p.direct import DataPlane, Listener
from node.ports import STRANGER, Allowance, Link, LinkRank
from protocol.errors import LostPeerError, MalformedError
from protocol.identity.signing import SigningKey

pytestmark = pytest.mark.asyncio

LEFT, RIGHT = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
Ends = tuple[Link, Link]


@pytest_asyncio.fixture(params=["memory", "tls"])
async def ends(request: pytest.FixtureRequest) -> AsyncIterator[Ends]:
    """What the left side holds, and what the right side holds."""
    if request.param == "memory":
        yield link_pair(LEFT.public_key, RIGHT.public_key)
        return
    arrived: asyncio.Queue[Link] = asyncio.Queue()
    over = asyncio.Event()

    async def hold(link: Link) -> None:
        await arrived.put(link)
        await over.wait()

    with Listener.open("127.0.0.1", 0) as listener:
        async with DataPlane(LEFT.secret) as dialling, DataPlane(RIGHT.secret) as accepting:
            serving = asyncio.create_task(accepting.serve(listener, hold))
            yield await dialling.connect(listener.address, RIGHT.public_key), await arrived.get()
            over.set()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def test_each_end_knows_the_others_key(ends: Ends) -> None:
    left, right = ends
    assert (left.public_key, right.public_key) == (RIGHT.public_key, LEFT.public_key)


async def test_frames_come_in_order_with_their_payloads(ends: Ends) -> None:
    left, right = ends
    frames = [(b"header %d" % number, bytes(number)) for number in range(20)]
    for header, payload in frames:
        await left.send(header, memoryview(payload))
    assert [await right.receive() for _ in frames] == frames
    await right.send(b"back")
    assert await left.receive() == (b"back", b"")


async def test_what_was_sent_before_a_close_is_delivered_and_then_the_end_comes(ends: Ends) -> None:
    left, right = ends
    await left.send(b"last word", b"payload")
    await left.close()
    assert await right.receive() == (b"last word", b"payload")
    for _ in range(2):
        with pytest.raises(LostPeerError):
            await right.receive()


async def test_who_waits_hears_that_the_other_has_gone(ends: Ends) -> None:
    left, right = ends
    waiting = asyncio.create_task(right.receive())
    await left.send(b"one")
    assert await waiting == (b"one", b"")
    waiting = asyncio.create_task(right.receive())
    await left.close()
    with pytest.raises(LostPeerError):
        await waiting


async def test_a_closed_end_neither_sends_nor_receives(ends: Ends) -> None:
    left, _ = ends
    await left.close()
    await left.close()
    with pytest.raises(LostPeerError):
        await left.send(b"too late")
    with pytest.raises(LostPeerError):
        await left.receive()


SOME = Allowance(header=100, payload=10_000, rank=LinkRank.BUSY)


@pytest.mark.parametrize(("header", "payload"), [(101, 0), (0, 10_001)])
async def test_a_frame_beyond_what_the_peer_may_send_ends_the_link(ends: Ends, header: int, payload: int) -> None:
    left, right = ends
    right.allow(lambda: SOME)
    await left.send(bytes(100), bytes(10_000))
    await left.send(bytes(header), bytes(payload))
    assert await right.receive() == (bytes(100), bytes(10_000))
    with pytest.raises(MalformedError) as caught:
        await right.receive()
    assert caught.value.code == "too-long"
    with pytest.raises(LostPeerError):
        await right.receive()


async def test_a_peer_of_which_nothing_is_said_may_send_what_a_stranger_may(ends: Ends) -> None:
    left, right = ends
    await left.send(bytes(STRANGER.header), bytes(STRANGER.payload))
    assert await right.receive() == (bytes(STRANGER.header), bytes(STRANGER.payload))
    await left.send(b"", bytes(STRANGER.payload + 1))
    with pytest.raises(MalformedError):
        await right.receive()


async def test_what_a_peer_may_send_is_asked_again_for_each_frame(ends: Ends) -> None:
    left, right = ends
    now = STRANGER
    right.allow(lambda: now)
    waiting = asyncio.create_task(right.receive())
    await asyncio.sleep(0)
    now = SOME
    await left.send(b"", bytes(10_000))
    assert await waiting == (b"", bytes(10_000))
    now = STRANGER
    await left.send(b"", bytes(10_000))
    with pytest.raises(MalformedError):
        await right.receive()
