"""The asyncio side of gossip: a paced publisher, a subscription that keeps the newest, and re-sending until expiry.

Gossip is lossy: queues between peers are short, and a newcomer hears nothing of what was said before. So whatever must
be known is said again until it expires (`Announcer`), and a subscription drops what it has delivered before.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from node.p2p.pubsub import MAX_GOSSIP_BYTES
from protocol.errors import LocalError

__all__ = ["MAX_GOSSIP_BYTES", "Announcer", "Subscription"]

_REMEMBERED = 8192
"""Digests of delivered messages that a subscription keeps."""
DEFAULT_QUEUE = 1024

T = TypeVar("T")


class Publisher(Protocol):
    """The part of a host that an announcer needs."""

    async def publish(self, topic: str, data: bytes) -> None: ...


class Subscription(Generic[T]):
    """What arrives on one topic, oldest first, each content once; iterate over it with `async for`.

    What it yields is what the topic's validator made of a message. When the reader falls behind by more than the
    queue's length the oldest is dropped, and `dropped` counts it. Iteration ends when the subscription or the host is
    closed, and raises LocalError when the host died.
    """

    def __init__(self, topic: str, loop: asyncio.AbstractEventLoop, queue: int) -> None:
        self.topic = topic
        self.dropped = 0
        self._loop = loop
        self._queue: deque[T] = deque(maxlen=queue)  # appended to by the trio thread, which is safe
        self._delivered: OrderedDict[bytes, None] = OrderedDict()  # belongs to the trio thread
        self._arrived = asyncio.Event()
        self._ended = False
        self._failure: LocalError | None = None

    def deliver(self, data: bytes, value: T) -> None:
        """Called in the trio thread with each valid message, and what its validator made of it."""
        digest = hashlib.sha256(data).digest()
        if digest in self._delivered:
            self._delivered.move_to_end(digest)
            return
        self._delivered[digest] = None
        if len(self._delivered) > _REMEMBERED:
            self._delivered.popitem(last=False)
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(value)
        if self._arrived.is_set():  # the reader has not begun to wait again, which it does with an empty queue only
            return
        try:
            self._loop.call_soon_threadsafe(self._arrived.set)
        except RuntimeError:  # the event loop is gone, and the host with it
            return

    def end(self, failure: LocalError | None) -> None:
        """Called in the event loop when nothing more can arrive."""
        self._ended = True
        self._failure = failure
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._queue:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            if not self._queue:
                await self._arrived.wait()
        return self._queue.popleft()


@dataclass(slots=True)
class _Announced:
    data: bytes
    until: float
    due: float


class Announcer:
    """Says values again every `interval_s` until they expire; a newer value under a key replaces the older.

    `run` does the work and belongs to a task of the caller; it ends only with an error of the host.
    """

    def __init__(self, host: Publisher, topic: str, *, interval_s: float = 20.0) -> None:
        self._host = host
        self._topic = topic
        self._interval_s = interval_s
        self._values: dict[bytes, _Announced] = {}
        self._changed = asyncio.Event()
        self._now: Callable[[], float] = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return len(self._values)

    def announce(self, key: bytes, data: bytes, *, ttl_s: float) -> None:
        """Publish `data` soon, and again until `ttl_s` seconds from now.

        Raises:
            LocalError: more than 64 KiB.
        """
        check_size(data)
        now = self._now()
        self._values[key] = _Announced(data, now + ttl_s, now)
        self._changed.set()

    def withdraw(self, key: bytes) -> None:
        """Stop saying the value under `key`; what was said before stays said. Unknown keys are ignored."""
        self._values.pop(key, None)

    async def run(self) -> None:
        """Publish what is due, for ever."""
        while True:
            self._changed.clear()
            now = self._now()
            self._values = {key: value for key, value in self._values.items() if value.until > now}
            earliest = min(self._values.values(), key=_due, default=None)
            if earliest is None:
                await self._changed.wait()
            elif earliest.due > now:
                await self._wait(earliest.due - now)
            else:
                earliest.due = now + self._interval_s
                await self._host.publish(self._topic, earliest.data)

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


def admit_all(_data: bytes) -> None:
    """Where each message is worth a check of its signature."""


def check_size(data: bytes) -> None:
    """Raise LocalError for data too long to be published."""
    if len(data) > MAX_GOSSIP_BYTES:
        raise LocalError(f"{len(data)} bytes are too many for gossip, which carries {MAX_GOSSIP_BYTES}")


def _due(value: _Announced) -> float:
    return value.due
