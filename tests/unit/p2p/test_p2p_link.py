"""The frame decoder, fed with any bytes in any pieces."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.p2p.link import MAX_HEADER_BYTES, PREFIX, Link, read_lengths
from protocol.errors import LostPeerError, MalformedError

MAX_PAYLOAD = 1000
FRAMES = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=MAX_PAYLOAD)), max_size=6)


async def decode(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes]], Exception]:
    """What a link makes of the pieces and the end after them. Its connection is real, the bytes are fed by hand."""
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        reader = asyncio.StreamReader()
        link = Link(b"", reader, writer, MAX_PAYLOAD, on_closed=lambda link: None)
        receiving = asyncio.create_task(receive_all(link))
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)  # lets the link have each piece by itself
        reader.feed_eof()
        outcome = await receiving
        await link.close()
        return outcome


async def receive_all(link: Link) -> tuple[list[tuple[bytes, bytes]], Exception]:
    frames = []
    while True:
        try:
            frames.append(await link.receive())
        except (LostPeerError, MalformedError) as error:
            return frames, error


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


def wire(frames: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(PREFIX.pack(len(header), len(payload)) + header + payload for header, payload in frames)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.lists(st.integers(0, 10_000), max_size=8))
def test_frames_in_any_pieces(frames, places):
    received, end = asyncio.run(decode(cut(wire(frames), places)))
    assert received == frames
    assert isinstance(end, LostPeerError)


@settings(max_examples=60, deadline=None)
@given(FRAMES, st.integers(0, 100_000))
def test_frames_cut_short(frames, size):
    data = wire(frames)[:size]
    received, end = asyncio.run(decode([data]))
    assert received == frames[: len(received)]
    assert isinstance(end, LostPeerError)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_end_in_a_typed_error(data):
    received, end = asyncio.run(decode([data]))
    assert data.startswith(wire(received))
    rest = data[len(wire(received)) :]
    if isinstance(end, MalformedError):
        header, payload = struct.unpack(">II", rest[:8])
        assert header > MAX_HEADER_BYTES or payload > MAX_PAYLOAD


@pytest.mark.parametrize("lengths", [(0, 0), (MAX_HEADER_BYTES, MAX_PAYLOAD)])
def test_lengths_within_the_limits(lengths):
    assert read_lengths(PREFIX.pack(*lengths), MAX_PAYLOAD) == lengths


@pytest.mark.parametrize("lengths", [(MAX_HEADER_BYTES + 1, 0), (0, MAX_PAYLOAD + 1), (2**32 - 1, 0), (0, 2**32 - 1)])
def test_lengths_beyond_the_limits(lengths):
    with pytest.raises(MalformedError) as caught:
        read_lengths(PREFIX.pack(*lengths), MAX_PAYLOAD)
    assert caught.value.code == "too-long"
