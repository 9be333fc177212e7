"""Orders that come on data links, answered there, before what comes behind them is read.

Trust: whoever orders may be a stranger, and has nothing at risk before its order is looked at. So orders are bounded as
questions on libp2p are (`host.serve`): so many a second of one key, so many at once. What such a link may hold in
memory before that, `StrangerRoom` bounds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache

from node.p2p.pace import Paces
from node.p2p.requests import refusal_of
from node.ports import Allowance, Link
from protocol.encoding.codec import decode, encode
from protocol.errors import JoulemeshError, MalformedError, RefusedError
from protocol.session.ordering import MAX_ORDER_BYTES, Ordered, Ordering

__all__ = ["OrderDesk"]

log = logging.getLogger(__name__)

ORDERS_PER_S = 20.0
"""Of one key, in the long run."""
ORDERS_AT_ONCE = 100
"""After a quiet time."""
MOST_ANSWERED = 64
"""Orders that are being looked at together, of all keys."""
MOST_OF_KEY = 8
"""Of them, those of one key."""
ANSWER_S = 10.0
"""For the answer to one."""

_KIND = encode(Ordering(session=bytes(32)))[:-32]
"""How the header of every order begins."""

Answer = Callable[[bytes, bytes], Awaitable[bytes]]
"""(the peer's public key, the sealed order) -> the sealed answer; raises JoulemeshError to refuse unsealed."""


class OrderDesk:
    """Stands before whoever serves the links of a data plane.

    Args:
        on_link: serves links, and never sees an order.
        allowances: what peers may send there.
    """

    def __init__(
        self, answer: Answer, on_link: Callable[[Link], Awaitable[None]], allowances: Callable[[bytes], Allowance]
    ) -> None:
        self._answer = answer
        self._on_link = on_link
        self._allowances = allowances
        self._paces = Paces[bytes](ORDERS_PER_S, ORDERS_AT_ONCE)
        self._busy: Counter[bytes] = Counter()

    async def on_link(self, link: Link) -> None:
        """Serve a link, orders and all, until it ends."""
        await self._on_link(_Attended(link, self.take))

    def allowance(self, public_key: bytes) -> Allowance:
        """What the peer with this key may send: an order, too."""
        allowed = self._allowances(public_key)
        return allowed if allowed.payload >= MAX_ORDER_BYTES else _with_orders(allowed)

    async def take(self, link: Link, header: bytes, payload: bytes) -> bool:
        """Whether a frame was an order, which is answered then. Raises PeerError for one that is none after all."""
        if not header.startswith(_KIND):
            return False
        session = decode(header, Ordering).session
        try:
            sealed = await self._look_at(link.public_key, payload)
        except JoulemeshError as error:
            await link.send(encode(Ordered(session=session, refused=refusal_of(error))))
        else:
            await link.send(encode(Ordered(session=session, refused=None)), sealed)
        return True

    async def _look_at(self, peer: bytes, sealed: bytes) -> bytes:
        if len(sealed) > MAX_ORDER_BYTES:
            raise MalformedError("an order of too many bytes", code="too-long")
        if not self._paces.allows(peer, asyncio.get_running_loop().time()):
            raise RefusedError("too many orders in a short time", code="busy")
        if self._busy[peer] >= MOST_OF_KEY or self._busy.total() >= MOST_ANSWERED:
            raise RefusedError("too many orders at once", code="busy")
        self._busy[peer] += 1
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._answer(peer, sealed)
        except TimeoutError:
            raise RefusedError(f"no answer within {ANSWER_S:g} s", code="timeout") from None
        except JoulemeshError:
            raise
        except Exception:
            log.exception("an order could not be answered")
            raise RefusedError("the order could not be answered; this node's log says why", code="internal") from None
        finally:
            self._busy[peer] -= 1
            if not self._busy[peer]:
                del self._busy[peer]


@lru_cache(maxsize=256)
def _with_orders(allowed: Allowance) -> Allowance:
    return replace(allowed, payload=MAX_ORDER_BYTES)


class _Attended:
    """A link on which orders are answered as they come."""

    def __init__(self, link: Link, take: Callable[[Link, bytes, bytes], Awaitable[bool]]) -> None:
        self._link = link
        self._take = take
        self.send = link.send
        self.put = link.put
        self.allow = link.allow
        self.close = link.close

    @property
    def public_key(self) -> bytes:
        return self._link.public_key

    async def receive(self) -> tuple[bytes, bytes]:
        while True:
            header, payload = await self._link.receive()
            if not await self._take(self._link, header, payload):
                return header, payload
