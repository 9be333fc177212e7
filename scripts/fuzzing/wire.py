"""What peers send: messages, envelopes, offers, orders, receipts, requests, frames, certificates and addresses."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Sequence
from typing import Any

import msgpack
import trio

from node.market.book import verify_offer
from node.p2p.address import (
    check_announced,
    check_listen,
    check_peer_address,
    data_address,
    parse_data_address,
)
from node.p2p.certificate import authenticate
from node.p2p.link import read_lengths
from node.p2p.requests import Service, answer_stream, ask
from node.p2p.usage import Usage
from node.ports import STRANGER
from protocol.encoding.codec import Message, decode, encode
from protocol.errors import ListenError, PeerError
from protocol.identity.eip712 import struct_hash
from protocol.identity.ids import keccak256
from protocol.identity.peer_id import peer_id_of, public_key_of
from protocol.identity.signing import SigningKey, open_envelope
from protocol.market.catalog import RequestRefused
from protocol.models.activations import ActivationType, from_wire, to_wire
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import dump_bundle, load_bundle
from protocol.session.fingerprint import SKETCH_BYTES
from protocol.session.fingerprint import parse as parse_sketch
from protocol.session.messages import Session
from protocol.session.order import JobOrder, check_acceptance, check_order
from protocol.session.terms import Terms, open_reroutes
from scripts.fuzzing.mutators import der, lines, raw, several
from scripts.fuzzing.samples import VECTORS, job_vectors, messages_of, refilled, wire_messages
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import json_tree, msgpack_tree
from scripts.vectors.parties import BLOCKS, CLIENT, DOMAIN, MANIFEST, NOW, PROVIDERS

__all__ = ["targets"]

_PREFIX = b"\x19joulemesh envelope\n"


def resealed(key: SigningKey, inner: Mutator) -> Mutator:
    """Spoils the body of an envelope by `inner`, and signs it anew, so that what comes after the seal is reached."""

    def mutate(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
        try:
            kind, body, _ = msgpack.unpackb(data, raw=False)
        except (ValueError, TypeError, msgpack.exceptions.UnpackException):
            return raw(rng, data, others)
        if type(body) is not bytes:
            return raw(rng, data, others)
        body = inner(rng, body, others)
        return bytes(msgpack.packb([kind, body, key.sign_digest(keccak256(_PREFIX + body))]))

    return mutate


_TREE = msgpack_tree(several(raw, msgpack_tree()))
_MESSAGE = several(_TREE, refilled, raw)
_BODY = several(_TREE, refilled, refilled)


def _decoded(cls: type[Message], data: bytes) -> None:
    value = decode(data, cls)
    assert encode(value) == data
    if cls.typed:
        assert len(struct_hash(value)) == 32


def _envelope(data: bytes) -> None:
    open_envelope(data, *wire_messages())


def _offer(data: bytes) -> None:
    assert verify_offer(data, NOW).sealed == data


def _order(data: bytes) -> None:
    order, signer = open_envelope(data, JobOrder)
    check_order(
        order,
        signer,
        me=PROVIDERS[order.leg % len(PROVIDERS)].public_key,
        domain=DOMAIN,
        manifest=MANIFEST,
        now=NOW,
    )


@functools.cache
def _job() -> Any:
    return load_bundle(job_vectors()["jobs"][0]["bundle"].encode())


def _acceptance(data: bytes) -> None:
    check_acceptance(data, _job().session, _job().terms, 0)


@functools.cache
def _rerouted() -> tuple[Terms, Session]:
    vectors = job_vectors()["reroutes"]
    return decode(bytes.fromhex(vectors["terms"]), Terms), decode(bytes.fromhex(vectors["session"]), Session)


def _reroute(data: bytes) -> None:
    open_reroutes([data], *_rerouted(), blocks=BLOCKS)


def _receipt(data: bytes) -> None:
    bundle = load_bundle(data)
    assert load_bundle(dump_bundle(bundle).encode()) == bundle
    verify_bundle(bundle)


def _rows(data: bytes) -> None:
    kind = ActivationType.BF16 if data[:1] < b"\x80" else ActivationType.FP32
    rows = from_wire(kind, data[1:], 8)
    if kind is ActivationType.FP32:
        assert to_wire(kind, rows) == data[1:]


def _sketch(data: bytes) -> None:
    parse_sketch(data)


def _prefix(data: bytes) -> None:
    header, payload = read_lengths(data[:8].ljust(8, b"\0"), STRANGER)
    assert header <= STRANGER.header
    assert payload <= STRANGER.payload


class _Stream:
    """One libp2p stream whose peer has sent some bytes, and ended."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._said = b""
        self.muxed_conn = self
        self.peer_id = peer_id_of(CLIENT.public_key)

    async def read(self, most: int) -> bytes:
        piece, self._data = self._data[:most], self._data[most:]
        return piece

    async def write(self, data: bytes) -> None:
        self._said += data
        assert self._said[:1] in (b"\0", b"\1")

    async def close(self) -> None:
        """As a stream does."""

    async def reset(self) -> None:
        """As a stream does."""


class _Asked(_Stream):
    async def new_stream(self, *_: object) -> _Asked:
        return self

    async def write(self, data: bytes) -> None:
        """The question, which nobody reads."""


async def _echo(_peer: bytes, question: bytes) -> bytes:
    return question


def _question(data: bytes) -> None:
    service = Service(_echo, max_request=64 * 1024, at_once=8, at_once_of_peer=8)
    usage = Usage(lambda: 0.0, lambda _peer: False, lambda _peer: False)
    trio.run(answer_stream, _Stream(data), service, usage)


