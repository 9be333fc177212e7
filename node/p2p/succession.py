"""When a peer comes in by a new connection while an old one is still open.

The old one may be dead, left by a process that vanished without a word, and then all that is sent into it is lost. It
may as well live, when two peers dial each other at once; to end it unseen would have each side end the other's. So the
old one is asked for a sign of life, and closed within seconds where there is none.
"""

from __future__ import annotations

import logging
from typing import Any

from libp2p.abc import INotifee

from node.p2p.pubsub import GuardedPubsub

__all__ = ["Succession"]

log = logging.getLogger(__name__)


class Succession(INotifee):  # type: ignore[misc]  # libp2p is not typed strictly enough to be followed
    """Told by the swarm of connections that begin and end."""

    def __init__(self, nursery: Any, pubsub: GuardedPubsub) -> None:
        self._nursery = nursery
        self._pubsub = pubsub

    async def connected(self, network: Any, conn: Any) -> None:
        for older in network.get_connections(conn.muxed_conn.peer_id):
            if older is not conn and not older.is_closed:
                self._nursery.start_soon(_doubt, older.muxed_conn)

    async def disconnected(self, _network: Any, conn: Any) -> None:
        self._pubsub.forget_stream_on(conn.muxed_conn)

    async def opened_stream(self, _network: Any, _stream: Any) -> None:
        """Nothing to do."""

    async def closed_stream(self, _network: Any, _stream: Any) -> None:
        """Nothing to do."""

    async def listen(self, _network: Any, _multiaddr: Any) -> None:
        """Nothing to do."""

    async def listen_close(self, _network: Any, _multiaddr: Any) -> None:
        """Nothing to do."""


async def _doubt(connection: Any) -> None:
    try:
        await connection.answers()
    except Exception as error:  # noqa: BLE001 - in a task of the host, which what is raised would end
        log.debug("a connection to %s broke: %s", connection.peer_id, error)
