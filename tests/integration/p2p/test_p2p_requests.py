"""Requests and answers: refusals, limits, time, cancellation."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
import time
from concurrent.futures import Future

import pytest
import trio

from node.p2p import requests
from node.p2p.host import P2PHost
from protocol.encoding.codec import decode
from protocol.errors import (
    FundsError,
    LostPeerError,
    MalformedError,
    PeerError,
    RefusedError,
    RuleError,
    UnpaidError,
    UnreachableError,
)
from protocol.market.catalog import RequestRefused

pytestmark = pytest.mark.asyncio

ECHO = "/test/echo/1"
MEBIBYTE = 1024 * 1024


async def echo(_asker: bytes, question: bytes) -> bytes:
    return question


async def pair(new_host) -> tuple[P2PHost, P2PHost]:
    """Two hosts; the first is connected to the second."""
    one, other = await new_host(), await new_host()
    await one.connect(other.addresses[0])
    return one, other


def connections(host: P2PHost) -> list[object]:
    """The connection objects of a host: the same as long as none broke."""
    return list(host._backend.host.get_network().get_connections())


@pytest.mark.parametrize("size", [0, 1, 1000, 3 * MEBIBYTE])
async def test_answer_of_any_size(new_host, size):
    one, other = await pair(new_host)
    other.serve(ECHO, echo, max_request=4 * MEBIBYTE)
    question = os.urandom(size)
    assert await one.request(other.peer_id, ECHO, question, max_reply=4 * MEBIBYTE) == question


async def test_the_handler_knows_who_asks(new_host):
    one, other = await pair(new_host)

    async def who(asker: bytes, _question: bytes) -> bytes:
        return asker

    one.serve("/test/who/1", who)
    other.serve("/test/who/1", who)
    assert await one.request(other.peer_id, "/test/who/1", b"") == one.public_key
    assert await other.request(one.peer_id, "/test/who/1", b"") == other.public_key  # over the same connection


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnpaidError("no voucher"), "unpaid"),
        (RuleError("too late", code="expired-session"), "expired-session"),
        (FundsError("nothing left"), "funds"),
        (PeerError("x" * 5000, code="c" * 5000), "c" * 96),
        (PeerError("bell \a and \n newline", code="odd\x00"), "odd "),
    ],
)
async def test_a_refusal_carries_its_code(new_host, error, code):
    one, other = await pair(new_host)

    async def refuse(_asker: bytes, _question: bytes) -> bytes:
        raise error

    other.serve(ECHO, refuse)
    with pytest.raises(RefusedError) as caught:
        await one.request(other.peer_id, ECHO, b"")
    assert caught.value.code == code
    assert len(caught.value.message) <= 512


async def test_a_bug_in_a_handler_is_logged_and_tells_the_asker_nothing(new_host, caplog):
    one, other = await pair(new_host)

    async def broken(_asker: bytes, _question: bytes) -> bytes:
        raise KeyError("a secret detail")

    other.serve(ECHO, broken)
    with pytest.raises(RefusedError) as caught:
        await one.request(other.peer_id, ECHO, b"")
    assert caught.value.code == "internal"
    assert "secret" not in caught.value.message
    assert "a secret detail" in caplog.text


async def test_unknown_protocol(new_host):
    one, other = await pair(new_host)
    with pytest.raises(RefusedError) as caught:
        await one.request(other.peer_id, "/test/unknown/1", b"")
    assert caught.value.code == "no-such-protocol"


async def test_unknown_peer(new_host):
    one, stranger = await new_host(), await new_host()
    with pytest.raises(UnreachableError):
        await one.request(stranger.peer_id, ECHO, b"")
    with pytest.raises(MalformedError):
        await one.request("16Uiu2nonsense", ECHO, b"")


async def test_too_long_a_question_is_refused_before_it_is_read(new_host):
    one, other = await pair(new_host)
    asked = []

    async def remember(_asker: bytes, question: bytes) -> bytes:
        asked.append(len(question))
        return b""

    other.serve(ECHO, remember, max_request=1000)
    await one.request(other.peer_id, ECHO, bytes(1000))
    before = connections(one)
    for size in (1001, 8 * MEBIBYTE):
        with pytest.raises(RefusedError) as caught:
            await one.request(other.peer_id, ECHO, bytes(size))
        assert caught.value.code == "too-long"
    assert asked == [1000]
    assert connections(one) == before


async def test_too_long_an_answer_is_malformed(new_host):
    one, other = await pair(new_host)
    other.serve(ECHO, echo)
    assert len(await one.request(other.peer_id, ECHO, bytes(1000), max_reply=1000)) == 1000
    with pytest.raises(MalformedError) as caught:
        await one.request(other.peer_id, ECHO, bytes(1001), max_reply=1000)
    assert caught.value.code == "too-long"


async def test_an_answer_that_does_not_come_in_time(new_host):
    one, other = await pair(new_host)

    async def never(_asker: bytes, _question: bytes) -> bytes:
        await asyncio.Event().wait()
        return b""

    other.serve(ECHO, never)
    with pytest.raises(LostPeerError, match="within"):
        await one.request(other.peer_id, ECHO, b"", timeout_s=0.2)
    other.serve("/test/slow/1", never, timeout_s=0.2)
    with pytest.raises(RefusedError) as caught:
        await one.request(other.peer_id, "/test/slow/1", b"")
    assert caught.value.code == "timeout"


async def test_cancelled_requests_leave_the_connection_whole(new_host):
    """The trap: a task cancelled in the middle of a write breaks the connection's encryption for every stream."""
    one, other = await pair(new_host)
    arrived = []

    async def never(_asker: bytes, question: bytes) -> bytes:
        arrived.append(len(question))
        await asyncio.Event().wait()
        return b""

    other.serve(ECHO, echo)
    other.serve("/test/never/1", never, max_request=8 * MEBIBYTE)
    before = connections(one), connections(other)
    question = bytes(8 * MEBIBYTE)
    for attempt in range(12):
        with pytest.raises(LostPeerError):
            await one.request(other.peer_id, "/test/never/1", question, timeout_s=0.004 * (attempt + 1))
    assert await one.request(other.peer_id, ECHO, b"still there") == b"still there"
    assert len(arrived) < 12  # some were cut short in the middle of a write
    assert (connections(one), connections(other)) == before


