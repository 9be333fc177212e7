"""What a chain shows, and its node says: transactions and blocks as evidence, calls, JSON-RPC, names of contracts."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import msgpack

from node.settlement.inclusion import with_inclusion
from node.settlement.reader import ChainReader
from node.settlement.rpc import ChainRpc, result_of
from node.venue_address import parse_venue
from protocol.chain.chain_evidence import ChainProof, Inclusion
from protocol.chain.contract import Contract
from protocol.chain.contract_calls import read_call
from protocol.chain.rlp import read_rlp, rlp
from protocol.chain.transaction import read_transaction
from protocol.chain.trie import trie_proof, trie_root
from protocol.encoding.codec import decode, encode
from protocol.errors import FundsError, InvalidError, JoulemeshError, PeerError, RuleError
from protocol.identity.ids import keccak256
from protocol.receipts.bundle_ledger import read_evidence
from protocol.session.messages import session_id
from scripts.fuzzing.mutators import raw, several
from scripts.fuzzing.samples import VECTORS
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import changed, json_tree, msgpack_tree
from scripts.vectors.chain import CLIENT, CONTRACT, ONE, SESSION, calls

__all__ = ["targets"]

T = TypeVar("T")


def _evidence(data: bytes) -> None:
    """The same twice, as of a session that was closed by what opened it."""
    read_evidence([data, data], str(CONTRACT), SESSION)


def _rlp(data: bytes) -> None:
    assert rlp(read_rlp(data)) == data


def _transaction(data: bytes) -> None:
    transaction, _ = read_transaction(data)
    assert transaction.with_signature(_signature_of(data)) == data


def _signature_of(signed: bytes) -> bytes:
    items: Any = read_rlp(signed[1:])
    y, r, s = (int.from_bytes(each, "big") for each in items[-3:])
    return r.to_bytes(32, "big") + (y << 255 | s).to_bytes(32, "big")


def _call(data: bytes) -> None:
    assert read_call(data, ONE.address, 7).after


def _name(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    try:
        assert str(parse_venue(text)).partition("@")[2] == text.partition("@")[2]
    except InvalidError:
        Contract.parse(text)


# A node of a chain


class _Told(ChainRpc):
    """A connection to a node that answers all questions with these bytes, or one after the other of those in them."""

    def __init__(self, data: bytes, *, in_turn: bool = False) -> None:
        super().__init__("http://127.0.0.1:1")
        self._said = result_of(data)
        self._turns = iter(self._said) if in_turn and isinstance(self._said, list) else None

    async def ask(self, _method: str, *_params: Any) -> Any:
        return self._said if self._turns is None else next(self._turns, None)


def _at_once(doing: Coroutine[Any, Any, T]) -> T:
    """The result of what waits for nobody."""
    try:
        doing.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("it waited")


def _answer(data: bytes) -> None:
    reader, failure = ChainReader(_Told(data), CONTRACT), None
    questions: Sequence[Callable[[], Coroutine[Any, Any, object]]] = (
        reader.head,
        lambda: reader.block("latest"),
        lambda: reader.account(ONE.address, 5),
        lambda: reader.slot(session_id(SESSION), 5),
        lambda: reader.last_event(session_id(SESSION), 5),
        lambda: reader.transaction(bytes(32)),
        lambda: reader.receipt(bytes(32)),
    )
    taken = 0
    for question in questions:
        try:
            _at_once(question())
            taken += 1
        except JoulemeshError as error:
            failure = error
    if failure is not None and not taken:
        raise failure


def _block(data: bytes) -> None:
    proof = ChainProof(transaction=_sent()[0], block=5, block_hash=bytes(32), time=1, inclusion=None)
    assert _at_once(with_inclusion(_Told(data, in_turn=True), CONTRACT, proof)) == proof


# Seeds


@functools.cache
def _sent() -> list[bytes]:
    return [signed for _, signed in calls()]


def _calls() -> list[bytes]:
    return [read_transaction(signed)[0].data for signed in _sent()[:5]]


def _pieces() -> list[bytes]:
    cases = json.loads((VECTORS / "chain.json").read_text())["cases"]
    pieces = [bytes.fromhex(each["evidence"]) for each in cases]
    return [*pieces, *(_included(piece) for piece in pieces[:5])]


def _included(evidence: bytes) -> bytes:
    """The same in a block that holds it."""
    proof = decode(evidence, ChainProof)
    receipts = [b"\x02" + rlp([b"\x01", at + 1, bytes(64), []]) for at in range(3)]
    others = [b"\x02" + bytes([at]) * 40 for at in range(2)] + [proof.transaction]
    fields = [bytes(32)] * 16
    fields[4], fields[5] = trie_root(others), trie_root(receipts)
    fields[8], fields[11] = (n.to_bytes(8, "big").lstrip(b"\0") for n in (proof.block, proof.time))
    header = rlp(fields)
    shown = Inclusion(header=header, number=2, transactions=trie_proof(others, 2), receipts=trie_proof(receipts, 2))
    return encode(proof.replace(block_hash=keccak256(header), inclusion=shown))


def _said(result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


_WORD = "0x" + "00" * 31 + "05"
_LOG = {"address": "0x" + CONTRACT.address.hex(), "blockNumber": "0x5", "logIndex": "0x0", "transactionHash": _WORD}
_HEADER = {
    **dict.fromkeys(("parentHash", "sha3Uncles", "stateRoot", "transactionsRoot", "receiptsRoot", "hash"), _WORD),
    **dict.fromkeys(("mixHash", "logsBloom", "miner", "extraData", "nonce"), "0x00"),
    **dict.fromkeys(("difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas"), "0x5"),
}
_SENT = {
    **dict.fromkeys(("type", "nonce", "gasPrice", "gas", "value", "v", "r", "s", "chainId", "yParity"), "0x1"),
    **{"from": "0x" + ONE.address.hex(), "to": "0x" + CONTRACT.address.hex(), "input": "0x00", "hash": _WORD},
    **dict.fromkeys(("maxPriorityFeePerGas", "maxFeePerGas"), "0x1"),
    **{"accessList": [{"address": "0x" + ONE.address.hex(), "storageKeys": [_WORD]}]},
}
_TAKEN = {
    **dict.fromkeys(("type", "status", "cumulativeGasUsed"), "0x1"),
    **{"logsBloom": "0x00", "transactionHash": "0x" + "00" * 32},
    **{"logs": [{"address": "0x00", "topics": [_WORD], "data": "0x"}]},
}


def _answers() -> list[bytes]:
    event = [{**_LOG, "topics": [_WORD, "0x" + session_id(SESSION).hex()], "data": "0x"}]
    refused = {"error": {"code": 3, "message": "execution reverted", "data": "0x" + "00" * 4}}
    told = ["0x5", _HEADER, "0x" + "00" * 128, event, _SENT, _TAKEN, None]
    return [*map(_said, told), json.dumps(refused).encode()]


def _blocks() -> list[bytes]:
    return [_said([{**_HEADER, "transactions": [_SENT, {**_SENT, "type": "0x0"}]}, [_TAKEN, _TAKEN]])]


# Spoiled


def _listed(item: Any) -> Any:
    return [_listed(each) for each in item] if isinstance(item, list) else item


def _written(item: Any) -> Any:
    """A spoiled tree as RLP can have it."""
    match item:
        case list():
            return [_written(each) for each in item]
        case bytes():
            return item
        case int() if item >= 0:
            return item
    return str(item).encode()


def _rlp_tree(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Items lost, doubled and changed, in their one spelling."""
    try:
        return rlp(_written(changed(rng, _listed(read_rlp(data)), raw)))
    except PeerError:
        return raw(rng, data, others)


