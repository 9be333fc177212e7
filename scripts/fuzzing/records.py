"""What a ledger shows: notes, checkpoints, keys, tiles, bundles of entries, evidence, and answers in JSON."""

from __future__ import annotations

import base64
import functools
import json
import random
from collections.abc import Sequence
from typing import Any

from node.ledger.log_key import read_log_key
from node.ledger.remembered import Memory
from node.ledger.wire import Answer, LedgerInfo, Place, read_object, remote_error
from protocol.encoding.codec import decode, encode
from protocol.errors import ConfigurationError, JoulemeshError, KeystoreError, PeerError
from protocol.log.checkpoint import format_checkpoint, open_checkpoint, parse_checkpoint
from protocol.log.note import NoteKey, VerifierKey, parse_note
from protocol.log.tiles import Tile, TileReader, decode_bundle, encode_bundle, parse_tile_path, tile_path
from protocol.receipts.bundle_file import load_bundle
from protocol.settlement import ledger_domain
from protocol.settlement.evidence import LogProof, check_opened, read_entry
from protocol.settlement.operations import SignedOp
from scripts.fuzzing.files import in_file
from scripts.fuzzing.mutators import lines, raw, several
from scripts.fuzzing.samples import VECTORS, job_vectors, messages_of
from scripts.fuzzing.target import Mutator, Target
from scripts.fuzzing.trees import json_tree, msgpack_tree
from scripts.vectors.parties import CLIENT, LOG_KEY

__all__ = ["targets"]


