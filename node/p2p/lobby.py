"""Connections that have not said a whole first word yet: a socket each, and not so much as a task or a TLS state.

How long a first word is, its own first bytes say. The rest is left to the kernel, which tells when it is there; so who
begins a handshake and says no more costs what one costs who says nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from node.p2p.link_places import Origins
from node.p2p.tls import hang_up

__all__ = ["Lobby"]

_TLS_HANDSHAKE = b"\x16\x03"
"""How every TLS connection begins: a record of the handshake, of version 3.x."""
_RECORD_HEAD = 5
"""Bytes of a record before its content: kind, version, and how long that is."""
_MOST_RECORD = _RECORD_HEAD + 16 * 1024


class Lobby:
    """Hands on whoever begins as TLS does, with a whole record.

    Args:
        most: connections; beyond it the oldest goes, of the origin that has most of them.
        limit_s: seconds for a first word.
        speaks: takes a connection over, and where it comes from.
    """

    def __init__(self, most: int, limit_s: float, speaks: Callable[[socket.socket, str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._limit_s = limit_s
        self._speaks = speaks
        self._came: dict[socket.socket, tuple[float, str]] = {}
        """When each came, and where from."""
        self._mute = Origins[socket.socket]()

    def __len__(self) -> int:
        return len(self._mute)

    def add(self, connection: socket.socket, origin: str) -> None:
        """Wait for a connection's first word, which may be there already."""
        missing = _missing(connection)
        if missing == 0:
            self._speaks(connection, origin)
        elif missing is None:
            hang_up(connection)
        else:
            if len(self._mute) >= self._most:
                self.let_go()
            self._came[connection] = (self._loop.time(), origin)
            self._mute.add(connection, origin)
            _wake_at(connection, missing)
            self._loop.add_reader(connection.fileno(), self._look_at, connection, origin, missing)

    def let_go(self) -> bool:
        """End one; False without any."""
        if not self._mute:
            return False
        connection, origin = self._mute.next_to_leave()
        self._discard(connection, origin)
        hang_up(connection)
        return True

    def sweep(self, now: float) -> None:
        """End those that have said nothing in time."""
        for connection, (since, origin) in tuple(self._came.items()):
            if now - since > self._limit_s:
                self._discard(connection, origin)
                hang_up(connection)

    def close(self) -> None:
        """End all of them."""
        while self.let_go():
            pass

    def _look_at(self, connection: socket.socket, origin: str, awaited: int) -> None:
        missing = _missing(connection)
        if missing and missing > awaited:  # its head says how much more there is to be
            _wake_at(connection, missing)
            self._loop.add_reader(connection.fileno(), self._look_at, connection, origin, missing)
            return
        self._discard(connection, origin)
        if missing is None:
            hang_up(connection)
        else:  # all of it, or all that there will be: TLS finds out
            _wake_at(connection, 1)
            self._speaks(connection, origin)

    def _discard(self, connection: socket.socket, origin: str) -> None:
        self._loop.remove_reader(connection.fileno())
        del self._came[connection]
        self._mute.discard(connection, origin)


def _missing(connection: socket.socket) -> int | None:
    """0 where a whole record is there, None where none will be; else how many bytes there have to be to know more."""
    try:
        head = connection.recv(_RECORD_HEAD, socket.MSG_PEEK)
        if not head or not (head.startswith(_TLS_HANDSHAKE) or _TLS_HANDSHAKE.startswith(head)):
            return None
        if len(head) < _RECORD_HEAD:
            return _RECORD_HEAD
        whole = _RECORD_HEAD + int.from_bytes(head[3:5], "big")
        if whole > _MOST_RECORD:
            return None
        return 0 if len(connection.recv(whole, socket.MSG_PEEK)) == whole else whole
    except BlockingIOError:
        return _RECORD_HEAD
    except OSError:
        return None


def _wake_at(connection: socket.socket, size: int) -> None:
    """Have the system tell of the connection once so many bytes are there, or it has ended."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)