async def test_one_peer_cannot_take_every_handler(new_host):
    one, other = await pair(new_host)
    third = await new_host()
    await third.connect(other.addresses[0])
    go_on = asyncio.Event()

    async def wait(_asker: bytes, _question: bytes) -> bytes:
        await go_on.wait()
        return b"done"

    other.serve(ECHO, wait)
    greedy = [asyncio.create_task(one.request(other.peer_id, ECHO, b"")) for _ in range(40)]
    refused, _ = await asyncio.wait(greedy, return_when=asyncio.FIRST_COMPLETED)
    with pytest.raises(RefusedError) as caught:
        refused.pop().result()
    assert caught.value.code == "busy"
    modest = asyncio.create_task(third.request(other.peer_id, ECHO, b""))
    go_on.set()
    assert await modest == b"done"
    outcomes = await asyncio.gather(*greedy, return_exceptions=True)
    assert outcomes.count(b"done") >= 32


async def test_one_peer_cannot_ask_without_end(new_host):
    one, other = await pair(new_host)
    third = await new_host()
    await third.connect(other.addresses[0])
    other.serve(ECHO, echo, rate=0.001, burst=3)
    other.serve("/test/other/1", echo)
    for _ in range(3):
        assert await one.request(other.peer_id, ECHO, b"question") == b"question"
    with pytest.raises(RefusedError) as caught:
        await one.request(other.peer_id, ECHO, b"question")
    assert caught.value.code == "busy"
    assert await third.request(other.peer_id, ECHO, b"question") == b"question"
    assert await one.request(other.peer_id, "/test/other/1", b"question") == b"question"


async def test_slow_questions_make_room_for_quick_ones(new_host, monkeypatch):
    """Questions that never arrive whole: each peer may hold so many bytes, and all of them so many."""
    monkeypatch.setattr(requests, "_ARRIVING_BYTES", 4000)
    monkeypatch.setattr(requests, "_ARRIVING_BYTES_OF_PEER", 2000)
    host, slow, quick = await new_host(), await new_host(), await new_host()
    host.serve(ECHO, echo, max_request=1000)
    for each in (slow, quick):
        await each.connect(host.addresses[0])
    unfinished = [asyncio.create_task(ask_without_end(slow, host.peer_id)) for _ in range(4)]
    ended, _ = await asyncio.wait(unfinished, return_when=asyncio.FIRST_COMPLETED)
    assert all(task.result() == b"busy" for task in ended)  # beyond its own share
    for _ in range(3):
        assert await quick.request(host.peer_id, ECHO, bytes(1000)) == bytes(1000)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)


