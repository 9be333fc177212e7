"""Strangers at the real ports of a running node: a typed error for each message, and the node serves on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hand_client import NOISE
from local_network import LocalNetwork

from node.ledger import LedgerClient
from node.model_directory import model_manifest
from node.p2p.direct import DataPlane
from node.p2p.host import P2PHost
from node.p2p.link import PREFIX
from node.p2p.runtime import TrioRuntime
from node.pipeline.buying.job import Deal, make_deal
from protocol.encoding.codec import Message, decode, encode
from protocol.errors import LostPeerError, PeerError
from protocol.identity.eip712 import sign_typed
from protocol.identity.ids import MAX_TOKENS, ModelManifest
from protocol.identity.peer_id import peer_id_of
from protocol.identity.signing import SigningKey, address_of_public_key, open_envelope, seal
from protocol.market.catalog import FileRequest, ManifestRequest, OfferList, OffersRequest
from protocol.market.offer import Offer, Provenance
from protocol.models.activations import ActivationType
from protocol.names import BOOK_PROTOCOL, CHECKPOINTS_TOPIC, MODEL_PROTOCOL, OFFERS_TOPIC, ORDER_PROTOCOL
from protocol.policy.policy import Evidence, LatencyClass, Policy
from protocol.routing.routes import RouteLeg
from protocol.session.agreement import Chosen, make_orders
from protocol.session.frames import (
    LEG_FRAMES,
    Attach,
    Discharged,
    Draw,
    Failed,
    Finish,
    Prompt,
    Receipted,
    Sampled,
    SampledToken,
    Step,
    StepItem,
)
from protocol.session.messages import (
    Discharge,
    Receipt,
    SignedDischarge,
    SignedReceipt,
    Voucher,
    session_id,
    sign_voucher,
)
from protocol.session.order import Acceptance, JobOrder, Refusal
from protocol.session.receipt import token_bytes
from protocol.session.tab import first_voucher
from protocol.session.terms import Plan, SamplingTerms, terms_hash

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

POLICY = Policy(
    latency_class=LatencyClass.CHAT, max_price_in=None, max_price_out=None, allow=(), deny=(),
    min_evidence=Evidence.CLAIMED, min_stake=0, precision="fp32",
)  # fmt: skip


PROMPT = (5, 6, 7)


class Stranger:
    """One key at a running node's doors."""

    def __init__(
        self, network: LocalNetwork, model: Path, host: P2PHost, key: SigningKey, ledger: LedgerClient
    ) -> None:
        self.network, self.host, self.ledger = network, host, ledger
        self.key = key
        self.manifest: ModelManifest = model_manifest(model)
        self.plane = DataPlane(key.secret)
        self.offer: Offer
        self.sealed_offer = b""
        self.peer = ""

    async def arrive(self) -> None:
        ready = await self.network.nodes["node0"].event("node ready")
        self.peer = await self.host.connect(ready["peer"])
        offers = decode(
            await self.host.request(self.peer, BOOK_PROTOCOL, encode(OffersRequest(model=None, node=None))), OfferList
        )
        (self.sealed_offer,) = offers.sealed
        self.offer, _ = open_envelope(self.sealed_offer, Offer)

    async def refused(self, protocol: str, data: bytes) -> str:
        """The code of the node's refusal."""
        with pytest.raises(PeerError) as refusal:
            await self.host.request(self.peer, protocol, data)
        return refusal.value.code

    def deal(self) -> Deal:
        offer = self.offer
        leg = RouteLeg(offer, offer.span, price_in=offer.rates.price_in, price_out=offer.rates.price_out)
        return make_deal(
            [Chosen(leg, self.sealed_offer)],
            manifest=self.manifest,
            venue=self.ledger.domain.separator,
            policy=POLICY,
            plan=Plan(prompt=3, most=8, chunk=8, window=4),
            sampling=SamplingTerms(temperature_milli=0, seed=0),
            prompt=PROMPT,
            client=self.key.address,
            expiry=int(time.time()) + 60,
            randomness=secrets.token_bytes,
        )

    async def open(self) -> JobOrder:
        """An order as it should be, its session open."""
        deal = self.deal()
        return self.order(deal, opened=await self.ledger.open(deal.session, self.key))

    async def begin(self) -> JobOrder:
        """An order that is accepted."""
        order = await self.open()
        assert isinstance(await self.answer(order), Acceptance)
        return order

    async def leave(self, order: JobOrder) -> None:
        """End the session of an accepted order at once: whoever has no history here has one place."""
        session = session_id(order.session)
        link = await self.plane.connect(self.offer.data_addresses[0], self.offer.public_key)
        await link.send(encode(Attach(session=session)))
        await link.send(encode(Finish(session=session, tokens_out=order.terms.plan.most + 1)))
        async with asyncio.timeout(10):
            assert isinstance(decode((await link.receive())[0], *LEG_FRAMES), Failed)
        await link.close()

    def order(self, deal: Deal, *, opened: bytes = b"\x00", issued_at: int | None = None) -> JobOrder:
        (order,) = make_orders(
            deal.terms,
            deal.session,
            pay=sign_voucher(self.ledger.domain, first_voucher(deal.session, deal.terms), self.key),
            opened=opened,
            offers=[self.sealed_offer],
            issued_at=int(time.time()) if issued_at is None else issued_at,
        )
        return order

    async def answer(self, order: JobOrder) -> Acceptance | Refusal:
        reply = await self.host.request(self.peer, ORDER_PROTOCOL, seal(order, self.key))
        answer, _ = open_envelope(reply, Acceptance, Refusal)
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[Stranger]:
    """A ledger, a node with a whole model, a client with money, and somebody else with money of its own."""
    async with LocalNetwork(tmp_path_factory.mktemp("net")) as network:
        await network.start_ledger()
        await network.start_nodes(endless, "0:6", node0=("--kv-tokens", "8192", "--max-sessions", "64"))
        assert (await network.joule("faucet", "1")).status == 0
        key = SigningKey(os.urandom(32))
        async with (
            LedgerClient(network.url) as ledger,
            TrioRuntime.open() as runtime,
            P2PHost.open(runtime, key.secret) as host,
        ):
            made = Stranger(network, endless, host, key, ledger)
            await made.arrive()
            await ledger.faucet(made.key.address, 1_000_000)
            yield made
            await made.plane.close()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def still_serving(stranger: Stranger) -> AsyncIterator[None]:
    """After each test the node does a whole job for its client."""
    yield
    done = await stranger.network.joule("run", "hello", "--max-tokens", "8", "--json")
    assert done.status == 0, done
    assert done.json()["verified"], done.json()


