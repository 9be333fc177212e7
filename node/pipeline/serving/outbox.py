"""Frames on their way out to one peer: posted at once, sent in order by a task of its own.

So a peer that reads slowly holds up its own sessions and nobody else's; one that does not read at all is dropped when
its queue is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.ports import Link
from protocol.codec import Message, encode
from protocol.errors import LostPeerError, PeerError

__all__ = ["Outbox"]

MAX_QUEUED = 512
"""Frames; with a window each, far more than an honest peer leaves unread."""
FLUSH_S = 2.0


class Outbox:
    """The sending side of a link. `lost` is called once, when the link ends."""

    def __init__(self, link: Link, lost: Callable[[Outbox, PeerError], None]) -> None:
        self.link = link
        self._queue: asyncio.Queue[tuple[bytes, bytes] | None] = asyncio.Queue(MAX_QUEUED)
        self._lost = lost
        self._task = asyncio.create_task(self._send(), name=f"outbox {link.public_key.hex()[:8]}")

    def post(self, frame: Message, payload: bytes = b"") -> None:
        """Queue a frame. Raises LostPeerError when the peer has stopped reading or the link has ended."""
        if self._task.done():
            raise LostPeerError("the link to the peer has ended")
        try:
            self._queue.put_nowait((encode(frame), payload))
        except asyncio.QueueFull:
            raise LostPeerError("the peer does not read what it is sent") from None

    async def flush(self) -> None:
        """Wait until all that was posted is sent, or the peer has not read it in time; then close the link."""
        try:
            async with asyncio.timeout(FLUSH_S):
                if not self._task.done():
                    await self._queue.put(None)
                await asyncio.wait([self._task])
        except TimeoutError:
            self._task.cancel()
        await self.link.close()

    def abandon(self) -> None:
        """Stop sending at once."""
        self._task.cancel()

    async def _send(self) -> None:
        try:
            while (item := await self._queue.get()) is not None:
                await self.link.send(*item)
        except PeerError as error:
            self._lost(self, error)
