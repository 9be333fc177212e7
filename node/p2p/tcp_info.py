"""What Linux tells of a TCP connection: how far the peer is, and whether anything gets through."""

from __future__ import annotations

import socket
import sys

__all__ = ["is_unanswered", "round_trip_s"]

# Where `struct tcp_info` (linux/tcp.h) has them: a byte each, and microseconds in 32 bits.
_RETRANSMITS_AT = 2
_PROBES_AT = 3
_RTT_AT = 68


def round_trip_s(connection: socket.socket) -> float | None:
    """What the system has measured while it connected, however busy this process is; None where it does not tell."""
    info = _info(connection, _RTT_AT + 4)
    return int.from_bytes(info[_RTT_AT:], sys.byteorder) / 1_000_000 if info else None


def is_unanswered(connection: socket.socket) -> bool:
    """Whether data was sent a second time, or two questions were, since the peer's system was last heard.

    One question alone may have its answer on the way: on a connection whose window is full there is always one.
    """
    info = _info(connection, _PROBES_AT + 1)
    return bool(info) and (info[_RETRANSMITS_AT] > 0 or info[_PROBES_AT] > 1)


def _info(connection: socket.socket, size: int) -> bytes:
    if sys.platform != "linux":
        return b""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