async def test_orders_that_nobody_may_take_get_a_typed_refusal(stranger: Stranger) -> None:
    key, other = stranger.key, SigningKey(b"\x11" * 32)
    deal, good = stranger.deal(), await stranger.open()
    forged = bytearray(seal(good, key))
    forged[-1] ^= 1
    now = int(time.time())
    elsewhere = make_offer_of_another(stranger)
    refusals = {
        "noise": (b"\xc1" * 50, "malformed"),
        "nothing": (b"", "malformed"),
        "another kind": (seal(OffersRequest(model=None, node=None), key), "malformed"),
        "not sealed": (encode(good), "malformed"),
        "a message longer than one may be": (b"\x92" + bytes(100_000), "too-long"),
        "a question longer than is read": (bytes(2 * 1024 * 1024), "too-long"),
        "forged": (bytes(forged), None),
        "another's": (seal(good, other), "bad-signature"),
        "expired": (seal(good.replace(issued_at=now - 500), key), "expired"),
        "from the future": (seal(good.replace(issued_at=now + 500), key), "expired"),
        "of no session": (seal(stranger.order(deal), key), "malformed"),
        "of another's session": (seal(stranger.order(deal, opened=good.opened), key), "dishonest"),
        "on other terms": (seal(good.replace(terms=deal.terms), key), "malformed"),
        "on another's offer": (seal(good.replace(offer=elsewhere), key), "dishonest"),
        "unpaid": (seal(good.replace(pay=stranger.order(deal).pay), key), None),
    }
    for what, (data, code) in refusals.items():
        found = await stranger.refused(ORDER_PROTOCOL, data)
        assert found == code or code is None, what
    assert await stranger.refused("/joulemesh/nothing/1", b"") == "no-such-protocol"
    assert isinstance(await stranger.answer(good), Acceptance)  # nothing of this was held against it
    await stranger.leave(good)


def make_offer_of_another(stranger: Stranger) -> bytes:
    other = SigningKey(b"\x12" * 32)
    return seal(stranger.offer.replace(public_key=other.public_key), other)


async def test_an_order_is_taken_once(stranger: Stranger) -> None:
    order = await stranger.begin()
    assert await stranger.refused(ORDER_PROTOCOL, seal(order, stranger.key)) == "stale"
    await stranger.leave(order)


