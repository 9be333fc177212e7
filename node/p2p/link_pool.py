"""A client's data links between its jobs: dialled early, used by one job at a time, and kept for the next.

The round trip that a dial takes tells how far away the peer is; the link that it leaves behind carries the order, and
then the job. A peer closes what is of no use to it: an idle link is watched, so that one that has ended is not handed
out.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary, WeakValueDictionary

from node.p2p.link import Link
from node.ports import Allowance, Connect, LinkRank
from node.ports import Link as AnyLink
from protocol.encoding.codec import decode, encode
from protocol.errors import LostPeerError, MalformedError, RefusedError
from protocol.session.ordering import MAX_ANSWER_BYTES, Ordered, Ordering

__all__ = ["LinkPool"]

MOST_IDLE = 64
"""Links that are kept for later; beyond, the one idle for longest is closed."""

ORDERS_AT_ONCE = 3
"""Of one place: a peer keeps four links of a key that has no session with it yet, and lets go of its oldest beyond."""
_ANSWERING = Allowance(header=4096, payload=MAX_ANSWER_BYTES, rank=LinkRank.BUSY)
"""What a peer may send that answers an order."""

_Place = tuple[str, bytes]
"""A data address, and the public key behind it."""


class LinkPool:
    """Belongs to one event loop. An async context manager, at whose end the idle links are closed.

    Args:
        dial: makes a link, and proves its peer's key.
    """

    def __init__(self, dial: Connect) -> None:
        self._dial = dial
        self._idle: dict[AnyLink, tuple[_Place, asyncio.Task[None]]] = {}
        """With who watches each; idle for longest first."""
        self._ordered: defaultdict[_Place, list[AnyLink]] = defaultdict(list)
        """Links that an order went over and whose job has not asked for them yet."""
        self._ordering: WeakValueDictionary[_Place, asyncio.Semaphore] = WeakValueDictionary()
        self._places: WeakKeyDictionary[AnyLink, _Place] = WeakKeyDictionary()
        """Of the links that are in use."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        links = [*self._idle, *(link for links in self._ordered.values() for link in links)]
        for _, watch in self._idle.values():
            watch.cancel()
        await asyncio.gather(*(watch for _, watch in self._idle.values()), return_exceptions=True)
        await asyncio.gather(*(link.close() for link in links))

    async def trip_us(self, address: str, public_key: bytes) -> int | None:
        """Dial, and keep the link for a job that may follow: microseconds of a round trip, None where not measured.

        Raises as `Connect` does.
        """
        link = await self._take(address, public_key)
        self.keep(link)
        trip_s = link.trip_s if isinstance(link, Link) else None
        return None if trip_s is None else int(trip_s * 1_000_000)

    async def order(self, address: str, public_key: bytes, session: bytes, sealed: bytes) -> bytes:
        """The sealed answer to a sealed order; the link waits for `connect` then.

        Raises:
            RefusedError: the peer gives no sealed answer; `code` is the peer's.
            MalformedError: it answers something else.
            UnreachableError, SignatureError, LostPeerError: it cannot be reached, or went away meanwhile.
        """
        place = address, public_key
        async with self._ordering.setdefault(place, asyncio.Semaphore(ORDERS_AT_ONCE)):
            if self._newest_idle(place) is not None:
                try:
                    return await self._order(place, session, sealed)
                except LostPeerError:
                    pass  # it had just ended
            return await self._order(place, session, sealed)

    async def _order(self, place: _Place, session: bytes, sealed: bytes) -> bytes:
        link = await self._take(*place)
        try:
            answer = await _ask(link, session, sealed)
        except RefusedError:
            self.keep(link)
            raise
        except BaseException:
            await self._drop(link)
            raise
        self._ordered[place].append(link)
        return answer

    async def connect(self, address: str, public_key: bytes) -> AnyLink:
        """A link for a job: the one that its order went over, one that was kept, or a new one."""
        waiting = self._ordered.get((address, public_key))
        if waiting:
            link = waiting.pop()
            if not waiting:
                del self._ordered[address, public_key]
            return link
        return await self._take(address, public_key)

    def keep(self, link: AnyLink) -> None:
        """Its job is over, and nothing more comes of it: it waits for the next one."""
        place = self._places.pop(link, None)
        if place is None:
            return
        self._idle[link] = place, asyncio.create_task(self._watch(link), name="idle link")
        if len(self._idle) > MOST_IDLE:
            self._idle[next(iter(self._idle))][1].cancel()

    def _newest_idle(self, place: _Place) -> AnyLink | None:
        return next((link for link, (where, _) in reversed(self._idle.items()) if where == place), None)

    async def _take(self, address: str, public_key: bytes) -> AnyLink:
        place = address, public_key
        while (link := self._newest_idle(place)) is not None:
            _, watch = self._idle.pop(link)
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            if watch.cancelled():
                self._places[link] = place
                return link
            await link.close()  # it has just ended
        link = await self._dial(address, public_key)
        self._places[link] = place
        return link

    async def _drop(self, link: AnyLink) -> None:
        self._places.pop(link, None)
        await link.close()

    async def _watch(self, link: AnyLink) -> None:
        """Close an idle link when it ends, or says something that nobody asked for."""
        try:
            await link.receive()
        except (LostPeerError, MalformedError):
            pass
        finally:
            if self._idle.pop(link, None) is not None:
                await link.close()


async def _ask(link: AnyLink, session: bytes, sealed: bytes) -> bytes:
    link.allow(lambda: _ANSWERING)
    await link.send(encode(Ordering(session=session)), sealed)
    header, payload = await link.receive()
    answer = decode(header, Ordered)
    if answer.session != session or len(payload) > MAX_ANSWER_BYTES:
        raise MalformedError("the answer is to another order")
    if answer.refused is not None:
        raise RefusedError(answer.refused.reason, code=answer.refused.code)
    return payload
