"""Files that convict, files that are kept of strangers' words, and what peers say before a message is read."""

from __future__ import annotations

import base64
import functools
import json

import trio
from libp2p.exceptions import ParseError
from libp2p.io.exceptions import IOException
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub import pubsub

from node.app.buying.batch import load_items
from node.market.gate import picked
from node.p2p.reading import bound_libp2p_reads
from node.pipeline.vouchers import stored_voucher
from node.signed_files import read_signed
from protocol.drafting.drafts import ID_BYTES, Mask
from protocol.encoding.codec import decode, encode
from protocol.errors import ConfigurationError, LocalError, MalformedError, PeerError
from protocol.identity.eip712 import sign_typed
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.fork import ForkProof, check_fork, dump_fork, load_fork
from protocol.market.offer import MAX_DRAFT
from protocol.receipts.bundle_file import load_bundle
from protocol.receipts.bundle_ledger import domain_of
from protocol.receipts.double_receipt import DoubleReceipt, check_double, dump_double, is_double, load_double
from protocol.session.messages import SignedReceipt, session_id
from scripts.fuzzing.files import in_file
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.samples import VECTORS, job_vectors, messages_of
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import json_tree, msgpack_tree
from scripts.vectors.parties import DOMAIN, LOG_KEY, PROVIDERS

__all__ = ["targets"]

_TREE: Mutator = several(msgpack_tree(several(raw, msgpack_tree())), raw)
_JSON: Mutator = several(json_tree(_TREE), json_tree(_TREE), raw)


def _fork(data: bytes) -> None:
    proof = load_fork(data)
    assert load_fork(dump_fork(proof).encode()) == proof
    check_fork(proof)


def _double(data: bytes) -> None:
    double = load_double(data)
    again = dump_double(double).encode()
    assert load_double(again) == double
    assert is_double(again)
    check_double(double, domain_of(double.venue))


def _voucher(data: bytes) -> None:
    try:
        assert encode(stored_voucher(data)) in data
    except ValueError as error:
        raise MalformedError(str(error)[:100]) from None


def _signed_file(data: bytes) -> None:
    with in_file(data, "signed") as path:
        read_signed(path)


def _items(data: bytes) -> None:
    with in_file(data, "prompts.jsonl") as path:
        assert load_items(path)


def _gossip(data: bytes) -> None:
    """An offer of nobody that is known, which is looked at by the claim alone."""
    assert picked([data], lambda key: key == b"", most_guests=1) == [data]


def _drafts(data: bytes) -> None:
    data = data[: ID_BYTES * MAX_DRAFT]  # more is no message
    mask = Mask(bytes(32), bytes(range(32)))
    ids = mask.show(data, route=1, flight=2, position=3)
    assert mask.hide(ids, route=1, flight=2, position=3) == data


class _Spoken:
    """A stream whose peer has said some bytes, and ended."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.muxed_conn = self
        self.peer_id = "peer"

    async def read(self, most: int) -> bytes:
        piece, self._data = self._data[:most], self._data[most:]
        return piece


def _prefixed(data: bytes) -> None:
    """A protocol's name, and an RPC of gossip, as libp2p reads them here."""
    bound_libp2p_reads()

    async def read() -> None:
        await pubsub.read_varint_prefixed_bytes_limited(_Spoken(data), 1 << 20)
        await multiselect_communicator.read_delim(_Spoken(data))

    try:
        trio.run(read)
    except (ParseError, IOException) as error:
        raise MalformedError(str(error)[:100]) from None


# Seeds


@functools.cache
def _forks() -> list[bytes]:
    notes = [sign_checkpoint(Checkpoint(LOG_KEY.verifier.name, 3, bytes([each]) * 32), LOG_KEY) for each in (1, 2)]
    two = ForkProof(
        verifier_key=str(LOG_KEY.verifier), older=notes[0], newer=notes[1], root=bytes([2]) * 32, consistency=()
    )
    return [dump_fork(two).encode()]


@functools.cache
def _doubles() -> list[bytes]:
    """A leg's two words under one nonce."""
    session = load_bundle(job_vectors()["jobs"][0]["bundle"].encode()).session
    said = decode(messages_of(SignedReceipt)[0], SignedReceipt).receipt
    one = said.replace(session=session_id(session), leg=0, nonce=bytes(range(32)), input=bytes(32))
    first, second = (
        SignedReceipt(receipt=each, signature=sign_typed(DOMAIN, each, PROVIDERS[0]))
        for each in (one, one.replace(input=b"\1" * 32))
    )
    double = DoubleReceipt(venue=str(LOG_KEY.verifier), session=session, first=first, second=second)
    return [dump_double(double).encode()]


def _vouchers() -> list[bytes]:
    return [(VECTORS / "stored" / name).read_bytes() for name in ("slots.voucher", "leg.voucher", "journal.voucher")]


def _offers() -> list[bytes]:
    return [bytes.fromhex(each["sealed"]) for each in job_vectors()["jobs"][0]["offers"]]


def _prompts() -> list[bytes]:
    asked = ({"prompt": "Who?", "id": "a", "max_tokens": 3}, {"messages": [{"role": "user", "content": "Who?"}]})
    return ["\n".join(map(json.dumps, asked)).encode()]


def targets() -> list[Target]:
    """See the module."""
    peer, text = (PeerError,), several(lines, raw)
    name = b"\x13/multistream/1.0.0\n"
    return [
        Target(name="fork-file", seeds=_forks, run=_fork, errors=peer, mutators=(_JSON,), short=400),
        Target(name="double-receipt-file", seeds=_doubles, run=_double, errors=peer, mutators=(_JSON,), short=400),
        Target(name="voucher-file", seeds=_vouchers, run=_voucher, errors=peer, mutators=(raw, _TREE), short=400),
        Target(
            name="signed-file",
            seeds=lambda: [base64.encodebytes(each) for each in _offers()],
            run=_signed_file,
            errors=(LocalError,),
            mutators=(text,),
            short=400,
        ),
        Target(
            name="batch-file", seeds=_prompts, run=_items, errors=(ConfigurationError,), mutators=(_JSON,), short=400
        ),
        Target(name="gossiped-offer", seeds=_offers, run=_gossip, errors=(), mutators=(_TREE,), short=400),
        Target(
            name="drafts", seeds=lambda: [bytes(8), bytes(400)], run=_drafts, errors=peer, mutators=(raw,), short=400
        ),
        Target(
            name="length-prefix",
            seeds=lambda: [name, b"\x80\x01" + bytes(128)],
            run=_prefixed,
            errors=peer,
            mutators=(raw,),
            short=200,
            long=200_000,
        ),
    ]
