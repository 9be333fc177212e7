"""A leg whose client hears other things than it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memory_links import MemoryLink
from small_market import SmallMarket

from node.pipeline.buying.client import JobClient
from protocol.encoding.codec import Message, decode, encode
from protocol.session.frames import CLIENT_FRAMES, LEG_FRAMES, Draw

__all__ = ["Change", "Liar"]

Change = Callable[[Message, bytes], tuple[Message | bytes, bytes]]


class Liar:
    """Stands between a client and one node, and changes what the node says."""

    def __init__(self, market: SmallMarket, number: int, change: Change) -> None:
        self.node = market.nodes[number]
        self.change = change
        self.seeds: dict[int, bytes] = {}
        """By window, as the client gave them."""
        real = market.side.connect

        async def connect(address: str, key: bytes) -> Any:
            link = await real(address, key)
            return _Changed(link, self) if address == self.node.address else link

        object.__setattr__(market.side, "connect", connect)
        market.client = JobClient(market.side)


class _Changed:
    def __init__(self, link: MemoryLink, liar: Liar) -> None:
        self._link = link
        self._liar = liar
        self.public_key = link.public_key
        self.close = link.close
        self.allow = link.allow
        self.put = link.put

    async def send(self, header: bytes, payload: bytes = b"") -> None:
        frame: Message = decode(header, *CLIENT_FRAMES)
        if isinstance(frame, Draw):
            self._liar.seeds[frame.window] = frame.seed
        await self._link.send(header, payload)

    async def receive(self) -> tuple[bytes, bytes]:
        header, payload = await self._link.receive()
        changed, payload = self._liar.change(decode(header, *LEG_FRAMES), payload)
        return (changed if isinstance(changed, bytes) else encode(changed)), payload
