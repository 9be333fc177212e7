"""What a neighbour may ask of gossip's router in one RPC: little, and of topics that are followed here.

The library takes all that an RPC of a mebibyte has room for. It remembers each topic that somebody says to leave,
whether anybody follows it, for ever; and it answers a wish for messages with an RPC of all of them, as often as each is
named. Messages that a peer need not be sent are not spoken of here (`unasked`), so nothing is kept of those either.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from typing import Any

import trio
from libp2p.pubsub.pb import rpc_pb2

from node.p2p.pace import Paces
from node.p2p.unasked import QuietRouter

__all__ = ["GuardedRouter", "bounded"]

_MAX_HAVE = 1024
"""Messages of one topic that a neighbour may offer at a time: gossip is of the last three seconds."""
_MAX_WANT = 64
"""Different messages that it may want at a time."""
_WISHES_PER_S = 4.0
_WISHES_AT_ONCE = 16
"""RPCs with wishes; an honest neighbour has one a second for each topic."""
_LONGEST_LEAVE_S = 60
"""A peer that was told to stay away may be asked again so much later."""
_MAX_LEFT = 4096
"""Peers that have left a topic, beyond which those are forgotten that may be asked again."""


class GuardedRouter(QuietRouter):
    """GossipSub that reads of each RPC what an honest neighbour would say."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._wishes = Paces[Any](_WISHES_PER_S, _WISHES_AT_ONCE)

    async def handle_rpc(self, rpc: Any, sender_peer_id: Any) -> None:
        asked = bounded(rpc.control, self.mesh)
        if asked.iwant and not self._wishes.allows(sender_peer_id, trio.current_time()):
            del asked.iwant[:]
        await super().handle_rpc(rpc_pb2.RPC(control=asked), sender_peer_id)

    async def handle_prune(self, prune_msg: Any, sender_peer_id: Any) -> None:
        await super().handle_prune(prune_msg, sender_peer_id)
        left, now = self.back_off[prune_msg.topicID], time.time()
        if len(left) > _MAX_LEFT:
            for peer in [peer for peer, until in left.items() if until <= now]:
                del left[peer]


def bounded(control: Any, followed: Collection[str]) -> Any:
    """The part of a control message that is read; of what is said twice of a topic, what was said last."""
    kept = rpc_pb2.ControlMessage()
    for topic, each in _by_topic(control.ihave, followed):
        kept.ihave.add(topicID=topic, messageIDs=each.messageIDs[:_MAX_HAVE])
    wanted = dict.fromkeys(name for each in control.iwant for name in each.messageIDs)
    if wanted:
        kept.iwant.add(messageIDs=list(wanted)[:_MAX_WANT])
    for topic, _ in _by_topic(control.graft, followed):
        kept.graft.add(topicID=topic)
    for topic, each in _by_topic(control.prune, followed):
        kept.prune.add(topicID=topic, backoff=min(each.backoff, _LONGEST_LEAVE_S))
    return kept


def _by_topic(said: Iterable[Any], followed: Collection[str]) -> Iterable[tuple[str, Any]]:
    return {each.topicID: each for each in said if each.topicID in followed}.items()
