"""Who may connect to a libp2p host: so many at a time, and so often from one address.

In the library a place that an incoming connection takes is given back only when the whole host ends: after 250
connections, however short, a host takes no more for the rest of its life. Here it is given back with the connection.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import trio
from libp2p.network.connection.raw_connection import RawConnection

from node.p2p.pace import Paces

__all__ = ["Door"]

log = logging.getLogger(__name__)

_MOST = 250
"""Incoming connections at a time; a host dials the rest of its connections itself."""
_MOST_PER_ADDRESS = 128
_PER_S = 20.0
"""New connections a second from one IP address in the long run."""
_AT_ONCE = 200


class Door:
    """Takes the place of a swarm's own handler of incoming connections. Belongs to the trio thread."""

    def __init__(self, swarm: Any) -> None:
        self._swarm = swarm
        self._inside: Counter[str] = Counter()
        """Connections by IP address, those that are still being greeted too."""
        self._paces = Paces[str](_PER_S, _AT_ONCE)

    async def __call__(self, stream: Any, listening_at: Any) -> None:
        """Serve one incoming TCP stream until it ends: it is closed when this returns."""
        remote = stream.get_remote_address()
        address = remote[0] if remote else ""
        if (
            self._inside.total() >= _MOST
            or self._inside[address] >= _MOST_PER_ADDRESS
            or not self._paces.allows(address, trio.current_time())
        ):
            log.debug("no room for a connection from %s", address)
            return
        self._inside[address] += 1
        try:
            connection = await self._swarm.upgrade_inbound_raw_conn(RawConnection(stream, False), listening_at)
            await connection.event_closed.wait()
        except Exception as error:  # noqa: BLE001 - the boundary of a task that a peer started
            log.debug("a connection from %s ended: %s %s", address, type(error).__name__, error)
        finally:
            self._inside[address] -= 1
            self._inside += Counter()  # forgets those who have none
