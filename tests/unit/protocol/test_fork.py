"""Proofs that a ledger has two histories: what convinces, and everything near it that must not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from protocol.errors import DishonestError, JoulemeshError, MalformedError, PeerError, SignatureError
from protocol.log.checkpoint import (
    Checkpoint,
    check_gossiped,
    format_checkpoint,
    open_checkpoint,
    own_note,
    sign_checkpoint,
)
from protocol.log.fork import MAX_FORK_BYTES, ForkProof, check_fork, dump_fork, load_fork
from protocol.log.merkle import consistency_proof, leaf_hash, node_hash, root_of
from protocol.log.note import NoteKey, sign_note

KEY = NoteKey("log.example", b"\x07" * 32)
OTHER = NoteKey("log.example", b"\x08" * 32)


def leaves(name: str, size: int, common: int = 3) -> list[bytes]:
    return [leaf_hash(f"{'both' if number < common else name} {number}".encode()) for number in range(size)]


def hash_at(level: int, index: int, hashes: list[bytes]) -> bytes:
    if level == 0:
        return hashes[index]
    return node_hash(hash_at(level - 1, 2 * index, hashes), hash_at(level - 1, 2 * index + 1, hashes))


def note(name: str, size: int, key: NoteKey = KEY) -> bytes:
    return sign_checkpoint(Checkpoint(key.verifier.name, size, root_of(leaves(name, size))), key)


def proof_of(old: int, new: int) -> ForkProof:
    """Against a log that showed one history up to `old`, and another one up to `new`."""
    shown = leaves("second", new)
    return ForkProof(
        verifier_key=str(KEY.verifier),
        older=note("first", old),
        newer=note("second", new),
        root=root_of(shown[:old]),
        consistency=consistency_proof(old, new, lambda level, index: hash_at(level, index, shown)),
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [(old, new) for old in (4, 5, 7, 8, 16, 20) for new in (4, 8, 9, 20, 64, 65) if old <= new],
)
def test_two_histories_are_proven_whatever_their_sizes(old: int, new: int) -> None:
    proof = load_fork(dump_fork(proof_of(old, new)).encode())
    assert proof == proof_of(old, new)
    older, newer = check_fork(proof)
    assert (older.size, newer.size) == (old, new)


@pytest.mark.parametrize("old", [4, 8, 11])
def test_one_history_proves_nothing(old: int) -> None:
    shown = leaves("second", 11)
    honest = replace(proof_of(old, 11), older=note("second", old))
    with pytest.raises(MalformedError, match="one history"):
        check_fork(honest)
    # Nor does a root that the newer one's log never had.
    for root in (bytes(32), root_of(leaves("first", old))):
        with pytest.raises(PeerError):
            check_fork(replace(honest, root=root))
    assert root_of(shown[:old]) == honest.root


@pytest.mark.parametrize(
    "change",
    [
        lambda proof: replace(proof, older=note("first", 8, OTHER)),
        lambda proof: replace(proof, newer=note("second", 11, OTHER)),
        lambda proof: replace(proof, verifier_key=str(OTHER.verifier)),
        lambda proof: replace(proof, older=proof.newer, newer=proof.older),
        lambda proof: replace(proof, consistency=proof.consistency[:-1]),
        lambda proof: replace(proof, consistency=(*proof.consistency, bytes(32))),
        lambda proof: replace(proof, consistency=()),
        lambda proof: replace(proof, root=bytes(31)),
        lambda proof: replace(proof, older=b"x"),
    ],
)
def test_a_changed_proof_proves_nothing(change: Callable[[ForkProof], ForkProof]) -> None:
    with pytest.raises(PeerError):
        check_fork(change(proof_of(8, 11)))


def test_files_are_read_strictly() -> None:
    good = json.loads(dump_fork(proof_of(4, 9)))
    wrong: list[dict[str, Any]] = [
        {**good, "kind": "fork-proof/2"},
        {**good, "more": ""},
        {**good, "older": 7},
        {**good, "consistency": "x"},
        {**good, "consistency": [1]},
        {**good, "consistency": ["x"]},
        {**good, "consistency": [good["root"]] * 129},
        {**good, "root": good["root"][:-1]},
        {name: value for name, value in good.items() if name != "root"},
    ]
    for each in wrong:
        with pytest.raises(JoulemeshError):
            load_fork(json.dumps(each).encode())
    for data in (b"", b"[]", b" " * (MAX_FORK_BYTES + 1)):
        with pytest.raises(MalformedError):
            load_fork(data)


def test_what_others_sign_is_cut_off() -> None:
    text = format_checkpoint(Checkpoint("log.example", 4, root_of(leaves("first", 4))))
    junk = [NoteKey(f"junk{number}", bytes([number]) * 32) for number in range(1, 40)]
    crowded = sign_note(text, [junk[0], KEY, *junk[1:]])
    assert own_note(crowded, KEY.verifier) == sign_note(text, [KEY])
    assert open_checkpoint(own_note(crowded, KEY.verifier), KEY.verifier).size == 4


def test_gossip_carries_what_the_log_alone_has_signed() -> None:
    """So 1,500 junk signatures make no second message of a checkpoint, and nobody relays another log's."""
    good = note("first", 4)
    text = format_checkpoint(Checkpoint("log.example", 4, root_of(leaves("first", 4))))
    assert check_gossiped(good, KEY.verifier) == good
    assert check_gossiped(good, None) == good
    for number in range(1, 30):
        junk = NoteKey(f"junk{number}", bytes([number]) * 32)
        for keys in ([KEY, junk], [junk, KEY]):
            with pytest.raises(MalformedError, match="signature alone"):
                check_gossiped(sign_note(text, keys), KEY.verifier)
        with pytest.raises(SignatureError):
            check_gossiped(sign_note(text, [junk]), KEY.verifier)
    with pytest.raises(SignatureError):
        check_gossiped(sign_note(text, [OTHER]), KEY.verifier)
    with pytest.raises(MalformedError):
        check_gossiped(sign_note("no checkpoint\n", [KEY]), None)
    with pytest.raises(MalformedError, match="gossip carries"):
        check_gossiped(sign_note(text + "x" * 1_000 + "\n", [KEY]), KEY.verifier)
    with pytest.raises(DishonestError):
        check_gossiped(sign_note(text.replace("log.example", "another"), [KEY]), KEY.verifier)
