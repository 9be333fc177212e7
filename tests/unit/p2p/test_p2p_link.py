"""The frame decoder, fed with any bytes in any pieces."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.p2p.budget import ReceiveBudget
from node.p2p.link import MAX_HEADER_BYTES, PREFIX, Link, read_lengths
from node.p2p.tls import TlsSocket
from node.ports import STRANGER, Allowance, LinkRank
from protocol.errors import LostPeerError, MalformedError

MAX_PAYLOAD = 1000
MOST = Allowance(MAX_HEADER_BYTES, MAX_PAYLOAD, LinkRank.BUSY)
FRAMES = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=MAX_PAYLOAD)), max_size=6)


async def decode(pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes]], Exception]:
    """What a link makes of the pieces and the end after them. Its stream is fed by hand."""
    stream = FedStream()
    link = Link(b"", cast(TlsSocket, stream), MAX_PAYLOAD, ReceiveBudget(), on_closed=lambda link: None)
    link.allow(lambda: MOST)
    receiving = asyncio.create_task(receive_all(link))
    for piece in pieces:
        await stream.feed(piece)
    await stream.feed(b"")
    return await receiving


class FedStream:
    """Hands out each piece by itself, and then the end."""

    def __init__(self) -> None:
        self._piece: bytes | None = None
        self._has_piece = asyncio.Event()
        self._wants_piece = asyncio.Event()

    async def feed(self, piece: bytes) -> None:
        self._wants_piece.clear()
        self._piece = piece
        self._has_piece.set()
        if piece:
            await self._wants_piece.wait()

    def read_into(self, buffer: memoryview) -> int | None:
        if self._piece is None:
            return None
        count = min(len(buffer), len(self._piece))
        buffer[:count] = self._piece[:count]
        if self._piece:
            self._piece = self._piece[count:] or None
        return count

    async def readable(self) -> None:
        self._has_piece.clear()
        self._wants_piece.set()
        await self._has_piece.wait()

    def abort(self) -> None:
        self._piece = None
        self._wants_piece.set()
        self.feed = self.ignore  # type: ignore[method-assign]

    async def ignore(self, piece: bytes) -> None:
        """Nobody reads any more."""


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
    assert read_lengths(PREFIX.pack(*lengths), MOST) == lengths


@pytest.mark.parametrize("lengths", [(MAX_HEADER_BYTES + 1, 0), (0, MAX_PAYLOAD + 1), (2**32 - 1, 0), (0, 2**32 - 1)])
def test_lengths_beyond_the_limits(lengths):
    with pytest.raises(MalformedError) as caught:
        read_lengths(PREFIX.pack(*lengths), MOST)
    assert caught.value.code == "too-long"


@pytest.mark.parametrize("lengths", [(4096, 4096), (0, 0)])
def test_a_stranger_may_send_what_a_refusal_takes(lengths):
    assert read_lengths(PREFIX.pack(*lengths), STRANGER) == lengths


@pytest.mark.parametrize("lengths", [(4097, 0), (0, 4097)])
def test_a_stranger_may_send_no_more(lengths):
    with pytest.raises(MalformedError):
        read_lengths(PREFIX.pack(*lengths), STRANGER)
