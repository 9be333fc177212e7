"""Links in memory on which frames take their time, and that break: for jobs that have to survive it.

Each frame takes a time of its own, and those of one link keep their order, as over TCP. Who is muted hangs: its links
last, and nothing goes over them until it is back, when all of it comes at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Any

from memory_links import MemoryLink, MemoryNetwork

from protocol.errors import LostPeerError, UnreachableError

__all__ = ["RoughNetwork"]

DIAL_S = 5.0
"""Until a dial is given up that nothing answers."""

Queue = asyncio.Queue[Any]
Frame = tuple[bytes, bytes] | None


class _RoughLink(MemoryLink):
    """One end; what it sends the network carries."""

    def __init__(self, network: RoughNetwork, own_key: bytes, peer: bytes, inbox: Queue, outbox: Queue) -> None:
        super().__init__(peer, inbox, outbox)
        self._network = network
        self.own_key = own_key
        self.due_s = 0.0
        self.under_way: deque[Frame] = deque()

    async def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        if self._closed:
            raise LostPeerError("the link is closed")
        self._network.carry(self, (bytes(header), bytes(payload)))

    async def close(self) -> None:
        """What was sent before still arrives."""
        if not self._closed:
            self._closed = True
            self._network.carry(self, None)
            self._inbox.put_nowait(None)

    def deliver(self, frame: Frame) -> None:
        """It has come to the other end."""
        self._outbox.put_nowait(frame)


class RoughNetwork(MemoryNetwork):
    """See above.

    Args:
        chance: times of frames, in milliseconds up to `most_ms`.
    """

    def __init__(self, chance: Random, most_ms: float) -> None:
        super().__init__()
        self._chance = chance
        self._most_ms = most_ms
        self.apart: set[frozenset[bytes]] = set()
        """Pairs that cannot dial each other."""
        self.on_frame: Callable[[], None] = lambda: None
        """Called with each frame that is sent."""
        self._kept: list[tuple[_RoughLink, Frame]] = []
        """Of those that are muted, in order."""

    def connect_as(self, own_key: bytes) -> Callable[[str, bytes], Awaitable[MemoryLink]]:
        async def connect(address: str, expected: bytes) -> MemoryLink:
            await asyncio.sleep(self._delay_s())
            if {own_key, expected} & self.muted:
                await asyncio.sleep(DIAL_S)
                raise LostPeerError("nothing answers")
            if address not in self._listeners or frozenset((own_key, expected)) in self.apart:
                raise UnreachableError(f"nobody listens on {address}")
            key, on_link, allowances = self._listeners[address]
            assert key == expected
            to_near, to_far = asyncio.Queue(), asyncio.Queue()  # type: ignore[var-annotated]
            near = _RoughLink(self, own_key, key, to_near, to_far)
            far = _RoughLink(self, key, own_key, to_far, to_near)
            far.allow(partial(allowances, own_key))
            self.links.setdefault(address, []).append(far)
            self.dialled.setdefault(own_key, []).append(near)
            task = asyncio.create_task(on_link(far))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return near

        return connect

    def carry(self, link: _RoughLink, frame: Frame) -> None:
        """Bring a frame to the other end, after those before it."""
        self.on_frame()
        loop = asyncio.get_running_loop()
        link.due_s = max(link.due_s, loop.time() + self._delay_s())
        link.under_way.append(frame)
        loop.call_at(link.due_s, self._arrive_next, link)

    def _arrive_next(self, link: _RoughLink) -> None:
        self._arrive(link, link.under_way.popleft())  # timers of one time have no order

    def _arrive(self, link: _RoughLink, frame: Frame) -> None:
        if {link.own_key, link.public_key} & self.muted or any(kept is link for kept, _ in self._kept):
            self._kept.append((link, frame))
        else:
            link.deliver(frame)

    def unmute(self, key: bytes) -> None:
        """It is back: all that was kept arrives."""
        self.muted.discard(key)
        kept, self._kept = self._kept, []
        for link, frame in kept:
            self._arrive(link, frame)

    def cut(self, left: bytes, right: bytes) -> None:
        """Break all links between these two."""
        for links in self.dialled.values():
            for link in links:
                if isinstance(link, _RoughLink) and {link.own_key, link.public_key} == {left, right}:
                    link.cut()

    def drop(self, key: bytes) -> None:
        """Break all links that this one dialled."""
        for link in self.dialled.pop(key, []):
            link.cut()

    def _delay_s(self) -> float:
        return self._chance.uniform(0, self._most_ms) / 1000