async def test_an_order_at_the_cost_of_nothing_is_refused(stranger: Stranger) -> None:
    """Rates that the node never offered: no session on them names an offer of its own."""
    deal = stranger.deal()
    (leg,) = deal.terms.route
    free = leg.replace(rates=leg.rates.replace(price_in=0, price_out=0, price_cached=0))
    terms = deal.terms.replace(route=(free,))
    session = deal.session.replace(terms=terms_hash(terms))
    order = stranger.order(deal, opened=await stranger.ledger.open(session, stranger.key))
    order = order.replace(terms=terms, session=session)
    pay = sign_voucher(stranger.ledger.domain, first_voucher(session, terms), stranger.key)
    assert await stranger.refused(ORDER_PROTOCOL, seal(order.replace(pay=pay), stranger.key)) == "dishonest"


async def test_questions_about_models_and_offers_are_held_to_their_form(stranger: Stranger) -> None:
    root = stranger.manifest.root
    for protocol, data, code in (
        (MODEL_PROTOCOL, b"\xc1", "malformed"),
        (MODEL_PROTOCOL, encode(OffersRequest(model=None, node=None)), "malformed"),
        (MODEL_PROTOCOL, encode(ManifestRequest(model=bytes(32))), "model"),
        (MODEL_PROTOCOL, encode(FileRequest(model=root, name="model.safetensors")), "file"),
        (MODEL_PROTOCOL, encode(FileRequest(model=root, name="../../ledger/log.key")), "file"),
        (BOOK_PROTOCOL, b"\xc1", "malformed"),
        (BOOK_PROTOCOL, bytes(4096), "too-long"),
    ):
        assert await stranger.refused(protocol, data) == code, data
    manifest = await stranger.host.request(stranger.peer, MODEL_PROTOCOL, encode(ManifestRequest(model=root)))
    assert decode(manifest, ModelManifest) == stranger.manifest


async def test_gossip_that_is_not_valid_is_not_taken(stranger: Stranger) -> None:
    """A host that lets everything through on its own side; the node holds it against the rules on its own."""
    key, now = stranger.key, int(time.time())
    rates = stranger.offer.rates.replace(price_out=10**10)
    addresses = tuple(f"{each.rpartition('/')[0]}/{peer_id_of(key.public_key)}" for each in stranger.offer.addresses)
    own = stranger.offer.replace(
        public_key=key.public_key, issued_at=now, expires_at=now + 60, rates=rates, addresses=addresses
    )
    for topic in (OFFERS_TOPIC, CHECKPOINTS_TOPIC):
        await stranger.host.subscribe(topic, lambda data: None)
    for data in (
        b"\xc1",
        seal(own, SigningKey(b"\x12" * 32)),
        seal(stranger.offer.replace(sequence=2**40), key),
        seal(own.replace(issued_at=now - 120, expires_at=now - 60), key),
        seal(own.replace(expires_at=now + 10**6), key),
        seal(own.replace(jurisdiction="QQ"), key),
        bytes(60_000),
    ):
        await stranger.host.publish(OFFERS_TOPIC, data)
    for data in (b"", b"memory\n1\nAAAA\n", b"\xff" * 2000):
        await stranger.host.publish(CHECKPOINTS_TOPIC, data)
    good = seal(own, key)
    await stranger.host.publish(OFFERS_TOPIC, good)  # comes after the others on the same way

    async with asyncio.timeout(20):
        while good not in (book := await _book(stranger)):
            await stranger.host.publish(OFFERS_TOPIC, good)
    assert set(book) <= {good, stranger.sealed_offer} | {each for each in book if _by_the_node(stranger, each)}


async def _book(stranger: Stranger) -> list[bytes]:
    reply = await stranger.host.request(stranger.peer, BOOK_PROTOCOL, encode(OffersRequest(model=None, node=None)))
    return list(decode(reply, OfferList).sealed)


def _by_the_node(stranger: Stranger, sealed: bytes) -> bool:
    offer, signer = open_envelope(sealed, Offer)
    return offer.public_key == stranger.offer.public_key and signer == address_of_public_key(offer.public_key)


