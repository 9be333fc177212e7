"""Strangers at the real ports of a running node: a typed error for each message, and the node serves on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hand_client import NOISE
from local_network import LocalNetwork, voucher_beyond

from node.ledger import LedgerClient
from node.model_directory import model_manifest
from node.p2p.direct import DataPlane
from node.p2p.host import P2PHost
from node.p2p.link import PREFIX
from node.p2p.runtime import TrioRuntime
from protocol.catalog import FileRequest, ManifestRequest, OfferList, OffersRequest
from protocol.codec import Message, decode, encode
from protocol.eip712 import sign_typed
from protocol.errors import LostPeerError, PeerError
from protocol.frames import (
    LEG_FRAMES,
    Attach,
    Discharged,
    Failed,
    Finish,
    Pay,
    Prompt,
    Receipted,
    Sampled,
    SampledToken,
    Step,
    StepItem,
)
from protocol.ids import ModelManifest
from protocol.messages import Discharge, Leg, Open, Receipt, Session, Voucher, session_id
from protocol.metering import Plan
from protocol.names import BOOK_PROTOCOL, CHECKPOINTS_TOPIC, MODEL_PROTOCOL, OFFERS_TOPIC, ORDER_PROTOCOL
from protocol.offer import Evidence, Offer
from protocol.order import Acceptance, Hop, JobOrder, Refusal, SamplingTerms
from protocol.policy import LatencyClass, Policy, policy_hash
from protocol.receipt import token_bytes
from protocol.signing import SigningKey, open_envelope, seal

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

POLICY = Policy(
    latency_class=LatencyClass.CHAT, max_price_in=None, max_price_out=None, allow=(), deny=(),
    min_evidence=Evidence.CLAIMED, min_stake=0, precision="fp32",
)  # fmt: skip


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

    def order(self, **changes: Any) -> JobOrder:
        plan = Plan(prompt=3, most=8, chunk=8, window=4)
        leg = Leg(
            provider=SigningKey(bytes(31) + b"\x01").address, price_in=self.offer.price_in,
            price_out=self.offer.price_out, cap=100_000,
        )  # fmt: skip
        _, provider = open_envelope(self.sealed_offer, Offer)
        terms = Session(
            client=self.key.address, expiry=int(time.time()) + 60, window=4, model=self.manifest.root,
            policy=policy_hash(POLICY), salt=secrets.token_bytes(32), legs=(leg.replace(provider=provider),),
        )  # fmt: skip
        hop = Hop(public_key=self.offer.public_key, data_address=self.offer.data_address, span=self.offer.span)
        values = {
            "venue": self.ledger.domain.separator, "session": terms, "leg": 0, "hops": (hop,), "plan": plan,
            "policy": POLICY, "sampling": SamplingTerms(temperature_milli=0, seed=0), "issued_at": int(time.time()),
        }  # fmt: skip
        return JobOrder(**{**values, **changes})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[Stranger]:
    """A ledger, a node with a whole model, a client with money, and somebody else with money of its own."""
    async with LocalNetwork(tmp_path_factory.mktemp("net")) as network:
        await network.start_ledger()
        await network.start_nodes(endless, "0:6", node0=("--kv-tokens", "8192"))
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
    assert done.json()["verified"]


async def test_orders_that_nobody_may_take_get_a_typed_refusal(stranger: Stranger) -> None:
    good, key = stranger.order(), stranger.key
    other = SigningKey(b"\x11" * 32)
    forged = bytearray(seal(good, key))
    forged[-1] ^= 1
    refusals = {
        "noise": (b"\xc1" * 50, "malformed"),
        "nothing": (b"", "malformed"),
        "another kind": (seal(OffersRequest(model=None, node=None), key), "malformed"),
        "not sealed": (encode(good), "malformed"),
        "a message longer than one may be": (b"\x92" + bytes(100_000), "malformed"),
        "a question longer than is read": (bytes(2 * 1024 * 1024), "too-long"),
        "forged": (bytes(forged), None),
        "another's": (seal(good, other), "bad-signature"),
        "expired": (seal(stranger.order(issued_at=int(time.time()) - 500), key), "expired"),
        "from the future": (seal(stranger.order(issued_at=int(time.time()) + 500), key), "expired"),
        "of another ledger": (seal(stranger.order(venue=bytes(32)), key), "venue"),
        "of no session": (seal(good, key), "unknown-session"),
        "of another policy": (seal(good.replace(policy=POLICY.replace(deny=("FR",))), key), "malformed"),
    }
    for what, (data, code) in refusals.items():
        found = await stranger.refused(ORDER_PROTOCOL, data)
        assert found == code or code is None, what
    assert await stranger.refused("/joulemesh/nothing/1", b"") == "no-such-protocol"


async def test_an_order_is_taken_once(stranger: Stranger) -> None:
    order = stranger.order()
    await stranger.ledger.submit(Open(session=order.session), stranger.key)
    sealed = seal(order, stranger.key)
    reply = await stranger.host.request(stranger.peer, ORDER_PROTOCOL, sealed)
    answer, _ = open_envelope(reply, Acceptance, Refusal)
    assert isinstance(answer, Acceptance)
    assert await stranger.refused(ORDER_PROTOCOL, sealed) == "stale"


async def test_an_order_below_the_ask_is_refused_with_its_reason(stranger: Stranger) -> None:
    order = stranger.order()
    (leg,) = order.session.legs
    order = order.replace(session=order.session.replace(legs=(leg.replace(price_in=1, price_out=1),)))
    await stranger.ledger.submit(Open(session=order.session), stranger.key)
    reply = await stranger.host.request(stranger.peer, ORDER_PROTOCOL, seal(order, stranger.key))
    refusal, _ = open_envelope(reply, Acceptance, Refusal)
    assert isinstance(refusal, Refusal)
    assert refusal.code in {"below-floor", "below-ask"}
    assert refusal.reason
    assert refusal.discharge is not None


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
    own = stranger.offer.replace(public_key=key.public_key, issued_at=now, expires_at=now + 60, price_out=10**10)
    for topic in (OFFERS_TOPIC, CHECKPOINTS_TOPIC):
        await stranger.host.subscribe(topic, lambda data: None)
    for data in (
        b"\xc1",
        seal(own, SigningKey(b"\x12" * 32)),
        seal(stranger.offer.replace(price_out=1, sequence=2**40), key),
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
    offer, _ = open_envelope(sealed, Offer)
    return offer.public_key == stranger.offer.public_key and offer.price_out == stranger.offer.price_out


def frames(stranger: Stranger, session: bytes) -> list[tuple[Message, bytes]]:
    """Every kind of frame there is."""
    key, domain = stranger.key, stranger.ledger.domain
    voucher = Voucher(session=session, tokens_in=3, tokens_out=8, receipts=bytes(32))
    receipt = Receipt(
        session=session, leg=0, tokens_in=3, tokens_out=1, input=bytes(32), output=bytes(32), fingerprint=bytes(32),
        millijoules=0,
    )  # fmt: skip
    word = Discharge(session=session, tokens_in=0, tokens_out=0)
    return [
        (Attach(session=session), b""),
        (Pay(voucher=voucher, signature=sign_typed(domain, voucher, key)), b""),
        (Prompt(session=session, position=0, length=3), token_bytes([5, 6, 7])),
        (Finish(session=session, tokens_out=0), b""),
        (
            Step(items=(StepItem(session=session, position=0, length=1),)),
            bytes(4 * stranger.manifest.hidden_size),
        ),
        (Sampled(tokens=(SampledToken(session=session, position=3, token=1),)), b""),
        (Receipted(receipt=receipt, signature=sign_typed(domain, receipt, key)), bytes(256)),
        (Discharged(discharge=word, leg=0, signature=sign_typed(domain, word, key)), b""),
        (Failed(session=session, leg=0, code="x", reason="y"), b""),
    ]


async def answered(stranger: Stranger, header: bytes, payload: bytes = b"") -> str:
    """The code that a node ends the link with."""
    link = await stranger.plane.connect(stranger.offer.data_address, stranger.offer.public_key)
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
    network = stranger.network
    process = await network.spawn("run", "hello", "--max-tokens", "1500", "--verbose", "--json")
    await voucher_beyond(process, 0)
    (stored,) = network.sessions("client")
    session = session_id(stored.session)
    codes = [await answered(stranger, encode(frame), payload) for frame, payload in frames(stranger, session)[:6]]
    out, err = await process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["tokens_out"] == 1500
    assert codes == ["not-party"] * 6


async def test_frames_that_no_peer_may_send_to_a_leg_end_the_link(stranger: Stranger) -> None:
    for frame, payload in frames(stranger, bytes(32))[6:]:
        assert await answered(stranger, encode(frame), payload) == "malformed"
    for data in NOISE.values():
        if len(data) <= 64 * 1024:
            assert await answered(stranger, data) == "malformed"


@pytest.mark.parametrize("prefix", [(2**32 - 1, 0), (0, 2**32 - 1), (64 * 1024 + 1, 0)])
async def test_a_frame_that_is_too_long_ends_the_link_unread(stranger: Stranger, prefix: tuple[int, int]) -> None:
    link = await stranger.plane.connect(stranger.offer.data_address, stranger.offer.public_key)
    link._writer.write(PREFIX.pack(*prefix))
    async with asyncio.timeout(10):
        with pytest.raises(LostPeerError):
            await link.receive()


async def test_callers_without_a_key_are_hung_up_on(stranger: Stranger) -> None:
    _, _, host, _, port, _ = stranger.offer.data_address.split("/")
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
        ({"tokens_in": 2}, "stale"),
        ({"tokens_out": 9}, "malformed"),
        ({"tokens_in": 2**40}, "malformed"),
    ):
        order = stranger.order()
        await stranger.ledger.submit(Open(session=order.session), key)
        answer, _ = open_envelope(
            await stranger.host.request(stranger.peer, ORDER_PROTOCOL, seal(order, key)), Acceptance, Refusal
        )
        assert isinstance(answer, Acceptance)
        session = session_id(order.session)
        link = await stranger.plane.connect(stranger.offer.data_address, stranger.offer.public_key)
        await link.send(encode(Attach(session=session)))
        voucher = Voucher(session=session, tokens_in=3, tokens_out=0, receipts=bytes(32))
        for each in (voucher, voucher.replace(**change)):
            await link.send(encode(Pay(voucher=each, signature=sign_typed(domain, each, key))))
        async with asyncio.timeout(10):
            failed: Message = decode((await link.receive())[0], *LEG_FRAMES)
        assert isinstance(failed, Failed)
        assert (failed.session, failed.code) == (session, code)
        await link.close()