async def ask_without_end(host: P2PHost, peer: str) -> bytes:
    """Send a question but for its last byte; the code of the refusal that comes all the same."""

    async def run() -> bytes:
        stream = await requests.open_stream(host._backend.host, peer, ECHO)
        await stream.write(struct.pack(">I", 1000) + bytes(999))
        _, length = struct.unpack(">BI", await requests._read_exactly(stream, 5))
        return decode(await requests._read_exactly(stream, length), RequestRefused).code.encode()

    return await host._call(run)


async def test_a_question_that_does_not_end_in_time_is_given_up(new_host, monkeypatch):
    monkeypatch.setattr(requests, "_QUESTION_LIMIT_S", 0.1)
    one, other = await pair(new_host)
    other.serve(ECHO, echo, max_request=1000)
    with pytest.raises(LostPeerError):
        await ask_without_end(one, other.peer_id)


async def test_answers_that_nobody_takes_make_room(new_host):
    """The trap: a long answer is kept until it has been written, so whoever reads nothing holds it in memory."""
    host, greedy, honest = await new_host(), await new_host(), await new_host()
    answered = []

    async def long(_asker: bytes, _question: bytes) -> bytes:
        answered.append(True)
        return bytes(8 * MEBIBYTE)

    host.serve(ECHO, long, at_once=2, at_once_of_peer=2)
    for each in (greedy, honest):
        await each.connect(host.addresses[0])

    async def ask_and_not_read() -> None:
        for _ in range(2):
            stream = await requests.open_stream(greedy._backend.host, host.peer_id, ECHO)
            await stream.write(struct.pack(">I", 0))

    await greedy._call(ask_and_not_read)
    async with asyncio.timeout(10):
        while len(answered) < 2:
            await host.peers()
    with pytest.raises(RefusedError) as caught:
        await greedy.request(host.peer_id, ECHO, b"")
    assert caught.value.code == "busy"
    assert len(await honest.request(host.peer_id, ECHO, b"", max_reply=8 * MEBIBYTE)) == 8 * MEBIBYTE


async def test_streams_of_one_peer_are_bounded(new_host):
    host, greedy, honest = await new_host(), await new_host(), await new_host()
    host.serve(ECHO, echo)
    for each in (greedy, honest):
        await each.connect(host.addresses[0])

    async def open_many() -> int:
        connection = greedy._backend.host.get_network().get_connections()[0]
        streams = [await connection.muxed_conn.open_stream() for _ in range(100)]
        ended = 0
        with trio.fail_after(10):
            while ended < 30:
                ended = sum(stream.reset_received for stream in streams)
                await trio.lowlevel.checkpoint()
        return ended

    assert await greedy._call(open_many) >= 30
    assert await honest.request(host.peer_id, ECHO, b"alive") == b"alive"


async def test_a_busy_event_loop_does_not_reset_its_streams(runtime, new_host):
    """The trap: a stream whose reader does not read for 5 s is reset. So nothing waits for the event loop to read."""
    one = await new_host()
    begun_as: Future[tuple[str, str]] = Future()
    finish = threading.Event()
    blocked_s = 6.0

    async def serve() -> None:
        async with P2PHost.open(runtime, os.urandom(32)) as other:
            other.serve(ECHO, echo, max_request=4 * MEBIBYTE)
            begun_as.set_result((other.peer_id, other.addresses[0]))
            time.sleep(blocked_s)  # noqa: ASYNC251 - the busy event loop that is tested
            await asyncio.to_thread(finish.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        peer, address = begun_as.result(5)
        await one.connect(address)
        before = connections(one)
        question = os.urandom(3 * MEBIBYTE)
        begun = time.monotonic()
        answer = await one.request(peer, ECHO, question, max_reply=4 * MEBIBYTE)
        assert time.monotonic() - begun > 5
        assert answer == question
        assert connections(one) == before
    finally:
        finish.set()
        await asyncio.to_thread(thread.join)
