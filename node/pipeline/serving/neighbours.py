"""The links to next legs: one for each neighbour, shared by all sessions that go that way, dialled when needed."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from node.pipeline.serving.outbox import Outbox
from node.ports import Connect, Link, Spawn
from protocol.errors import JoulemeshError, LostPeerError, MalformedError, PeerError, RefusedError

__all__ = ["Neighbours", "Next"]


@dataclass(frozen=True, slots=True)
class Next:
    """The leg after this one, as its own offer says; after the last one the first, which tokens go back to."""

    public_key: bytes
    addresses: tuple[str, ...]
    """Of its data plane, best first."""


class Neighbours:
    """A pool of outboxes by public key. `lost` is called once when one of their links ends."""

    def __init__(self, connect: Connect, lost: Callable[[Outbox, PeerError], None], spawn: Spawn) -> None:
        self._connect = connect
        self._lost = lost
        self._spawn = spawn
        self._outboxes: dict[bytes, Outbox] = {}
        self._dialling: defaultdict[bytes, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def reach(self, next_leg: Next) -> Outbox:
        """An open link to it. Raises RefusedError with code ``next-unreachable``."""
        async with self._dialling[next_leg.public_key]:
            outbox = self._outboxes.get(next_leg.public_key)
            if outbox is None:
                outbox = Outbox(await self._dial(next_leg))
                self._outboxes[next_leg.public_key] = outbox
                self._spawn(self._serve(outbox), "next leg")
            return outbox

    async def close(self) -> None:
        """Send what is queued, then close every link."""
        await asyncio.gather(*(outbox.flush() for outbox in tuple(self._outboxes.values())))

    async def _dial(self, next_leg: Next) -> Link:
        reason = "its offer names no address that can be dialled"
        for address in next_leg.addresses:
            try:
                return await self._connect(address, next_leg.public_key)
            except JoulemeshError as error:
                reason = error.message
        raise RefusedError(f"the next leg cannot be reached: {reason}", code="next-unreachable")

    async def _serve(self, outbox: Outbox) -> None:
        """Send, and notice the end of a link that nothing is read from, before the next session is sent into it."""
        error: PeerError = LostPeerError("the link to the next leg has ended")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(outbox.run(), name="outbox")
                group.create_task(_watch(outbox.link), name="watch")
        except* PeerError as errors:
            found = errors.exceptions[0]
            error = found if isinstance(found, PeerError) else error
        finally:
            if self._outboxes.get(outbox.link.public_key) is outbox:
                del self._outboxes[outbox.link.public_key]
        self._lost(outbox, error)
        await outbox.link.close()


async def _watch(link: Link) -> None:
    await link.receive()
    raise MalformedError("a next leg sends nothing back on this link")
