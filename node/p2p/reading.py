"""libp2p's readers of messages that begin with their length, bounded in bytes and in time.

- Names of protocols are negotiated in messages for which the library has no bound at all, before any key is proven.
- An RPC of gossip may have a mebibyte, and nothing ends the wait for its last byte.
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub import pubsub

from node.p2p.guests import Room
from protocol.errors import JoulemeshError

__all__ = ["bound_libp2p_reads"]

_MAX_NAME_BYTES = 1024
"""Of a protocol's name, or a list of them."""
_RPC_LIMIT_S = 20.0
"""For one RPC to arrive, once it has begun."""
_MAX_LENGTH_BYTES = 10
_rpcs = Room(16 * 1024 * 1024, 2 * 1024 * 1024)
"""Bytes of all RPCs that have not arrived whole, in the process, and of one peer."""


def bound_libp2p_reads() -> None:
    """Once for the process; again does nothing."""
    multiselect_communicator.read_delim = _read_name
    pubsub.read_varint_prefixed_bytes_limited = _read_rpc


async def _read_name(reader: Any) -> bytes:
    name = await _read_exactly(reader, await _read_length(reader, _MAX_NAME_BYTES))
    if not name.endswith(b"\n"):
        raise ParseError("a name without a line's end")
    return name[:-1]


async def _read_rpc(reader: Any, most: int) -> bytes:
    first = await _read_exactly(reader, 1)  # a stream without anything to say may stay
    try:
        with trio.fail_after(_RPC_LIMIT_S):
            length = await _read_length(reader, most, first)
            with _rpcs.stay(reader.muxed_conn.peer_id, length):
                return await _read_exactly(reader, length)
    except (JoulemeshError, trio.TooSlowError) as error:
        raise ParseError(f"no whole RPC: {error}") from None  # which ends the stream


async def _read_length(reader: Any, most: int, begun: bytes = b"") -> int:
    """An unsigned varint, of which the first byte may have been read."""
    length, shift, byte = 0, 0, begun
    for _ in range(_MAX_LENGTH_BYTES):
        value = (byte or await _read_exactly(reader, 1))[0]
        byte = b""
        length |= (value & 0x7F) << shift
        shift += 7
        if not value & 0x80:
            break
    else:
        raise ParseError("a length of more than 64 bits")
    if length > most:
        raise MessageTooLarge(f"{length} bytes where {most} are allowed")
    return length


async def _read_exactly(reader: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = await reader.read(size - len(data))
        if not chunk:
            raise IncompleteReadError("the stream ended", expected_bytes=size, received_bytes=len(data))
        data += chunk
    return bytes(data)
