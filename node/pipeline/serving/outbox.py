"""Frames on their way out to one peer: sent at once, or in order by a task that the outbox's owner runs.

The task waits for peers that do not read as fast as they are sent to. So one that reads slowly holds up its own
sessions and nobody else's; one that does not read at all is dropped when its queue is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from node.ports import Link
from protocol.encoding.codec import Message, encode
from protocol.errors import LostPeerError, PeerError

__all__ = ["Outbox", "why_ended"]

_log = logging.getLogger(__name__)

MAX_QUEUED = 512
"""Frames; with a window each, far more than an honest peer leaves unread."""
MAX_QUEUED_BYTES = 256 * 1024 * 1024
"""Of their payloads together, four of the longest that there are: as much as a process receives at one time."""
FLUSH_S = 2.0


class Outbox:
    """The sending side of a link. `run` does the work, and ends with the link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.public_key = link.public_key
        """The peer's."""
        self._queue: asyncio.Queue[tuple[bytes, bytes] | None] = asyncio.Queue(MAX_QUEUED)
        self._waits = False
        """Whether the task has a frame in hand."""
        self._queued_bytes = 0
        """Of payloads that are not sent yet."""
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Send what is posted, until `flush`. Raises LostPeerError when the link ends."""
        try:
            while (item := await self._queue.get()) is not None:
                self._waits = True
                await self.link.send(*item)
                self._waits = False
                self._queued_bytes -= len(item[1])
        finally:
            self._ended.set()

    def post(self, frame: Message, payload: bytes = b"") -> None:
        """Send a frame, or queue it. Raises LostPeerError when the peer has stopped reading or the link has ended."""
        if self._ended.is_set():
            raise LostPeerError("the link to the peer has ended")
        header = encode(frame)
        if not self._waits and self._queue.empty():
            with contextlib.suppress(LostPeerError):  # the task will find it so, and end
                if self.link.put(header, payload):
                    return
        size = self._queued_bytes + len(payload)
        if self._queue.full() or size > MAX_QUEUED_BYTES:
            raise LostPeerError("the peer does not read what it is sent")
        self._queue.put_nowait((header, payload))
        self._queued_bytes = size

    async def flush(self) -> None:
        """Wait until all that was posted is sent, or the peer has not read it in time; then close the link."""
        try:
            async with asyncio.timeout(FLUSH_S):
                if not self._ended.is_set():
                    await self._queue.put(None)
                await self._ended.wait()
        except TimeoutError:
            pass
        await self.link.close()


def why_ended(errors: ExceptionGroup[Exception]) -> PeerError:
    """Of a link, one of whose tasks has failed: what its sessions are told. A fault of this program is written down."""
    found: Exception = errors
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]
    if isinstance(found, PeerError):
        return found
    _log.error("a link has ended by a fault of this program", exc_info=found)
    return LostPeerError("the link ended")
