"""The links to next legs: one for each neighbour, shared by all sessions that go that way, dialled when needed.

Whom to dial, an order says; so a client learns no more from a dial that fails than that it did: the same words, after
the same time, whether nobody listens there, nothing answers, or somebody else does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

from node.pipeline.loop_clock import loop_s
from node.pipeline.serving.outbox import Outbox, why_ended
from node.ports import Connect, Link, Spawn
from protocol.errors import JoulemeshError, LostPeerError, MalformedError, PeerError, RefusedError

__all__ = ["Neighbours", "Next"]

_log = logging.getLogger(__name__)

DIAL_S = 3.0
"""Seconds for a link to the next leg, over all of its addresses; no failure is told sooner."""
FAILED_S = 10.0
"""Seconds for which an offer whose addresses did not answer is not dialled again."""
DIALS = 64
"""Dials at once, each with a descriptor for `DIAL_S` at most."""
DIALS_OF_CLIENT = 4
"""Of them for orders of one client."""
MOST_FAILED = 1024
"""Failures that are remembered, the newest."""
IDLE_LINKS = 32
"""Links that are kept although no session goes over them."""


@dataclass(frozen=True, slots=True)
class Next:
    """The leg after this one, as its own offer says; after the last one the first, which tokens go back to."""

    public_key: bytes
    addresses: tuple[str, ...]
    """Of its data plane, best first."""


@dataclass(frozen=True, slots=True)
class _Dial:
    """One that is under way, for all who wait for it."""

    client: bytes
    """Whose order it began with."""
    ended: asyncio.Future[Outbox | None]


class Neighbours:
    """A pool of outboxes by public key. `lost` is called once when one of their links ends."""

    def __init__(self, connect: Connect, lost: Callable[[Outbox, PeerError], None], spawn: Spawn) -> None:
        self._connect = connect
        self._lost = lost
        self._spawn = spawn
        self._outboxes: dict[bytes, Outbox] = {}
        """Those used last at the end."""
        self._dialling: dict[Next, _Dial] = {}
        self._failed: dict[Next, float] = {}
        """Until when not to be tried again, on the loop's clock."""

    async def reach(self, next_leg: Next, client: bytes) -> Outbox:
        """An open link to it, for an order of this client. Raises RefusedError with code ``next-unreachable``."""
        outbox = self._outboxes.pop(next_leg.public_key, None)
        if outbox is not None:
            self._outboxes[next_leg.public_key] = outbox
            return outbox
        dial = self._dialling.get(next_leg) or self._begin(next_leg, client)
        outbox = await asyncio.shield(dial.ended)
        if outbox is None:
            raise _unreachable()
        return outbox

    def drop_idle(self, used: Collection[Outbox]) -> None:
        """Close links that no session goes over, but for those used last."""
        idle = [key for key, outbox in self._outboxes.items() if outbox not in used]
        for key in idle[: max(0, len(idle) - IDLE_LINKS)]:
            self._spawn(self._outboxes.pop(key).flush(), "idle link")

    async def close(self) -> None:
        """Send what is queued, then close every link."""
        await asyncio.gather(*(outbox.flush() for outbox in tuple(self._outboxes.values())))

    def _begin(self, next_leg: Next, client: bytes) -> _Dial:
        loop = asyncio.get_running_loop()
        own = sum(dial.client == client for dial in self._dialling.values())
        barred = self._failed.get(next_leg, 0.0) > loop.time()
        if barred or own >= DIALS_OF_CLIENT or len(self._dialling) >= DIALS:
            raise _unreachable()
        dial = _Dial(client, loop.create_future())
        self._dialling[next_leg] = dial
        self._spawn(self._dial(next_leg, dial), "dial")
        return dial

    async def _dial(self, next_leg: Next, dial: _Dial) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + DIAL_S
        outbox = None
        try:
            link = await self._first_link(next_leg)
            if link is None:
                await asyncio.sleep(ends - loop.time())
                self._note_failure(next_leg)
            else:
                outbox = self._outboxes.setdefault(next_leg.public_key, Outbox(link))
                if outbox.link is link:
                    self._spawn(self._serve(outbox), "next leg")
                else:  # another of its addresses was quicker
                    await link.close()
        finally:
            del self._dialling[next_leg]
            dial.ended.set_result(outbox)

    async def _first_link(self, next_leg: Next) -> Link | None:
        for address in next_leg.addresses:
            try:
                async with asyncio.timeout(DIAL_S / len(next_leg.addresses)):
                    return await self._connect(address, next_leg.public_key)
            except (JoulemeshError, OSError, TimeoutError):
                continue
            except Exception:  # noqa: BLE001 - others wrote the address; whoever reads the log can mend what it led to
                _log.exception("a next leg could not be dialled by a fault of this program")
                continue
        return None

    def _note_failure(self, next_leg: Next) -> None:
        self._failed.pop(next_leg, None)
        self._failed[next_leg] = loop_s() + FAILED_S
        while len(self._failed) > MOST_FAILED:
            del self._failed[next(iter(self._failed))]

    async def _serve(self, outbox: Outbox) -> None:
        """Send, and notice the end of a link that nothing is read from, before the next session is sent into it."""
        error: PeerError = LostPeerError("the link to the next leg has ended")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(outbox.run(), name="outbox")
                group.create_task(_watch(outbox.link), name="watch")
        except* Exception as errors:  # noqa: BLE001 - of one link
            error = why_ended(errors)
        finally:
            if self._outboxes.get(outbox.link.public_key) is outbox:
                del self._outboxes[outbox.link.public_key]
        self._lost(outbox, error)
        await outbox.link.close()


def _unreachable() -> RefusedError:
    return RefusedError("the next leg cannot be reached", code="next-unreachable")


async def _watch(link: Link) -> None:
    await link.receive()
    raise MalformedError("a next leg sends nothing back on this link")
