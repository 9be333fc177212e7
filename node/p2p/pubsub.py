"""Gossip in the trio thread: libp2p's GossipSub with the settings that work, and guards where hostile bytes enter.

What is done here and why, each with a test:

- The sequence number starts at the clock in nanoseconds: the default starts at seconds and grows by one a message, so
  that a restarted node repeats numbers which its peers have seen, and is not heard.
- Messages go straight to their subscription; the library's own channel holds 32 and drops what is beyond.
- Validators are synchronous: the library marks a message as seen only after its validators ran, so that asynchronous
  ones let the same message through many times. Each message is validated once, and what its validator made of it is
  what is delivered.
- No verdict is remembered by sender and sequence number, as the library does for five minutes: a second message under
  the number of a valid one would pass unread.
- One message at a time is written to a stream: the library replays, flushes and sends from several tasks, and a
  message longer than a Yamux frame would be torn apart by another.
- A peer whose gossip stream broke while its connection stands keeps its subscriptions: the library forgets them, and
  the peer, which knows of nothing, never says them again.
- What is too long, known, or more than a neighbour may bring is dropped as it is read: the library begins a task for
  each message first, and looks through all of its tasks to do so.
- Whatever a peer's message makes the library raise costs that message; unguarded, it ends the whole service.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import trio
from libp2p.exceptions import ValidationError
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, PROTOCOL_ID_V12
from libp2p.pubsub.pubsub import Pubsub

from node.p2p.control import GuardedRouter
from node.p2p.pace import Paces
from node.p2p.reading import bound_libp2p_reads
from protocol.errors import PeerError

__all__ = ["MAX_GOSSIP_BYTES", "GuardedPubsub", "new_router"]

MAX_GOSSIP_BYTES = 64 * 1024
"""Of one published value."""

_MAX_SIGNED_BYTES = MAX_GOSSIP_BYTES + 1024
_MAX_PER_PEER_PER_S = 200.0
"""Messages on one topic that one neighbour may have relayed; far above an honest one, whose publishers are paced."""

_NEWS_PER_S = 50.0
"""Messages of one neighbour that were not known: each costs a check of a signature, and is passed on."""
_NEWS_AT_ONCE = 400

Validator = Callable[[bytes], Any]
"""What a message means; raises PeerError for one that is not to be relayed."""
Admit = Callable[[bytes], None]
"""A first look at a message, before its signature is checked; raises PeerError for one that is not worth that."""
Deliver = Callable[[bytes, Any], None]
"""Takes a message's data and what its validator made of it."""

log = logging.getLogger(__name__)

_reading: ContextVar[Any] = ContextVar("reading")
"""The peer whose gossip stream the current task reads."""

bound_libp2p_reads()


def new_router() -> Any:
    """GossipSub that heals within seconds (the library's default heartbeat is two minutes) and works on one machine."""
    return GuardedRouter(
        protocols=[PROTOCOL_ID_V12, PROTOCOL_ID_V11],
        degree=6,
        degree_low=4,
        degree_high=12,
        heartbeat_interval=1,
        spam_protection_enabled=True,
        max_messages_per_topic_per_second=_MAX_PER_PEER_PER_S,
        eclipse_protection_enabled=False,  # wants neighbours at three IP addresses; meshes of one site have fewer
        adaptive_gossip_enabled=False,
    )


