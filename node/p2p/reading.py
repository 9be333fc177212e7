"""libp2p's readers of messages that begin with their length, bounded in bytes and in time.

- Names of protocols are negotiated in messages for which the library has no bound at all, before any key is proven.
- RPCs are read as fast as they come, whatever each costs: here no faster than honest neighbours say them, so that a
  flood waits at the flooder's.
- An RPC of gossip may have a mebibyte, and nothing ends the wait for its last byte. Its length is read a byte at
  a time, each of which costs as much as a whole RPC: here what has come of an RPC is taken with one read.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import trio
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IncompleteReadError, MessageTooLarge
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub import pubsub

from node.p2p.guests import Room
from node.p2p.pace import Pace
from protocol.errors import JoulemeshError

__all__ = ["bound_libp2p_reads"]

_MAX_NAME_BYTES = 1024
"""Of a protocol's name, or a list of them."""
_RPC_LIMIT_S = 20.0
"""For one RPC to arrive, once it has begun."""
_RPCS_PER_S = 100.0
_RPCS_AT_ONCE = 1000
"""Of one stream: a neighbour of a thousand nodes says 50 a second."""
_MAX_LENGTH_BYTES = 10
_AHEAD_BYTES = 4 * 1024
"""Read at a time, where so much has come: an RPC, mostly, and rarely the beginning of the next."""
_read_ahead: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()
"""By stream: what was read of the next RPC."""
_paces: WeakKeyDictionary[Any, Pace] = WeakKeyDictionary()
"""By stream."""
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


async def _read_rpc(stream: Any, most: int) -> bytes:
    now = trio.current_time()
    await trio.sleep(_paces.setdefault(stream, Pace(_RPCS_PER_S, _RPCS_AT_ONCE, now)).take(now))
    reader = _Ahead(stream)
    first = await _read_exactly(reader, 1)  # a stream without anything to say may stay
    try:
        with trio.fail_after(_RPC_LIMIT_S):
            length = await _read_length(reader, most, first)
            with _rpcs.stay(stream.muxed_conn.peer_id, length):
                return await _read_exactly(reader, length)
    except (JoulemeshError, trio.TooSlowError) as error:
        raise ParseError(f"no whole RPC: {error}") from None  # which ends the stream


class _Ahead:
    """Reads of a stream in larger pieces than it is asked for; one at a time may be read from."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def read(self, size: int) -> bytes:
        data: bytes = _read_ahead.pop(self._stream, b"") or await self._stream.read(max(size, _AHEAD_BYTES))
        if len(data) > size:
            _read_ahead[self._stream] = data[size:]
        return data[:size]


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
