"""Attacks on the ledger's port by parties without money, against a process of its own with few descriptors.

Honest and hostile share one address here, as behind one NAT.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from ledger_process import LedgerProcess, started_ledger
from ledger_world import CLIENT, OPERATOR, STRANGER, HandClock, ledger_settings, withdraw

from node.ledger import LedgerClient, Proven, run_ledger
from node.ledger.door import connections_within
from protocol.errors import UnreachableError

DESCRIPTORS = 1_024
MOST = connections_within(DESCRIPTORS)
CROWD = 1_100
"""Connections of one attack: more than the process has descriptors."""

TLS_HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(500)
SLOW = b"POST /ops HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow"
ENDLESS = (
    b"POST /ops HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"400\r\n" + b"x" * 1024 + b"\r\n") * 64
)
HUGE_HEAD = b"GET /info HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 900) for n in range(80))
LONG_LINE = b"GET /" + b"a" * 60_000
BROKEN = (
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /info HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /ops HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    b"POST /ops HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnothex\r\n",
    b"POST /ops HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    b"GET /info HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n" + b"z" * 4000,
    b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"GET /entry/%00 HTTP/1.1\r\nHost: x\r\n\r\n" * 400,
)


@pytest_asyncio.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[LedgerProcess]:
    async with started_ledger(tmp_path, descriptors=DESCRIPTORS) as ledger, LedgerClient(ledger.url) as client:
        await client.faucet(CLIENT.address, 10**9)
        yield ledger
        assert ledger.process.returncode is None
        assert "Traceback" not in ledger.log.read_text()
        assert ledger.log.stat().st_size < 2_000


def _connect(port: int, sent: Sequence[bytes], count: int) -> list[socket.socket]:
    opened = []
    for number in range(count):
        each = socket.create_connection(("127.0.0.1", port), timeout=10)
        each.setblocking(False)
        opened.append(each)
        with contextlib.suppress(OSError):  # it was sent away already
            each.send(sent[number % len(sent)])
    return opened


@asynccontextmanager
async def crowd(ledger: LedgerProcess, sent: Sequence[bytes], count: int = CROWD) -> AsyncIterator[None]:
    """Connections that say this and are held open, without looking whether the ledger holds them too."""
    opened = await asyncio.to_thread(_connect, ledger.port, sent, count)
    try:
        yield
    finally:
        for each in opened:
            each.close()


async def honest_round(ledger: LedgerProcess) -> None:
    """A newcomer at the same address asks, and has an operation taken, long before the crowd is given up."""
    async with asyncio.timeout(20), LedgerClient(ledger.url) as client:
        await client.submit(withdraw(1), CLIENT)


async def descriptors_back(ledger: LedgerProcess, most: int) -> None:
    async with asyncio.timeout(20):
        while ledger.descriptors() > most:  # noqa: ASYNC110 - another process's, which tells of nothing
            await asyncio.sleep(0.05)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sent",
    [(b"",), (b"GET /inf",), (SLOW,), (b"\x00garbage",), (TLS_HELLO,), (HUGE_HEAD,), (LONG_LINE,), (ENDLESS,), BROKEN],
    ids=["silent", "half a head", "half a body", "garbage", "tls", "huge head", "long line", "endless", "broken"],
)
async def test_a_crowd_without_a_whole_request_keeps_nobody_out(ledger: LedgerProcess, sent: Sequence[bytes]) -> None:
    async with crowd(ledger, sent, 50):
        await honest_round(ledger)
    descriptors, memory = ledger.descriptors(), ledger.resident_mib()
    async with crowd(ledger, sent):
        await honest_round(ledger)
        assert ledger.descriptors() <= MOST + descriptors
    await descriptors_back(ledger, descriptors)
    assert ledger.resident_mib() < memory + 10


@pytest.mark.asyncio
async def test_many_that_are_gone_at_once_leave_nothing_behind(ledger: LedgerProcess) -> None:
    for _ in range(3):
        async with crowd(ledger, (b"",), 100):
            pass
    await honest_round(ledger)
    descriptors, memory = ledger.descriptors(), ledger.resident_mib()
    for _ in range(CROWD // 100):
        async with crowd(ledger, (b"", b"G", SLOW, TLS_HELLO), 100):
            pass
    await honest_round(ledger)
    await descriptors_back(ledger, descriptors)
    assert ledger.resident_mib() < memory + 10


@pytest.mark.asyncio
async def test_idle_connections_after_a_request_give_way_to_newcomers(ledger: LedgerProcess) -> None:
    """Whoever was answered keeps its place for a while, and loses it to a newcomer where all are taken."""
    await honest_round(ledger)
    descriptors = ledger.descriptors()
    async with LedgerClient(ledger.url) as proven:
        await proven.submit(withdraw(1), CLIENT)
        idle = b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n"
        async with crowd(ledger, (idle,)), crowd(ledger, (idle, b"")):
            await honest_round(ledger)
            await proven.submit(withdraw(1), CLIENT)
    await descriptors_back(ledger, descriptors)


@pytest.mark.asyncio
async def test_who_does_not_read_is_given_up(ledger: LedgerProcess) -> None:
    """Long answers, asked for again and again, and not one byte of them read."""
    async with LedgerClient(ledger.url) as client:
        for _ in range(16):
            await asyncio.gather(*(client.faucet(STRANGER.address, 1) for _ in range(16)))
    memory = ledger.resident_mib()
    asked = b"GET /tile/entries/000 HTTP/1.1\r\nHost: x\r\n\r\n"
    async with crowd(ledger, (asked, asked * 60), 300):
        await honest_round(ledger)
        assert ledger.resident_mib() < memory + 100
    await honest_round(ledger)


@pytest.mark.asyncio
async def test_an_address_that_floods_delays_newcomers_and_refuses_none(ledger: LedgerProcess) -> None:
    """Twenty connections ask as fast as they are answered; newcomers and those who pay are served beside them."""
    ended = asyncio.Event()

    async def flood() -> int:
        answered = 0
        while not ended.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", ledger.port)
            try:
                while not ended.is_set():
                    writer.write(b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n")
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length:")[2].split(b"\r")[0])
                    await reader.readexactly(length)
                    answered += 1
            except (OSError, asyncio.IncompleteReadError):
                continue
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        return answered

    floods = [asyncio.create_task(flood()) for _ in range(20)]
    try:
        async with LedgerClient(ledger.url) as proven:
            for _ in range(20):
                await honest_round(ledger)
                await proven.submit(withdraw(1), CLIENT)
    finally:
        ended.set()
        await asyncio.gather(*floods)


@pytest.mark.asyncio
async def test_a_process_without_descriptors_lives_on_and_says_so_once(tmp_path: Path) -> None:
    """Where the bound is set too high: the operating system refuses, again and again."""
    async with started_ledger(tmp_path, descriptors=120, connections=5_000) as ledger:
        async with LedgerClient(ledger.url) as client:
            await client.faucet(CLIENT.address, 10**9)
        async with crowd(ledger, (b"", b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\n"), 400):
            await honest_round(ledger)
        await honest_round(ledger)
        said = ledger.log.read_text()
        assert "could not be accepted" in said
        assert "Traceback" not in said
        assert len(said.splitlines()) < 10


@pytest.mark.asyncio
async def test_a_ledger_that_stops_under_load_says_nothing_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_ledger(ledger_settings(tmp_path), OPERATOR, HandClock()) as ledger:
        port = int(ledger.url.rsplit(":", 1)[1])
        async with LedgerClient(ledger.url) as client:
            await client.connect()
            asked = [asyncio.create_task(client.faucet(STRANGER.address, 1)) for _ in range(50)]
            opened = await asyncio.to_thread(_connect, port, (b"", SLOW, b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n"), 60)
            await asked[0]
            opened.pop().close()
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(end, Proven | UnreachableError | RuntimeError) for end in ends)
    for each in opened:
        each.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