def _answer(data: bytes) -> None:
    trio.run(ask, _Asked(data), peer_id_of(CLIENT.public_key), "/p", b"question", 64 * 1024)


def _asked_seeds() -> list[bytes]:
    refused = encode(RequestRefused(code="busy", reason="later"))
    return [b"\0" + _long(b"answer"), b"\1" + _long(refused), b"\0" + _long(b"")]


def _long(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _certificate(data: bytes) -> None:
    assert len(authenticate(data)) == 33


def _certificates() -> list[bytes]:
    vectors = json.loads((VECTORS / "certificate.json").read_text())
    return [bytes.fromhex(each["certificate"]) for each in (vectors["valid"], *vectors["invalid"])]


def _address(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    for check in (check_peer_address, check_listen, check_announced, _data_address):
        try:
            check(text)
        except (PeerError, ListenError):
            continue
    if not text.startswith("/"):
        assert peer_id_of(public_key_of(text)) == text


def _data_address(text: str) -> None:
    found = parse_data_address(text)
    assert data_address(found.host, found.port).split("/")[2:] == text.split("/")[2:] or "dns" in text


def _addresses() -> list[bytes]:
    peer = peer_id_of(CLIENT.public_key)
    hosts = ("ip4/192.0.2.1", "ip6/2001:db8::1", "dns4/node.example.org", "dns6/a-b.example")
    texts = [
        f"/{host}/tcp/{port}{end}" for host in hosts for port, end in ((1, ""), (65535, "/tls"), (4001, f"/p2p/{peer}"))
    ]
    return [text.encode() for text in (*texts, peer)]


def _envelopes() -> list[bytes]:
    return [
        bytes.fromhex(each["sealed"]) for job in job_vectors()["jobs"] for each in job["offers"] + job["acceptances"]
    ]


def _acceptances() -> list[bytes]:
    return [bytes.fromhex(job_vectors()["jobs"][0]["acceptances"][0]["sealed"])]


def _orders() -> list[bytes]:
    return [bytes.fromhex(order) for job in job_vectors()["jobs"] for order in job["orders"]]


def _reroutes() -> list[bytes]:
    return [bytes.fromhex(job_vectors()["reroutes"]["sealed"][0])]


def _receipts() -> list[bytes]:
    return [
        *(job["bundle"].encode() for job in job_vectors()["jobs"]),
        (VECTORS / "stored" / "receipt.json").read_bytes(),
    ]


def targets() -> list[Target]:
    """See the module."""
    peer = (PeerError,)
    messages = [
        Target(
            name=cls.kind.partition("/")[0],
            seeds=functools.partial(messages_of, cls),
            run=functools.partial(_decoded, cls),
            errors=peer,
            mutators=(_MESSAGE,),
            short=300,
        )
        for cls in wire_messages()
    ]
    return [
        *messages,
        Target(
            name="sealed",
            seeds=_envelopes,
            run=_envelope,
            errors=peer,
            mutators=(_MESSAGE, resealed(CLIENT, _BODY)),
        ),
        Target(
            name="sealed-offer",
            seeds=_envelopes,
            run=_offer,
            errors=peer,
            mutators=(_MESSAGE, resealed(PROVIDERS[0], _BODY)),
        ),
        Target(
            name="sealed-order",
            seeds=_orders,
            run=_order,
            errors=peer,
            mutators=(_MESSAGE, resealed(CLIENT, _BODY)),
        ),
        Target(
            name="sealed-acceptance",
            seeds=_acceptances,
            run=_acceptance,
            errors=peer,
            mutators=(_MESSAGE, resealed(PROVIDERS[0], _BODY)),
        ),
        Target(
            name="sealed-reroute",
            seeds=_reroutes,
            run=_reroute,
            errors=peer,
            mutators=(_MESSAGE, resealed(CLIENT, _BODY)),
        ),
        Target(
            name="receipt-file",
            seeds=_receipts,
            run=_receipt,
            errors=peer,
            mutators=(json_tree(_MESSAGE), json_tree(resealed(CLIENT, _BODY)), raw),
            short=300,
        ),
        Target(
            name="rows",
            seeds=lambda: [bytes(33), bytes([128]) + bytes(64)],
            run=_rows,
            errors=peer,
            mutators=(raw,),
        ),
        Target(name="sketch", seeds=_sketches, run=_sketch, errors=peer, mutators=(raw,)),
        Target(name="link-prefix", seeds=lambda: [bytes(8)], run=_prefix, errors=peer, mutators=(raw,)),
        Target(
            name="request",
            seeds=lambda: [_long(b"question")],
            run=_question,
            errors=peer,
            mutators=(raw,),
            short=200,
            long=200_000,
        ),
        Target(
            name="request-answer",
            seeds=_asked_seeds,
            run=_answer,
            errors=peer,
            mutators=(raw,),
            short=200,
            long=200_000,
        ),
        Target(
            name="certificate",
            seeds=_certificates,
            run=_certificate,
            errors=peer,
            mutators=(several(der, der, raw),),
        ),
        Target(
            name="address",
            seeds=_addresses,
            run=_address,
            errors=(PeerError, ListenError),
            mutators=(several(lines, raw),),
        ),
    ]


def _sketches() -> list[bytes]:
    return [bytes.fromhex(window["sketches"][0])[:SKETCH_BYTES] for window in job_vectors()["jobs"][0]["windows"]]
