"""A client of the small market that is driven by hand, frame by frame."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from memory_links import MemoryLink
from small_market import MANIFEST, SmallMarket

from protocol.catalog import OffersRequest
from protocol.codec import Message, decode, encode
from protocol.eip712 import Domain, sign_typed
from protocol.frames import LEG_FRAMES, Attach, Pay, Prompt
from protocol.messages import Open, Voucher, session_id
from protocol.metering import leg_amount
from protocol.order import Acceptance, Refusal
from protocol.receipt import token_bytes
from protocol.session import ledger_domain
from protocol.signing import SigningKey, open_envelope, seal

OTHER_LEDGER = ledger_domain("other+00000000+AA==")
STRANGER = SigningKey(b"\x55" * 32)
PROMPT = [1, 2, 3]
NOISE = {
    "nothing": b"",
    "noise": b"\xc1" * 40,
    "a message of another kind": encode(OffersRequest(model=None, node=None)),
    "an unknown kind": b"\x92\xa6what/9\xc0",
    "trailing bytes": encode(Attach(session=bytes(32))) + b"\x00",
    "half a message": encode(Attach(session=bytes(32)))[:-3],
    "too long": b"\x92" + b"\x00" * 70_000,
}
"""Bytes that are no frame and no order."""

F = TypeVar("F", bound=Message)


class Hand:
    """A client that says what a test wants it to say."""

    def __init__(self, market: SmallMarket, most: int = 12, **changes: Any) -> None:
        self.market = market
        self.order = market.order(len(PROMPT), most, **changes)
        self.session = session_id(self.order.session)
        self.key = market.client_key

    async def ask(self, node: int = 0, **changes: Any) -> Message:
        """The node's answer to an order."""
        sealed = seal(self.order.replace(leg=node, **changes), self.key)
        reply = await self.market.nodes[node].admission.answer(self.key.public_key, sealed)
        answer, signer = open_envelope(reply, Acceptance, Refusal)
        assert signer == self.market.nodes[node].key.address
        return answer

    async def accepted(self, node: int = 0) -> MemoryLink:
        """Open, order, attach."""
        await self.market.ledger.submit(Open(session=self.order.session), self.key)
        assert isinstance(await self.ask(node), Acceptance)
        link = await self.dial(self.key, node)
        await send(link, Attach(session=self.session))
        return link

    async def dial(self, key: SigningKey, node: int = 0) -> MemoryLink:
        there = self.market.nodes[node]
        return await self.market.network.connect_as(key.public_key)(there.address, there.key.public_key)

    def pay(self, tokens_in: int, tokens_out: int, *, domain: Domain | None = None, **changes: Any) -> Pay:
        values = {"session": self.session, "tokens_in": tokens_in, "tokens_out": tokens_out, "receipts": bytes(32)}
        voucher = Voucher(**{**values, **changes})
        return Pay(voucher=voucher, signature=sign_typed(domain or self.market.ledger.domain, voucher, self.key))

    def prompt(self, tokens: list[int] = PROMPT, *, position: int = 0) -> tuple[Prompt, bytes]:
        return Prompt(session=self.session, position=position, length=len(tokens)), token_bytes(tokens)


async def send(link: MemoryLink, frame: Message, payload: bytes = b"") -> None:
    await link.send(encode(frame), payload)


async def expect(link: MemoryLink, kind: type[F]) -> F:
    """The next frame of this kind; what else comes before it is passed over."""
    async with asyncio.timeout(5):
        while True:
            header, _ = await link.receive()
            frame: Message = decode(header, *LEG_FRAMES)
            if isinstance(frame, kind):
                return frame


async def serves(market: SmallMarket, most: int = 9) -> None:
    """A whole honest job, served and paid."""
    order = market.order(len(PROMPT), most)
    before = market.free(market.client_key)
    async with asyncio.timeout(20):
        result = await market.client.run(order, MANIFEST, PROMPT, lambda token: None)
    assert (result.error, result.settle_error) == (None, None)
    owed = sum(leg_amount(leg, len(PROMPT), most) for leg in order.session.legs)
    assert market.free(market.client_key) == before - owed
