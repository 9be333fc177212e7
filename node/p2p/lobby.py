"""Connections that were accepted and have said nothing yet: a socket each, and not so much as a task."""

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


class Lobby:
    """Hands on whoever begins as TLS does.

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
        """Wait for a connection's first bytes."""
        if len(self._mute) >= self._most:
            self.let_go()
        self._came[connection] = (self._loop.time(), origin)
        self._mute.add(connection, origin)
        self._loop.add_reader(connection.fileno(), self._look_at, connection, origin)

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

    def _look_at(self, connection: socket.socket, origin: str) -> None:
        self._discard(connection, origin)
        beginning = b""
        with contextlib.suppress(OSError):
            beginning = connection.recv(len(_TLS_HANDSHAKE), socket.MSG_PEEK)
        if beginning and _TLS_HANDSHAKE.startswith(beginning):
            self._speaks(connection, origin)
        else:
            hang_up(connection)

    def _discard(self, connection: socket.socket, origin: str) -> None:
        self._loop.remove_reader(connection.fileno())
        del self._came[connection]
        self._mute.discard(connection, origin)
