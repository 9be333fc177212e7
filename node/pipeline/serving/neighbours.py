"""The links to next legs: one for each neighbour, shared by all sessions that go that way, dialled when needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.pipeline.outbox import Outbox
from node.ports import Connect
from protocol.errors import JoulemeshError, LostPeerError, MalformedError, PeerError, RefusedError
from protocol.order import Hop, JobOrder

__all__ = ["Neighbours", "next_hop"]


def next_hop(order: JobOrder) -> Hop:
    """The leg after this one; after the last one the first, which tokens go back to."""
    return order.hops[(order.leg + 1) % len(order.hops)]


class Neighbours:
    """A pool of outboxes by public key. `lost` is called when one of their links ends."""

    def __init__(self, connect: Connect, lost: Callable[[Outbox, PeerError], None]) -> None:
        self._connect = connect
        self._lost = lost
        self._dials: dict[bytes, asyncio.Task[Outbox]] = {}
        self._watches: set[asyncio.Task[None]] = set()

    async def reach(self, hop: Hop) -> None:
        """Make sure of a link to `hop`. Raises RefusedError with code ``next-unreachable``."""
        task = self._dials.get(hop.public_key)
        if task is None or (task.done() and self._opened(task) is None):
            task = asyncio.create_task(self._dial(hop), name="dial next leg")
            self._dials[hop.public_key] = task
        try:
            await asyncio.shield(task)
        except JoulemeshError as error:
            raise RefusedError(f"the next leg cannot be reached: {error.message}", code="next-unreachable") from error

    def outbox(self, hop: Hop) -> Outbox:
        """The open link to `hop`. Raises LostPeerError where it has ended."""
        task = self._dials.get(hop.public_key)
        outbox = None if task is None else self._opened(task)
        if outbox is None:
            raise LostPeerError("the link to the next leg has ended", code="neighbour-lost")
        return outbox

    def forget(self, outbox: Outbox) -> None:
        """The link has ended; the next session that needs it dials anew."""
        key = outbox.link.public_key
        task = self._dials.get(key)
        if task is not None and self._opened(task) is outbox:
            del self._dials[key]

    async def close(self) -> None:
        """Send what is queued, then close every link."""
        tasks = list(self._dials.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        outboxes = [outbox for task in tasks if (outbox := self._opened(task)) is not None]
        await asyncio.gather(*(outbox.flush() for outbox in outboxes))

    async def _dial(self, hop: Hop) -> Outbox:
        outbox = Outbox(await self._connect(hop.data_address, hop.public_key), self._lost)
        watch = asyncio.create_task(self._watch(outbox), name="watch next leg")
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return outbox

    async def _watch(self, outbox: Outbox) -> None:
        """Notice the end of a link that nothing is read from, before the next session is sent into it."""
        try:
            await outbox.link.receive()
        except PeerError as error:
            self._lost(outbox, error)
        else:
            self._lost(outbox, MalformedError("a next leg sends nothing back on this link"))

    @staticmethod
    def _opened(task: asyncio.Task[Outbox]) -> Outbox | None:
        if not task.done() or task.cancelled() or task.exception() is not None:
            return None
        return task.result()