def frames(stranger: Stranger, session: bytes) -> list[tuple[Message, bytes]]:
    """Every kind of frame there is."""
    key, domain = stranger.key, stranger.ledger.domain
    voucher = Voucher(session=session, amounts=(8,), tokens_in=3, tokens_out=8, receipts=bytes(32))
    receipt = Receipt(
        session=session, leg=0, window=0, tokens_in=3, tokens_out=1, rows=3, input=bytes(32), output=bytes(32),
        tokens=bytes(32), nonce=bytes(32), sketches=bytes(32), millijoules=0, source=Provenance.UNKNOWN,
        pue_milli=1000, p50_us=0, p95_us=0,
        late=0,
    )  # fmt: skip
    word = Discharge(session=session, leg=0, amount=0)
    signed = SignedReceipt(receipt=receipt, signature=sign_typed(domain, receipt, key))
    return [
        (Attach(session=session), b""),
        (sign_voucher(domain, voucher, key), b""),
        (Prompt(session=session, position=0, length=3), token_bytes(PROMPT)),
        (Finish(session=session, tokens_out=0), b""),
        (Draw(session=session, window=0, seed=bytes(32)), b""),
        (
            Step(activations=ActivationType.FP32, items=(StepItem(session=session, position=0, length=1, certain=1),)),
            bytes(4 * stranger.manifest.hidden_size),
        ),
        (Sampled(tokens=(SampledToken(session=session, position=3, token=1),)), b""),
        (Receipted(signed=signed), b""),
        (Discharged(signed=SignedDischarge(discharge=word, signature=sign_typed(domain, word, key))), b""),
        (Failed(session=session, leg=0, code="x", reason="y"), b""),
    ]


async def answered(stranger: Stranger, header: bytes, payload: bytes = b"", *, by: DataPlane | None = None) -> str:
    """The code that a node ends the link with."""
    link = await (by or stranger.plane).connect(stranger.offer.data_addresses[0], stranger.offer.public_key)
    await link.send(header, payload)
    async with asyncio.timeout(10):
        answer: Message = decode((await link.receive())[0], *LEG_FRAMES)
        assert isinstance(answer, Failed)
        with pytest.raises(LostPeerError):
            await link.receive()
    await link.close()
    return answer.code


async def test_frames_of_every_kind_by_somebody_else_are_refused(stranger: Stranger) -> None:
    """In the middle of another client's job, whose session id stands in the ledger for all to read."""
    order = await stranger.begin()
    session = session_id(order.session)
    link = await stranger.plane.connect(stranger.offer.data_addresses[0], stranger.offer.public_key)
    await link.send(encode(Attach(session=session)))
    async with DataPlane(secrets.token_bytes(32)) as other:
        sent = frames(stranger, session)[:7]
        codes = [await answered(stranger, encode(frame), payload, by=other) for frame, payload in sent]
    assert codes == ["not-party"] * 7
    await link.send(encode(Prompt(session=session, position=0, length=3)), token_bytes(PROMPT))
    async with asyncio.timeout(10):
        first: Message = decode((await link.receive())[0], *LEG_FRAMES)
    assert isinstance(first, Sampled)  # nothing of it touched the job
    await link.close()


async def test_frames_that_no_peer_may_send_to_a_leg_end_the_link(stranger: Stranger) -> None:
    for frame, payload in frames(stranger, bytes(32))[7:]:
        assert await answered(stranger, encode(frame), payload) == "malformed"
    for data in NOISE.values():
        if len(data) <= 64 * 1024:
            assert await answered(stranger, data) == "malformed"


@pytest.mark.parametrize("prefix", [(2**32 - 1, 0), (0, 2**32 - 1), (64 * 1024 + 1, 0)])
async def test_a_frame_that_is_too_long_ends_the_link_unread(stranger: Stranger, prefix: tuple[int, int]) -> None:
    link = await stranger.plane.connect(stranger.offer.data_addresses[0], stranger.offer.public_key)
    link._stream.put(PREFIX.pack(*prefix))
    async with asyncio.timeout(10):
        with pytest.raises(LostPeerError):
            await link.receive()


async def test_callers_without_a_key_are_hung_up_on(stranger: Stranger) -> None:
    _, _, host, _, port, _ = stranger.offer.data_addresses[0].split("/")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname, anonymous.verify_mode = False, ssl.CERT_NONE
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=anonymous)
        with contextlib.suppress(OSError):  # TLS says what it misses; then the end comes
            assert await reader.read() == b""
        writer.transport.abort()


async def test_a_clients_own_voucher_beyond_its_rights_ends_its_session_alone(stranger: Stranger) -> None:
    key, domain = stranger.key, stranger.ledger.domain
    for change, code in (
        ({}, "stale"),
        ({"tokens_out": 4}, "unpaid"),
        ({"tokens_out": 9}, "malformed"),
        ({"tokens_in": MAX_TOKENS}, "malformed"),
    ):
        order = await stranger.begin()
        session = session_id(order.session)
        link = await stranger.plane.connect(stranger.offer.data_addresses[0], stranger.offer.public_key)
        await link.send(encode(Attach(session=session)))
        await link.send(encode(sign_voucher(domain, order.pay.voucher.replace(**change), key)))
        async with asyncio.timeout(10):
            failed: Message = decode((await link.receive())[0], *LEG_FRAMES)
        assert isinstance(failed, Failed)
        assert (failed.session, failed.code) == (session, code)
        await link.close()
