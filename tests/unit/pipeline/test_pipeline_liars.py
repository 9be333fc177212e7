"""Providers that lie to their client: it blames the right one, pays no more, and keeps what it has."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hand_client import PROMPT, STRANGER, serves
from memory_links import MemoryLink
from node.pipeline.client import JobResult
from small_market import MANIFEST, SmallMarket

from protocol.codec import Message, decode, encode
from protocol.eip712 import sign_typed
from protocol.frames import (
    LEG_FRAMES,
    Discharged,
    Receipted,
    Sampled,
    SampledToken,
)
from protocol.metering import leg_amount
from protocol.order import Acceptance
from protocol.signing import open_envelope, seal

pytestmark = pytest.mark.asyncio


class Liar:
    """Stands between a client and one node, and changes what the node says."""

    def __init__(self, market: SmallMarket, number: int) -> None:
        self.market = market
        self.node = market.nodes[number]
        self.change: Any = lambda frame: frame
        real = market.client._side.connect

        async def connect(address: str, key: bytes) -> Any:
            link = await real(address, key)
            return _Changed(link, self) if address == self.node.address else link

        object.__setattr__(market.client._side, "connect", connect)


class _Changed:
    def __init__(self, link: MemoryLink, liar: Liar) -> None:
        self._link = link
        self._liar = liar
        self.public_key = link.public_key
        self.send, self.close = link.send, link.close

    async def receive(self) -> tuple[bytes, bytes]:
        header, payload = await self._link.receive()
        changed = self._liar.change(decode(header, *LEG_FRAMES))
        return (changed if isinstance(changed, bytes) else encode(changed)), payload


async def lied_to(market: SmallMarket, liar: Liar, change: Any) -> JobResult:
    liar.change = change
    async with asyncio.timeout(30):
        return await market.client.run(market.order(3, 12), MANIFEST, PROMPT, lambda token: None)


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_lying_leg_is_blamed_and_paid_no_more(market: SmallMarket, number: int) -> None:
    key = market.nodes[number].key

    def lie(frame: Message) -> Message:
        if not isinstance(frame, Receipted) or frame.receipt.tokens_out <= 1:
            return frame
        receipt = frame.receipt.replace(tokens_out=frame.receipt.tokens_out + 1)
        return Receipted(receipt=receipt, signature=sign_typed(market.ledger.domain, receipt, key))

    result = await lied_to(market, Liar(market, number), lie)
    assert result.error is not None
    assert (result.error.code, f"leg {number} counts" in result.error.message) == ("dishonest", True)
    assert result.settle_error is None
    receipted = result.tab.windows[-1][0][0].receipt.tokens_out
    assert result.tab.paid[1] <= receipted + result.tab.plan.window
    legs = result.order.session.legs
    assert [market.free(node.key) for node in market.nodes] == [leg_amount(leg, *result.tab.paid) for leg in legs]


async def test_a_leg_that_sends_noise_is_blamed(market: SmallMarket) -> None:
    noise = lambda frame: b"\xc1" if isinstance(frame, Receipted) else frame  # noqa: E731
    result = await lied_to(market, Liar(market, 1), noise)
    assert result.error is not None
    assert "leg 1 (blocks 2:4) sent what cannot be read" in result.error.message
    assert result.tab.paid == (3, 0)
    await serves(SmallMarket(market.folder / "another"))


@pytest.mark.parametrize("signature", [bytes(64), b"\x01" * 64])
async def test_a_wrong_discharge_keeps_nobody_from_being_paid(market: SmallMarket, signature: bytes) -> None:
    lie = lambda frame: frame.replace(signature=signature) if isinstance(frame, Discharged) else frame  # noqa: E731
    result = await lied_to(market, Liar(market, 1), lie)
    assert (result.error, result.settle_error, result.closed) == (None, None, None)
    assert result.settled is not None
    assert [market.free(node.key) for node in market.nodes] == [leg_amount(result.order.session.legs[0], 3, 12)] * 3


async def test_a_leg_that_draws_no_tokens_may_not_send_any(market: SmallMarket) -> None:
    def lie(frame: Message) -> Message:
        if not isinstance(frame, Receipted):
            return frame
        return Sampled(tokens=(SampledToken(session=frame.receipt.session, position=3, token=1),))

    result = await lied_to(market, Liar(market, 0), lie)
    assert result.error is not None
    assert "leg 0 sent tokens; only the last one draws them" in result.error.message


async def test_an_answer_by_somebody_else_is_no_acceptance(market: SmallMarket) -> None:
    order = market.order(3, 5)
    real = market.nodes[1].admission

    class Impostor:
        async def answer(self, peer: bytes, data: bytes) -> bytes:
            reply = await real.answer(peer, data)
            accepted, _ = open_envelope(reply, Acceptance)
            return seal(accepted, STRANGER)

    market.nodes[1].admission = Impostor()  # type: ignore[assignment]
    async with asyncio.timeout(30):
        result = await market.client.run(order, MANIFEST, PROMPT, lambda token: None)
    assert result.error is not None
    assert "answer of leg 1 is not its provider's" in result.error.message
    assert [market.free(node.key) for node in market.nodes] == [0, 0, 0]
