"""Links in memory: two ends that satisfy `node.ports.Link`, and a network of them by address."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from node.ports import STRANGER, Allowance
from protocol.errors import LostPeerError, MalformedError, SignatureError, UnreachableError


class MemoryLink:
    """One end; `cut` breaks both ends as a dying process would."""

    def __init__(self, public_key: bytes, inbox: asyncio.Queue, outbox: asyncio.Queue) -> None:  # type: ignore[type-arg]
        self.public_key = public_key
        self._inbox = inbox
        self._outbox = outbox
        self._closed = False
        self.delay_s = 0.0
        """That what is sent takes to arrive."""
        self._under_way: deque[tuple[bytes, bytes]] = deque()
        self._allowance: Callable[[], Allowance] = lambda: STRANGER

    def allow(self, allowance: Callable[[], Allowance]) -> None:
        self._allowance = allowance

    async def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        if self._closed:
            raise LostPeerError("the link is closed")
        frame = (bytes(header), bytes(payload))
        if self.delay_s:
            self._under_way.append(frame)  # timers that are due at once fire in any order
            asyncio.get_running_loop().call_later(
                self.delay_s, lambda: self._outbox.put_nowait(self._under_way.popleft())
            )
        else:
            await self._outbox.put(frame)

    def _arrive(self) -> None:
        self._outbox.put_nowait(self._under_way.popleft())

    def put(self, header: bytes, payload: bytes | memoryview = b"") -> bool:
        """Never: so all frames go through `send`, where a test can stand in their way."""
        if self._closed:
            raise LostPeerError("the link is closed")
        return False

    async def receive(self) -> tuple[bytes, bytes]:
        item = None if self._closed and self._inbox.empty() else await self._inbox.get()
        if item is None:
            self._closed = True
            raise LostPeerError("the peer has gone")
        most = self._allowance()
        if len(item[0]) > most.header or len(item[1]) > most.payload:
            self.cut()
            raise MalformedError("a frame that is longer than allowed", code="too-long")
        return item

    async def close(self) -> None:
        self.cut()

    def cut(self) -> None:
        if not self._closed:
            self._closed = True
            self._outbox.put_nowait(None)
            self._inbox.put_nowait(None)


def link_pair(left_key: bytes, right_key: bytes) -> tuple[MemoryLink, MemoryLink]:
    """What the left side holds (its peer is the right one), and the reverse."""
    to_left, to_right = asyncio.Queue(), asyncio.Queue()  # type: ignore[var-annotated]
    return MemoryLink(right_key, to_left, to_right), MemoryLink(left_key, to_right, to_left)


OnLink = Callable[[MemoryLink], Awaitable[None]]
Allowances = Callable[[bytes], Allowance]


class MemoryNetwork:
    """Listeners by address. Every link that was made is kept, so that a test can cut it."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        """From one end of a link to the other, of those that are made from now on."""
        self._listeners: dict[str, tuple[bytes, OnLink, Allowances]] = {}
        self.links: dict[str, list[MemoryLink]] = {}
        self.dialled: dict[bytes, list[MemoryLink]] = {}
        self.muted: set[bytes] = set()
        """Public keys of those that hear nothing and say nothing, although their links last."""
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self, address: str, public_key: bytes, on_link: OnLink, allowances: Allowances) -> None:
        self._listeners[address] = (public_key, on_link, allowances)

    def connect_as(self, own_key: bytes) -> Callable[[str, bytes], Awaitable[MemoryLink]]:
        async def connect(address: str, expected: bytes) -> MemoryLink:
            if address not in self._listeners:
                raise UnreachableError(f"nobody listens on {address}")
            key, on_link, allowances = self._listeners[address]
            if key != expected:
                raise SignatureError("another peer answers there")
            near, far = link_pair(own_key, key)
            near.delay_s = far.delay_s = self.delay_s
            far.allow(partial(allowances, own_key))
            self.links.setdefault(address, []).append(far)
            self.dialled.setdefault(own_key, []).append(near)
            task = asyncio.create_task(on_link(far))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return near

        return connect

    def kill(self, address: str) -> None:
        """The process behind this address dies, and with it every link that it accepted or dialled."""
        key, *_ = self._listeners.pop(address)
        for link in (*self.links.pop(address, []), *self.dialled.pop(key, [])):
            link.cut()

    async def close(self) -> None:
        for address in list(self._listeners):
            self.kill(address)
        await asyncio.gather(*self._tasks, return_exceptions=True)
