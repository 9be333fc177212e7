"""A client's links to the legs of one job: dialled, read side by side, and sent to for as long as they last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from node.pipeline.buying.job import ClientSide, JobResult, tls_address
from node.ports import Allowance, Link, LinkRank
from protocol.encoding.codec import Message, decode, encode
from protocol.errors import LostPeerError, PeerError, UnreachableError
from protocol.session.frames import LEG_FRAMES, MAX_ITEMS, Attach, Joining, Told
from protocol.session.logprobs import MOST_BYTES
from protocol.session.receipt import MOST_SKETCHES_BYTES

__all__ = ["LegLinks", "Word"]

MAX_UNREAD = 256
"""Frames of all legs together that wait to be looked at; a leg that sends more is read no faster."""
TOLD_BYTES = 16 * 1024
"""Of ids in one frame."""
SEND_S = 5.0
"""Seconds for one frame to be taken."""
FROM_LEG = Allowance(header=16 * 1024, payload=max(MOST_SKETCHES_BYTES, MOST_BYTES * MAX_ITEMS), rank=LinkRank.BUSY)
"""What a leg may send: the sketches of some windows, or as many tokens as one message holds, with what is said of them.
"""

Word = Message | Exception
"""A leg's frame, or why its link has ended."""


class LegLinks:
    """The links of one job by leg; one that cannot be dialled is the leg's failure."""

    def __init__(self, side: ClientSide, result: JobResult) -> None:
        self._side = side
        self._result = result
        self._links: dict[int, Link] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._inbox: asyncio.Queue[tuple[int, Word, bytes]] = asyncio.Queue(MAX_UNREAD)
        self._lost: set[int] = set()
        """Legs that nothing can be sent to."""
        self._silent: set[int] = set()
        """Legs that have said their last."""

    def __len__(self) -> int:
        return len(self._links)

    @property
    def speaking(self) -> set[int]:
        """Legs that may still say something, also where nothing can be sent to them."""
        return self._links.keys() - self._silent

    @property
    def lost(self) -> set[int]:
        """Legs that nothing can be sent to any more."""
        return self._lost

    async def attach_all(self, legs: Iterable[int]) -> None:
        """Dial every one of these that was not dialled before; those that are not reached count as lost."""
        waiting = sorted(set(legs) - self._links.keys() - self._lost)
        await asyncio.gather(*map(self._attach, waiting))

    async def send_all(self, frame: Message) -> None:
        """To every leg that was dialled, as `send`."""
        await asyncio.gather(*(self.send(leg, frame) for leg in self._links))

    async def send(self, leg: int, frame: Message, payload: bytes = b"") -> None:
        """To a leg that is still there; that one is lost is told by its reader, which knows why."""
        if leg in self._lost:
            return
        link, header = self._links[leg], encode(frame)
        try:
            if not link.put(header, payload):
                async with asyncio.timeout(SEND_S):
                    await link.send(header, payload)
        except (PeerError, TimeoutError):
            self._lost.add(leg)

    async def receive(self) -> tuple[int, Word, bytes]:
        """The next word of any leg: which one, what it says, and the payload that comes with it."""
        return await self._inbox.get()

    def give_up(self, leg: int) -> None:
        """Send this leg nothing more: for it the session has ended."""
        self._lost.add(leg)

    def has_ended(self, leg: int) -> None:
        """Its link is gone: it is sent nothing, and says nothing, any more."""
        self._lost.add(leg)
        self._silent.add(leg)

    async def close(self) -> None:
        """Leave every link: with its discharge a leg has said its last, and the next job may have that link.

        Raises what ended a reader, where nobody had foreseen it.
        """
        for reader in self._readers:
            reader.cancel()
        ends = await asyncio.gather(*self._readers, return_exceptions=True)
        done = self._result.discharges.keys() - self._lost - self._silent
        for leg in done & self._links.keys():
            self._side.keep(self._links[leg])
        await asyncio.gather(*(link.close() for leg, link in self._links.items() if leg not in done))
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _attach(self, leg: int) -> None:
        deal = self._result.deal
        offer = deal.offer(leg)
        try:
            link = await self._side.connect(tls_address(offer), offer.public_key)
        except (PeerError, UnreachableError) as error:
            self._lost.add(leg)
            why = f"{deal.name(leg)} cannot be reached: {error.message}"
            self._result.blame(leg, LostPeerError(why, code=error.code))
            return
        link.allow(lambda: FROM_LEG)
        self._links[leg] = link
        self._readers.append(asyncio.create_task(self._read(leg, link), name=f"leg {leg}"))
        tab = self._result.tab
        standing_by = Joining(base=tab.joinings[0].base, start=0, onward=0)
        joining = tab.joinings[leg] if leg < len(tab.joinings) else standing_by
        await self.send(leg, Attach(session=tab.id, joining=joining, secret=deal.secret_of(leg)))
        if deal.terms.sampling.looks_back and deal.holds_last(leg):
            await self.tell(leg, deal.told, answer=False)

    async def tell(self, leg: int, ids: bytes, *, answer: bool) -> None:
        """What a leg's draws look back on, of the prompt or of the answer, in parts."""
        for at in range(0, len(ids), TOLD_BYTES):
            last = at + TOLD_BYTES >= len(ids)
            header = Told(session=self._result.tab.id, answer=answer, last=last)
            await self.send(leg, header, ids[at : at + TOLD_BYTES])

    async def _read(self, leg: int, link: Link) -> None:
        """Hand on what a leg sends until its link ends, and then why."""
        try:
            while True:
                header, payload = await link.receive()
                frame: Message = decode(header, *LEG_FRAMES)
                await self._inbox.put((leg, frame, payload))
        except PeerError as error:
            await self._inbox.put((leg, error, b""))
        except Exception as error:
            # Nobody has foreseen it: it ends the job, and `close` raises it where the job was over before.
            await self._inbox.put((leg, error, b""))
            raise
