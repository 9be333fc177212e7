"""Providers that lie to their client: it blames the right one, pays no more, and keeps what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from hand_client import PROMPT, STRANGER, serves
from lying_legs import Change, Liar
from small_market import RATES, SmallMarket

from node.app.buying.accusing import keep_double, read_proof
from node.events import Event, SignedTwice
from node.pipeline.buying.job import JobResult
from protocol.encoding.codec import Message
from protocol.identity.eip712 import sign_typed
from protocol.identity.ids import checksum_address
from protocol.identity.signing import open_envelope, seal
from protocol.receipts.double_receipt import DoubleReceipt, check_double
from protocol.session.fingerprint import SKETCH_BYTES
from protocol.session.frames import Discharged, Receipted, Sampled, SampledToken
from protocol.session.messages import Receipt
from protocol.session.metering import Work, owed
from protocol.session.order import Acceptance
from protocol.session.receipt import sketches_hash

pytestmark = pytest.mark.asyncio


async def lied_to(market: SmallMarket, number: int, change: Change) -> JobResult:
    return await result_beside(market, Liar(market, number, change))


async def result_beside(market: SmallMarket, _liar: Liar) -> JobResult:
    async with asyncio.timeout(60):
        return (await market.run(market.deal(PROMPT, 12)))[1]


def signs(market: SmallMarket, number: int, alter: Callable[[Receipt], Receipt], *, window: int = 1) -> Change:
    """The leg signs something else than is true, in one window."""
    key = market.nodes[number].key

    def change(frame: Message, payload: bytes) -> tuple[Message | bytes, bytes]:
        if not isinstance(frame, Receipted) or frame.signed.receipt.window != window:
            return frame, payload
        receipt = alter(frame.signed.receipt)
        signature = sign_typed(market.ledger.domain, receipt, key)
        return Receipted(signed=frame.signed.replace(receipt=receipt, signature=signature)), payload

    return change


def price(tokens_out: int) -> int:
    return owed(RATES, Work(0, len(PROMPT), tokens_out))


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_lying_leg_is_blamed_and_paid_no_more(market: SmallMarket, number: int) -> None:
    lie = signs(market, number, lambda receipt: receipt.replace(tokens_out=receipt.tokens_out + 1))
    result = await lied_to(market, number, lie)
    assert result.error is not None
    assert (result.error.code, f"leg {number} counts" in result.error.message) == ("dishonest", True)
    assert result.settle_error is None
    # No more than every leg has signed for: the prompt, and the token that it yielded.
    assert result.pay is not None
    assert result.pay.voucher.amounts == (price(1),) * 3


async def test_what_a_leg_signs_twice_is_kept(market: SmallMarket, tmp_path: Path) -> None:
    key, said = market.nodes[1].key, []

    def change(frame: Message, payload: bytes) -> tuple[Message | bytes, bytes]:
        if not isinstance(frame, Receipted):
            return frame, payload
        said.append(frame.signed.receipt)
        if frame.signed.receipt.window != 1:
            return frame, payload
        receipt = said[0].replace(rows=said[0].rows + 1)
        signature = sign_typed(market.ledger.domain, receipt, key)
        return Receipted(signed=frame.signed.replace(receipt=receipt, signature=signature)), payload

    result = await lied_to(market, 1, change)
    assert result.error is not None
    assert (result.culprits, result.error.code) == ((1,), "dishonest")
    events: list[Event] = []
    keep_double(result, venue="here", folder=tmp_path / "proofs", events=events.append)
    (file,) = (tmp_path / "proofs").iterdir()
    (told,) = events
    assert isinstance(told, SignedTwice)
    assert (told.proof, told.leg, told.provider) == (str(file), 1, checksum_address(key.address))
    proof = read_proof(file)
    assert isinstance(proof, DoubleReceipt)
    assert check_double(proof, market.ledger.domain) == key.address
    assert (proof.venue, proof.first.receipt) == ("here", said[0])

    honest = await lied_to(market, 2, lambda frame, payload: (frame, payload))
    keep_double(honest, venue="here", folder=tmp_path / "none", events=events.append)
    assert (honest.twice, len(events), (tmp_path / "none").exists()) == (None, 1, False)


@pytest.mark.parametrize(
    ("number", "alter", "says"),
    [
        (0, lambda receipt: receipt.replace(input=bytes(32)), "leg 0 signed for other tokens than it was sent"),
        (1, lambda receipt: receipt.replace(output=bytes(32)), "what leg 1 says it sent is not what leg 2"),
        (1, lambda receipt: receipt.replace(input=bytes(32)), "what leg 0 says it sent is not what leg 1"),
        (2, lambda receipt: receipt.replace(tokens=bytes(32)), "leg 2 signed for other tokens than it sent"),
        (1, lambda receipt: receipt.replace(nonce=bytes(32)), "leg 1: a nonce is not the one"),
        (1, lambda receipt: receipt.replace(millijoules=0), "leg 1 takes back energy"),
        (0, lambda receipt: receipt.replace(leg=1), "not signed by its provider"),
    ],
)
async def test_what_a_leg_signs_is_held_against_its_neighbours_and_itself(
    market: SmallMarket, number: int, alter: Callable[[Receipt], Receipt], says: str
) -> None:
    result = await lied_to(market, number, signs(market, number, alter))
    assert result.error is not None
    assert says in result.error.message
    await market.revive(number)


@pytest.mark.parametrize("byte", [0, SKETCH_BYTES - 1, SKETCH_BYTES, 2 * SKETCH_BYTES - 1])
async def test_sketches_of_neighbours_are_equal_to_the_bit_or_the_job_stops(market: SmallMarket, byte: int) -> None:
    key = market.nodes[1].key

    def lie(frame: Message, payload: bytes) -> tuple[Message | bytes, bytes]:
        if not isinstance(frame, Receipted) or not payload:
            return frame, payload
        forged = payload[:byte] + bytes([payload[byte] ^ 1]) + payload[byte + 1 :]
        receipt = frame.signed.receipt
        lied = receipt.replace(sketches=sketches_hash([(liar.seeds[receipt.window - 1], forged)]))
        signature = sign_typed(market.ledger.domain, lied, key)
        return Receipted(signed=frame.signed.replace(receipt=lied, signature=signature)), forged

    liar = Liar(market, 1, lie)
    result = await result_beside(market, liar)
    assert result.error is not None
    left, right = (0, 1) if byte < SKETCH_BYTES else (1, 2)
    assert f"the sketches of legs {left} and {right} differ" in result.error.message


async def test_a_leg_that_shows_other_sketches_than_it_signed_is_blamed(market: SmallMarket) -> None:
    def lie(frame: Message, payload: bytes) -> tuple[Message | bytes, bytes]:
        return frame, bytes(len(payload)) if isinstance(frame, Receipted) else payload

    result = await lied_to(market, 1, lie)
    assert result.error is not None
    assert "leg 1 shows other sketches than it signed" in result.error.message


async def test_a_leg_that_sends_noise_is_blamed(market: SmallMarket) -> None:
    def noise(frame: Message, payload: bytes) -> tuple[Message | bytes, bytes]:
        return (b"\xc1" if isinstance(frame, Receipted) else frame), payload

    result = await lied_to(market, 1, noise)
    assert result.error is not None
    assert "leg 1 (blocks 2:4) sent what cannot be read" in result.error.message
    async with SmallMarket(market.folder / "another") as another:
        await serves(another)


@pytest.mark.parametrize("signature", [bytes(64), b"\x01" * 64])
async def test_a_wrong_discharge_keeps_nobody_from_being_paid(market: SmallMarket, signature: bytes) -> None:
    def lie(frame: Message, payload: bytes) -> tuple[Message | bytes, bytes]:
        if isinstance(frame, Discharged):
            frame = frame.replace(signed=frame.signed.replace(signature=signature))
        return frame, payload

    result = await lied_to(market, 1, lie)
    assert (result.error, result.settle_error) == (None, None)
    assert result.settled is not None
    assert [market.free(node.key) for node in market.nodes] == [price(12)] * 3


async def test_a_leg_that_draws_no_tokens_may_not_send_any(market: SmallMarket) -> None:
    def lie(frame: Message, payload: bytes) -> tuple[Message | bytes, bytes]:
        if not isinstance(frame, Receipted):
            return frame, payload
        token = SampledToken(session=frame.signed.receipt.session, position=3, token=1)
        return Sampled(tokens=(token,)), b""

    result = await lied_to(market, 0, lie)
    assert result.error is not None
    assert "sent tokens; only the last leg draws them" in result.error.message


async def test_an_answer_by_somebody_else_is_no_acceptance(market: SmallMarket) -> None:
    real = market.nodes[1].admission

    class Impostor:
        async def answer(self, peer: bytes, data: bytes) -> bytes:
            reply = await real.answer(peer, data)
            accepted, _ = open_envelope(reply, Acceptance)
            return seal(accepted, STRANGER)

    market.nodes[1].admission = Impostor()  # type: ignore[assignment]
    async with asyncio.timeout(60):
        _, result = await market.run(market.deal(PROMPT, 5))
    assert result.error is not None
    assert "not sealed by its provider" in result.error.message
    assert market.free(market.nodes[1].key) == 0
