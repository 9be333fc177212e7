"""What libp2p does unasked, turned off, so that no message of a peer makes a host dial or keep addresses.

- The connector that the library runs beside every host dials whomever it has heard of, every few seconds, until some
  200 connections are open. No setting ends it. Who is worth a connection is decided elsewhere, so it is replaced.
- A host asks every peer to identify itself, and takes what it says or pushes about its addresses, and what signed
  records in gossip say, into the book that dials are made from. Nothing here needs that: addresses come from signed
  offers, the ledger and the command line, each dialled by a decision. The host still says who it is itself.
- A peer that prunes another from its mesh may name up to 16 more to connect to. They are not connected to.
"""

from __future__ import annotations

from typing import Any

from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.pubsub.gossipsub import GossipSub

__all__ = ["QuietRouter", "turn_off"]


class QuietRouter(GossipSub):  # type: ignore[misc]  # libp2p is not typed strictly enough to be followed
    """GossipSub that connects to nobody whom a peer names."""

    async def _do_px(self, _px_peers: Any) -> None:
        """Nothing to do."""


class _NoConnector:
    """In place of the library's connector: it dials nobody."""

    async def start(self) -> None:
        """Nothing to do."""

    async def run_background_task(self, _nursery: Any) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def maybe_connect(self) -> None:
        """Nothing to do."""

    def record_disconnect(self, _peer_id: Any) -> None:
        """Nothing to do."""


def turn_off(host: Any) -> None:
    """Have a host, before it runs, dial only whom its own process decides to dial."""
    network = host.get_network()
    network.auto_connector = _NoConnector()
    host._schedule_identify = _identify_nobody
    host.remove_stream_handler(ID_PUSH)
    network.peerstore.consume_peer_record = _keep_no_record


def _identify_nobody(_peer_id: Any, *, reason: str) -> None:
    """Nothing to do."""


def _keep_no_record(_envelope: Any, _ttl: int) -> bool:
    return True
