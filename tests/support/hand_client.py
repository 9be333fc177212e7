"""A client of the small market that is driven by hand, frame by frame."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from memory_links import MemoryLink
from small_market import SmallMarket

from protocol.encoding.codec import Message, decode, encode
from protocol.identity.eip712 import Domain
from protocol.identity.signing import SigningKey, open_envelope, seal
from protocol.market.catalog import OffersRequest
from protocol.session.agreement import make_orders
from protocol.session.draws import window_seed
from protocol.session.frames import LEG_FRAMES, Attach, Draw, Prompt
from protocol.session.messages import SignedReceipt, SignedVoucher, Voucher, session_id, sign_voucher
from protocol.session.metering import owed, positions_of, stints, work_of
from protocol.session.order import Acceptance, JobOrder, Refusal
from protocol.session.receipt import token_bytes
from protocol.session.tab import first_voucher
from protocol.settlement import ledger_domain

OTHER_LEDGER = ledger_domain("other+00000000+AA==")
STRANGER = SigningKey(b"\x55" * 32)
PROMPT = (1, 2, 3)
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
    """A client that says what a test wants it to say. Its chunk is longer than its prompt, unless a test says less."""

    def __init__(self, market: SmallMarket, most: int = 12, **changes: Any) -> None:
        self.market = market
        self.key = market.client_key
        self.deal = market.deal(PROMPT, most, **changes)
        self.session = session_id(self.deal.session)
        self.opened = b""

    async def open(self) -> None:
        self.opened = await self.market.ledger.open(self.deal.session, self.key)

    def order(self, node: int = 0, **changes: Any) -> JobOrder:
        """The order of a leg, as it should be but for the changes."""
        deal = self.deal
        orders = make_orders(
            deal.terms,
            deal.session,
            pay=sign_voucher(self.market.ledger.domain, first_voucher(deal.session, deal.terms), self.key),
            opened=self.opened or b"\x00",
            offers=[chosen.sealed for chosen in deal.legs],
            issued_at=self.market.now,
        )
        return orders[node].replace(**changes)

    async def ask(self, node: int = 0, **changes: Any) -> Message:
        """The node's answer to an order."""
        sealed = seal(self.order(node, **changes), self.key)
        reply = await self.market.nodes[node].admission.answer(self.key.public_key, sealed)
        answer, signer = open_envelope(reply, Acceptance, Refusal)
        assert signer == self.market.nodes[node].key.address
        return answer

    async def accepted(self, node: int = 0) -> MemoryLink:
        """Open, order, attach."""
        await self.open()
        answer = await self.ask(node)
        assert isinstance(answer, Acceptance), answer
        link = await self.dial(self.key, node)
        await send(link, Attach(session=self.session))
        return link

    async def dial(self, key: SigningKey, node: int = 0) -> MemoryLink:
        there = self.market.nodes[node]
        return await self.market.network.connect_as(key.public_key)(there.address, there.key.public_key)

    def voucher(self, tokens_in: int, tokens_out: int, **changes: Any) -> Voucher:
        """What is owed for so many tokens, but for the changes."""
        terms = self.deal.terms
        positions = positions_of(terms.plan, tokens_in, tokens_out)
        amounts = tuple(
            owed(leg.rates, work_of(terms.plan, stint, positions))
            for leg, stint in zip(terms.legs, stints(terms, ()), strict=True)
        )
        values = {
            "session": self.session,
            "amounts": amounts,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
            "receipts": bytes(32),
        }
        return Voucher(**{**values, **changes})

    def pay(
        self, tokens_in: int, tokens_out: int, *, domain: Domain | None = None, key: SigningKey | None = None,
        **changes: Any,
    ) -> SignedVoucher:  # fmt: skip
        voucher = self.voucher(tokens_in, tokens_out, **changes)
        return sign_voucher(domain or self.market.ledger.domain, voucher, key or self.key)

    def draw(self, *receipts: SignedReceipt) -> Draw:
        """The seed of the window that these receipts, of all legs, are for."""
        window = receipts[0].receipt.window
        nonces = [each.receipt.nonce for each in receipts]
        seed = window_seed(self.session, window, self.deal.chain.nonce(window), nonces)
        return Draw(session=self.session, window=window, seed=seed)

    def prompt(self, tokens: tuple[int, ...] = PROMPT, *, position: int = 0) -> tuple[Prompt, bytes]:
        return Prompt(session=self.session, position=position, length=len(tokens)), token_bytes(tokens)


async def send(link: MemoryLink, frame: Message, payload: bytes = b"") -> None:
    await link.send(encode(frame), payload)


async def expect(link: MemoryLink, kind: type[F]) -> F:
    """The next frame of this kind; what else comes before it is passed over."""
    return (await expect_with_payload(link, kind))[0]


async def expect_with_payload(link: MemoryLink, kind: type[F]) -> tuple[F, bytes]:
    async with asyncio.timeout(5):
        while True:
            header, payload = await link.receive()
            frame: Message = decode(header, *LEG_FRAMES)
            if isinstance(frame, kind):
                return frame, payload


async def serves(market: SmallMarket, most: int = 9) -> None:
    """A whole honest job, served and paid."""
    before = market.free(market.client_key)
    async with asyncio.timeout(20):
        tokens, result = await market.run(market.deal(PROMPT, most))
    assert (result.error, result.settle_error) == (None, None)
    assert len(tokens) == most
    assert result.record is not None
    assert market.free(market.client_key) == before - sum(result.record.settled) - result.operations
