"""The frame decoder, fed with any bytes in any pieces."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from node.p2p.budget import ReceiveBudget
from node.p2p.link import MAX_HEADER_BYTES, PREFIX, Link, read_lengths
from node.p2p.tls import TlsSocket
from node.ports import STRANGER, Allowance, LinkRank
from protocol.errors import LostPeerError, MalformedError

MAX_PAYLOAD = 1000
MOST = Allowance(MAX_HEADER_BYTES, MAX_PAYLOAD, LinkRank.BUSY)
RANKS = st.sampled_from([LinkRank.STRANGER, LinkRank.BUSY])  # one is read frame by frame, the other ahead
FRAMES = st.lists(st.tuples(st.binary(max_size=300), st.binary(max_size=MAX_PAYLOAD)), max_size=6)


async def decode(rank: LinkRank, pieces: list[bytes]) -> tuple[list[tuple[bytes, bytes]], Exception]:
    """What a link makes of the pieces of a peer of this rank, and of the end after them."""
    stream = cast(TlsSocket, FedStream(pieces))
    link = Link(b"", stream, MAX_PAYLOAD, ReceiveBudget(), on_closed=lambda link: None)
    link.allow(lambda: Allowance(MAX_HEADER_BYTES, MAX_PAYLOAD, rank))
    return await receive_all(link)


class FedStream:
    """Hands out each piece by itself, and then the end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = deque(piece for piece in pieces if piece)
        self._pieces.append(b"")
        self._piece: bytes | None = None

    def read(self, most: int) -> bytes | None:
        if not self._piece:  # nothing yet, or the end
            return self._piece
        found, rest = self._piece[:most], self._piece[most:]
        self._piece = rest or None
        return found

    def read_into(self, buffer: memoryview) -> int | None:
        found = self.read(len(buffer))
        if found is None:
            return None
        buffer[: len(found)] = found
        return len(found)

    async def readable(self, done: Callable[[], bool] = lambda: True) -> None:
        self._piece = self._pieces.popleft()

    def abort(self, why: str = "") -> None:
        self._piece = b""


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


@settings(max_examples=at_length(60), deadline=None)
@given(RANKS, FRAMES, st.lists(st.integers(0, 10_000), max_size=8))
def test_frames_in_any_pieces(rank, frames, places):
    received, end = asyncio.run(decode(rank, cut(wire(frames), places)))
    assert received == frames
    assert isinstance(end, LostPeerError)


@settings(max_examples=at_length(60), deadline=None)
@given(RANKS, FRAMES, st.integers(0, 100_000))
def test_frames_cut_short(rank, frames, size):
    data = wire(frames)[:size]
    received, end = asyncio.run(decode(rank, [data]))
    assert received == frames[: len(received)]
    assert isinstance(end, LostPeerError)


@settings(max_examples=at_length(60), deadline=None)
@given(RANKS, st.binary(max_size=3000))
def test_any_bytes_end_in_a_typed_error(rank, data):
    received, end = asyncio.run(decode(rank, [data]))
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
