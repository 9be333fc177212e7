"""What libp2p does unasked, turned off, so that no message of a peer makes a host dial or keep addresses.

- The connector that the library runs beside every host dials whomever it has heard of, every few seconds, until some
  200 connections are open. No setting ends it. Who is worth a connection is decided elsewhere, so it is replaced.
- A host asks every peer to identify itself, and takes what it says or pushes about its addresses, and what signed
  records in gossip say, into the book that dials are made from. Nothing here needs that: addresses come from signed
  offers, the ledger and the command line, each dialled by a decision. The host still says who it is itself.
- Every RPC of gossip carries its sender's signed record of addresses, whose signature a host would check twice, for
  nothing. It is not looked at, and the own one, which others may ask for, is made once and not anew for each RPC.
- For each message a host tells all neighbours by an RPC of their own that it need not be sent again. That pays for long
  messages; here they are as short as such an RPC.
- A peer that prunes another from its mesh may name up to 16 more to connect to. They are not connected to.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.peer.peerstore import env_to_send_in_RPC
from libp2p.pubsub import gossipsub, pubsub

__all__ = ["QuietRouter", "turn_off"]


class QuietRouter(gossipsub.GossipSub):  # type: ignore[misc]  # libp2p is not typed strictly enough to be followed
    """GossipSub that connects to nobody whom a peer names, and sends messages once instead of speaking of them."""

    async def _do_px(self, _px_peers: Any) -> None:
        """Nothing to do."""

    async def _emit_idontwant_for_message(self, _msg_id: Any, _topic_ids: Any) -> None:
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
    for module in (pubsub, gossipsub):
        module.maybe_consume_signed_record = _look_at_no_record
        module.env_to_send_in_RPC = _own_record
    network = host.get_network()
    network.auto_connector = _NoConnector()
    host._schedule_identify = _identify_nobody
    host.remove_stream_handler(ID_PUSH)
    network.peerstore.consume_peer_record = _keep_no_record


def _identify_nobody(_peer_id: Any, *, reason: str) -> None:
    """Nothing to do."""


def _keep_no_record(_envelope: Any, _ttl: int) -> bool:
    return True


_own_records: WeakKeyDictionary[Any, bytes] = WeakKeyDictionary()
"""By host."""


def _look_at_no_record(_rpc: Any, _host: Any, _sender: Any) -> bool:
    return True


def _own_record(host: Any) -> tuple[bytes, bool]:
    """A host's record, and whether it is new; which addresses it names is nobody's business here."""
    made = host not in _own_records
    if made:
        _own_records[host], _ = env_to_send_in_RPC(host)
    return _own_records[host], made