_RLP: Mutator = several(_rlp_tree, raw)


def _signed_again(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A transaction with another call or other fields, that its sender has signed."""
    try:
        transaction, _ = read_transaction(data)
    except PeerError:
        return raw(rng, data, others)
    called = _words(rng, transaction.data, others) if rng.random() < 0.8 else transaction.data
    return transaction.__class__(
        chain_id=transaction.chain_id,
        nonce=rng.choice((0, transaction.nonce, 2**64 - 1)),
        tip=transaction.tip,
        max_fee=transaction.max_fee,
        gas=transaction.gas,
        to=transaction.to,
        data=called,
    ).signed(rng.choice((CLIENT, ONE)))


def _words(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A call with a word of its arguments changed, lost or doubled: its offsets and counts are words too."""
    if rng.random() < 0.3 or len(data) < 36:
        return raw(rng, data, others)
    at = 4 + 32 * rng.randrange((len(data) - 4) // 32)
    word = rng.choice((0, 1, 32, 64, 2**31, 2**255, 2**256 - 1, int.from_bytes(data[at : at + 32]) + 32))
    other = (word % 2**256).to_bytes(32, "big")
    return data[:at] + rng.choice((other, b"", other + other, data[at : at + 32] * 40)) + data[at + 32 :]


def _proven(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Evidence with a transaction that is signed again, and perhaps in a block."""
    try:
        proof = decode(data, ChainProof)
        if proof.inclusion is not None and rng.random() < 0.6:
            shown = proof.inclusion
            nodes = [*shown.transactions]
            at = rng.randrange(len(nodes))
            nodes[at] = _rlp_tree(rng, nodes[at], nodes)
            return encode(proof.replace(inclusion=shown.replace(transactions=tuple(nodes))))
        other = encode(proof.replace(transaction=_signed_again(rng, proof.transaction, others), inclusion=None))
        return _included(other) if rng.random() < 0.3 else other
    except (JoulemeshError, ValueError, TypeError, msgpack.exceptions.UnpackException):
        return raw(rng, data, others)


def targets() -> list[Target]:
    """See the module."""
    peer = (PeerError,)
    answered = (PeerError, RuleError, FundsError, JoulemeshError)
    said = several(json_tree(), json_tree(), raw)
    names = [str(CONTRACT).encode(), f"{CONTRACT}@http://[::1]:8545/key".encode()]
    tree = msgpack_tree(several(raw, _rlp_tree))
    return [
        Target(name="chain-evidence", seeds=_pieces, run=_evidence, errors=peer, mutators=(_proven, tree), short=400),
        Target(name="rlp", seeds=_sent_bodies, run=_rlp, errors=peer, mutators=(_RLP,), short=400),
        Target(
            name="chain-transaction",
            seeds=_sent,
            run=_transaction,
            errors=peer,
            mutators=(_signed_again, raw),
            short=400,
        ),
        Target(name="contract-call", seeds=_calls, run=_call, errors=peer, mutators=(_words,), short=400),
        Target(
            name="contract-name",
            seeds=lambda: names,
            run=_name,
            errors=(PeerError, InvalidError),
            mutators=(raw,),
            short=400,
        ),
        Target(name="chain-answer", seeds=_answers, run=_answer, errors=answered, mutators=(said,), short=400),
        Target(name="chain-block", seeds=_blocks, run=_block, errors=answered, mutators=(said,), short=400),
    ]


def _sent_bodies() -> list[bytes]:
    return [signed[1:] for signed in _sent()[:4]] + [b"\x80", b"\xc0", rlp([b"", [b"", [1, 2]]])]