class GuardedPubsub(Pubsub):  # type: ignore[misc]  # libp2p is not typed strictly enough to be followed
    """StrictSign publish and subscribe over a host."""

    def __init__(self, host: Any, router: Any) -> None:
        super().__init__(host, router, strict_signing=True)
        self.counter = time.time_ns()
        self._topics: dict[str, tuple[Admit, Validator, Deliver]] = {}
        self._passed: dict[int, Any] = {}
        """What validators made of messages that are being pushed, by the identity of the message object."""
        self._writing: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        """A lock for each stream that is written to."""
        self.on_delivery: Callable[[Any], None] = _nobody_asks
        """Called with each neighbour that brings something valid which was not known."""
        self._news = Paces[Any](_NEWS_PER_S, _NEWS_AT_ONCE)

    def listens(self, peer_id: Any) -> bool:
        """Whether a peer follows a topic that is followed here."""
        return any(peer_id in self.peer_topics.get(topic, ()) for topic in self._topics)

    def in_mesh(self, peer_id: Any) -> bool:
        """Whether messages are exchanged with a peer as they come."""
        return any(peer_id in self.router.mesh.get(topic, ()) for topic in self._topics)

    async def join(self, topic: str, admit: Admit, validate: Validator, deliver: Deliver) -> None:
        """Subscribe: each message that `admit` and then `validate` let pass is relayed, and handed to `deliver`."""
        self._topics[topic] = admit, validate, deliver
        await self.subscribe(topic)

    async def leave(self, topic: str) -> None:
        """Unsubscribe."""
        self._topics.pop(topic, None)
        await self.unsubscribe(topic)

    def forget_stream_on(self, muxed_conn: Any) -> None:
        """Open another stream to a peer whose stream was on a connection that is closed, while it has a second one.

        The library keeps the dead stream until it writes to it, and a peer that came back never learns what is
        listened to here.
        """
        stream = self.peers.get(muxed_conn.peer_id)
        if stream is not None and stream.muxed_conn is muxed_conn:
            self._handle_dead_peer(muxed_conn.peer_id)

    async def stream_handler(self, stream: Any) -> None:
        if stream.muxed_conn.peer_id == self.my_id:  # another process with our key: its messages would count as ours
            await stream.reset()
            return
        _reading.set(stream.muxed_conn.peer_id)
        await super().stream_handler(stream)

    def _is_subscribed_to_msg(self, msg: Any) -> bool:
        """Asked of each message that was read, before anything is done with it."""
        if not super()._is_subscribed_to_msg(msg):
            return False
        if len(msg.data) > MAX_GOSSIP_BYTES or msg.ByteSize() > _MAX_SIGNED_BYTES or len(msg.topicIDs) != 1:
            log.debug("dropped a gossip message of %d bytes from %s", msg.ByteSize(), _reading.get())
            return False
        return not self._is_msg_seen(msg) and self._may_bring(_reading.get(), msg)

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        try:
            await super().push_msg(msg_forwarder, msg)
        except Exception as error:  # in a task of the service, which what is raised would end
            if msg_forwarder == self.my_id:
                raise
            log.debug("dropped a gossip message from %s: %s %s", msg_forwarder, type(error).__name__, error)
        finally:
            self._passed.pop(id(msg), None)

    def _may_bring(self, msg_forwarder: Any, msg: Any) -> bool:
        """Whether a neighbour may bring this new message, decided before its signature has cost anything."""
        topic = self._topics.get(msg.topicIDs[0])
        if topic is None or not self._news.allows(msg_forwarder, trio.current_time()):
            return False
        admit, *_ = topic
        try:
            admit(msg.data)
        except PeerError as error:
            log.debug("dropped a gossip message from %s: %s", msg_forwarder, error)
            return False
        return True

    async def validate_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Raises ValidationError; to the own host, which publishes what its validator refuses, the PeerError itself."""
        (topic,) = msg.topicIDs
        if topic not in self._topics:
            return
        _, validate, _ = self._topics[topic]
        try:
            self._passed[id(msg)] = validate(msg.data)
        except Exception as error:
            if not isinstance(error, PeerError):
                log.exception("the validator of %s failed; the message is dropped", topic)
            if msg_forwarder == self.my_id:
                raise
            raise ValidationError(f"{topic}: {type(error).__name__} {error}") from None
        if msg_forwarder != self.my_id:
            self.on_delivery(msg_forwarder)

    async def write_msg(self, stream: Any, rpc_msg: Any) -> bool:
        async with self._writing.setdefault(stream, trio.Lock()):
            written: bool = await super().write_msg(stream, rpc_msg)
            return written

    def _handle_dead_peer(self, peer_id: Any) -> None:
        topics = [topic for topic, peers in self.peer_topics.items() if peer_id in peers]
        super()._handle_dead_peer(peer_id)
        if self._peer_is_connected(peer_id):
            for topic in topics:
                self.peer_topics.setdefault(topic, set()).add(peer_id)
            self._peer_subscription_count[peer_id] = len(topics)

    def notify_subscriptions(self, publish_message: Any) -> None:
        (topic,) = publish_message.topicIDs
        if topic in self._topics:
            _, _, deliver = self._topics[topic]
            deliver(publish_message.data, self._passed[id(publish_message)])


def _nobody_asks(_peer_id: Any) -> None:
    """Nothing to do."""
