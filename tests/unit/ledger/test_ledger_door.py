"""What of a connection's bytes reaches a parser at the ledger's door."""

from __future__ import annotations

import asyncio

import pytest

from node.ledger.door import MAX_HEADS, Door, open_sockets

ASK = b"GET /info HTTP/1.1\r\nHost: ledger\r\n\r\n"


class Parser(asyncio.Protocol):
    """Takes down what it is given, and answers nothing."""

    def __init__(self) -> None:
        self.given = b""
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.given += data
        if self.given.endswith(b"last"):
            self.ended.set()

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set()


async def _given(said: bytes) -> bytes:
    """What a parser is given of it."""
    parser = Parser()
    sockets = await open_sockets("127.0.0.1", 0)
    door = Door(sockets, lambda: parser, most=8)
    try:
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(said)
        ended = asyncio.create_task(parser.ended.wait())
        cut = asyncio.create_task(reader.read())
        await asyncio.wait({ended, cut}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        writer.close()
        await asyncio.gather(cut, return_exceptions=True)
    finally:
        await door.close()
    return parser.given


@pytest.mark.asyncio
async def test_a_request_comes_through_whatever_its_body_has() -> None:
    operation = b"POST /ops HTTP/1.1\r\nContent-Length: 12\r\n\r\n" + b"\r\n\r\n" * (MAX_HEADS - 1) + b"last"
    assert await _given(operation) == operation


@pytest.mark.asyncio
async def test_hundreds_of_requests_at_once_are_not_parsed() -> None:
    assert await _given(ASK * 200) == b""