def signed_again(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Spoils the text of a note, and signs it anew with the log's key."""
    text = data.decode(errors="replace").rpartition("\n\n")[0] + "\n"
    text = lines(rng, text.encode(), others).decode(errors="replace")
    line = base64.b64encode(LOG_KEY.verifier.key_id + LOG_KEY.sign(text)).decode()
    return f"{text}\n— {LOG_KEY.verifier.name} {line}\n".encode()


def _proof(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Spoils one field of an inclusion proof, or its checkpoint under a signature that is right."""
    try:
        proof = decode(data, LogProof)
        note = signed_again(rng, proof.checkpoint, [proof.checkpoint])
        return encode(proof.replace(checkpoint=note))
    except JoulemeshError:
        return raw(rng, data, others)


def _note(data: bytes) -> None:
    assert bytes(parse_note(data)) == data


def _checkpoint(data: bytes) -> None:
    found = open_checkpoint(data, LOG_KEY.verifier)
    text = format_checkpoint(found)
    assert parse_checkpoint(text) == found
    assert parse_note(data).text.startswith(text)


def _verifier_key(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    assert str(VerifierKey.parse(text)) == text
    ledger_domain(text)


def _bundle(data: bytes) -> None:
    entries = decode_bundle(data[1:], data[0] + 1 if data else 1)
    assert encode_bundle(entries) == data[1:]


def _tile_path(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    assert tile_path(parse_tile_path(text)) == text


def _tile(data: bytes) -> None:
    """A log's size, and one of its tiles: any node under it is found, or the tile is refused."""
    size = int.from_bytes(data[:2], "big") + 1
    tile = Tile(0, 0, min(256, size))
    reader = TileReader(size, {tile: data[2:]})
    assert reader.hash_at(0, 0) == data[2:34]


def _evidence(data: bytes) -> None:
    check_opened(data, _job().session, LOG_KEY.verifier)


@functools.cache
def _job() -> Any:
    return load_bundle(job_vectors()["jobs"][0]["bundle"].encode())


def _entry(data: bytes) -> None:
    read_entry(data, LOG_KEY.verifier)


def _operation(data: bytes) -> None:
    action = decode(data, SignedOp).read()
    assert action.actor is not None


def _info(data: bytes) -> None:
    info = LedgerInfo.from_json(read_object(data))
    VerifierKey.parse(info.verifier_key)
    assert LedgerInfo.from_json(json.loads(json.dumps(info.to_json()))) == info
    assert info.rules.operator == info.operator


def _answer(data: bytes) -> None:
    answer = Answer.from_json(read_object(data))
    assert Answer.from_json(answer.to_json()).consistency == answer.consistency
    if answer.has("entry"):
        place = answer.place("entry")
        assert Place.from_json(place.to_json()) == place


def _refusal(data: bytes) -> None:
    error = remote_error(422, read_object(data))
    assert len(error.message.encode()) <= 400


def _remembered(data: bytes) -> None:
    with in_file(data) as path:
        Memory.load(path)


def _log_key(data: bytes) -> None:
    with in_file(data) as path:
        read_log_key(path)


def _notes() -> list[bytes]:
    return [each["checkpoint"].encode() for job in job_vectors()["jobs"] for each in job["ledger"]]


def _many_notes() -> list[bytes]:
    other = NoteKey("other+".removesuffix("+"), b"\x09" * 32)
    text = parse_note(_notes()[0]).text
    line = base64.b64encode(other.verifier.key_id + other.sign(text)).decode()
    return [*_notes(), _notes()[0] + f"— other {line}\n".encode()]


def _infos() -> list[bytes]:
    info = LedgerInfo(
        verifier_key=str(LOG_KEY.verifier),
        operator=CLIENT.address,
        grace_s=172_800,
        unbonding_s=604_800,
        notice_s=604_800,
        bond_multiple=0,
        faucet_limit=0,
        fee=1,
        peers=("/ip4/192.0.2.1/tcp/4001",),
        version="0.1.0",
    )
    return [json.dumps(info.to_json()).encode()]


def _answers() -> list[bytes]:
    place = Place(3, b"entry", (b"\1" * 32, b"\2" * 32))
    said = {"entry": place.to_json(), "balance": "12"}
    return [json.dumps(Answer(note, {2: (b"\3" * 32,)}, said).to_json()).encode() for note in _notes()[:2]]


def _entries() -> list[bytes]:
    return [bytes.fromhex(each["entry"]) for job in job_vectors()["jobs"] for each in job["ledger"]]


def _stored(name: str) -> list[bytes]:
    return [(VECTORS / "stored" / name).read_bytes()]


_TEXT: Mutator = several(lines, raw)
_TREE: Mutator = several(msgpack_tree(several(raw, msgpack_tree())), raw)
_JSON: Mutator = several(json_tree(_TREE), json_tree(_TREE), raw)


def _shown() -> list[Target]:
    peer = (PeerError,)
    tile = (299).to_bytes(2, "big") + bytes(range(256)) * 32
    paths = [b"tile/0/000", b"tile/7/x001/x234/067.p/17", b"tile/entries/x999/999.p/255"]
    opened = [encode(each) for each in _proofs()]
    return [
        Target(name="note", seeds=_many_notes, run=_note, errors=peer, mutators=(_TEXT,)),
        Target(
            name="checkpoint",
            seeds=_notes,
            run=_checkpoint,
            errors=peer,
            mutators=(signed_again, signed_again, _TEXT),
        ),
        Target(
            name="verifier-key",
            seeds=lambda: [str(LOG_KEY.verifier).encode()],
            run=_verifier_key,
            errors=peer,
            mutators=(_TEXT,),
        ),
        Target(name="entry-bundle", seeds=_bundles, run=_bundle, errors=peer, mutators=(raw,)),
        Target(name="tile-path", seeds=lambda: paths, run=_tile_path, errors=peer, mutators=(_TEXT,)),
        Target(name="tile", seeds=lambda: [tile, b"\0\0" + bytes(32)], run=_tile, errors=peer, mutators=(raw,)),
        Target(name="evidence", seeds=lambda: opened, run=_evidence, errors=peer, mutators=(_TREE, _proof)),
        Target(name="log-entry", seeds=_entries, run=_entry, errors=peer, mutators=(_TREE,)),
        Target(
            name="operation",
            seeds=lambda: messages_of(SignedOp),
            run=_operation,
            errors=peer,
            mutators=(_TREE,),
        ),
    ]


def _bundles() -> list[bytes]:
    return [b"\1" + encode_bundle([b"one", b"two"]), bytes([len(_entries()) - 1]) + encode_bundle(_entries())]


def _proofs() -> list[LogProof]:
    bundle = _job()
    return [decode(each, LogProof) for each in (bundle.opened, bundle.settled)]


def targets() -> list[Target]:
    """See the module."""
    peer = (PeerError,)
    refusal = b'{"error": "RuleError", "code": "nonce", "message": "used", "hint": ""}'
    return [
        *_shown(),
        Target(name="ledger-info", seeds=_infos, run=_info, errors=peer, mutators=(_JSON,)),
        Target(name="ledger-answer", seeds=_answers, run=_answer, errors=peer, mutators=(_JSON,)),
        Target(name="ledger-refusal", seeds=lambda: [refusal], run=_refusal, errors=peer, mutators=(_JSON,)),
        Target(
            name="remembered-ledger",
            seeds=lambda: _stored("remembered.json"),
            run=_remembered,
            errors=(ConfigurationError,),
            mutators=(_JSON,),
        ),
        Target(
            name="log-key",
            seeds=lambda: _stored("log.key"),
            run=_log_key,
            errors=(KeystoreError,),
            mutators=(_TEXT,),
        ),
    ]
