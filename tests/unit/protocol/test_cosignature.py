"""Witnesses' keys, cosignatures and requests: C2SP's own, ours, and everything near them that must not pass."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from outside_vectors import load_vectors

from protocol.errors import (
    DishonestError,
    ForkedError,
    InvalidError,
    MalformedError,
    PeerError,
    SignatureError,
    StaleError,
    UnwitnessedError,
)
from protocol.log.checkpoint import Checkpoint, sign_checkpoint
from protocol.log.cosignature import (
    AHEAD_S,
    AddCheckpoint,
    CosignerKey,
    CosigningKey,
    WitnessPolicy,
    check_add_checkpoint,
    cosigned_by,
    parse_add_checkpoint,
)
from protocol.log.merkle import Frontier, consistency_proof, leaf_hash, node_hash
from protocol.log.note import MAX_NOTE_BYTES, Note, NoteKey, NoteSignature, VerifierKey, open_note, parse_note
from protocol.log.post_quantum import PostQuantumCosigningKey, PostQuantumKey, parse_cosigner

LOG = NoteKey("ledger.example", bytes(range(32)))
ONE, TWO = (CosigningKey(f"witness.example/{number}", bytes([number]) * 32) for number in (1, 2))
NOW = 1_800_000_000
SECOND = PostQuantumCosigningKey("witness.example/1", b"\x11" * 32)
LEAVES = [leaf_hash(bytes([number])) for number in range(9)]


def key_of(signer: CosigningKey) -> CosignerKey:
    return CosignerKey.parse(str(signer.verifier))


def checkpoint(size: int) -> Checkpoint:
    tree = Frontier()
    for leaf in LEAVES[:size]:
        tree.append(leaf)
    return Checkpoint("ledger.example", size, tree.root)


def hash_at(level: int, index: int) -> bytes:
    if level == 0:
        return LEAVES[index]
    return node_hash(hash_at(level - 1, 2 * index), hash_at(level - 1, 2 * index + 1))


def cosigned(size: int, *signers: tuple[CosigningKey | PostQuantumCosigningKey, int]) -> bytes:
    text = parse_note(sign_checkpoint(checkpoint(size), LOG)).text
    return sign_checkpoint(checkpoint(size), LOG, *(signer.cosign(text, time) for signer, time in signers))


def request(old: int, new: int) -> AddCheckpoint:
    proof = consistency_proof(old, new, hash_at) if 0 < old < new else ()
    return AddCheckpoint(old, proof, sign_checkpoint(checkpoint(new), LOG))


# Keys and lines


def test_a_witnesss_key_is_written_as_c2sp_writes_it() -> None:
    vectors = load_vectors("signed_note")
    (theirs,) = [text for text in vectors["good_vkeys"] if text.startswith("remora")]
    assert str(CosignerKey.parse(theirs)) == theirs
    assert str(key_of(ONE)) == str(ONE.verifier)
    assert CosigningKey.parse(ONE.encoded).verifier == ONE.verifier
    for other in (str(LOG.verifier), theirs.replace("da77ade7", "da77ade8")):
        with pytest.raises(MalformedError):
            CosignerKey.parse(other)
    with pytest.raises(MalformedError):
        VerifierKey.parse(theirs)  # a witness is no log
    with pytest.raises(InvalidError):
        CosigningKey.parse(LOG.encoded)


def test_c2sps_example_says_when_it_was_cosigned() -> None:
    example = load_vectors("signed_note")["parse_only"]
    line = parse_note(example["msg"].encode()).signatures[1]
    assert key_of(ONE).time_of(line.signature) == example["cosig_time"]


def test_a_cosignature_is_over_time_and_text() -> None:
    note = cosigned(5, (ONE, NOW))
    assert cosigned_by(note, key_of(ONE)) == NOW
    assert cosigned_by(note, key_of(TWO)) is None
    assert open_note(note, LOG.verifier, key_of(ONE))[1] == (LOG.verifier, key_of(ONE))
    found = parse_note(note)
    line = found.signatures[1]
    later = (NOW + 1).to_bytes(8, "big") + line.signature[8:]
    for content in (later, line.signature[:-1], b"\xff" * 8 + line.signature[8:], line.signature[8:]):
        forged = bytes(Note(found.text, (found.signatures[0], NoteSignature(line.name, line.key_id, content))))
        with pytest.raises(SignatureError):
            cosigned_by(forged, key_of(ONE))
    moved = bytes(Note(parse_note(cosigned(6)).text, found.signatures))
    with pytest.raises(SignatureError):
        cosigned_by(moved, key_of(ONE))


def test_of_several_lines_the_newest_counts() -> None:
    assert cosigned_by(cosigned(5, (ONE, NOW), (ONE, NOW + 60), (ONE, NOW + 30)), key_of(ONE)) == NOW + 60


# Policies


def test_a_policy_counts_witnesses_it_trusts_within_their_age() -> None:
    both = (key_of(ONE), key_of(TWO))
    note = cosigned(5, (ONE, NOW - 100), (TWO, NOW - 50))
    WitnessPolicy(both, 2, 100).check(note, NOW)
    WitnessPolicy(both, 2).check(note, NOW + 10**6)
    WitnessPolicy(both, 0, 1).check(b"anything", NOW)
    with pytest.raises(UnwitnessedError, match=r"1 of the 2 .* 2 at any time"):
        WitnessPolicy(both, 2, 99).check(note, NOW)
    with pytest.raises(UnwitnessedError, match="0 of the 1"):
        WitnessPolicy((key_of(ONE),), 1).check(cosigned(5, (TWO, NOW)), NOW)


def test_a_cosignature_from_the_future_counts_within_the_drift_of_clocks() -> None:
    policy = WitnessPolicy((key_of(ONE),), 1, 60)
    policy.check(cosigned(5, (ONE, NOW + AHEAD_S)), NOW)
    with pytest.raises(UnwitnessedError):
        policy.check(cosigned(5, (ONE, NOW + AHEAD_S + 1)), NOW)


def test_one_key_is_one_witness_whatever_its_names() -> None:
    again = CosigningKey("other.example", b"\x01" * 32)
    with pytest.raises(InvalidError, match="twice"):
        WitnessPolicy((key_of(ONE), key_of(again)), 2)
    with pytest.raises(InvalidError):
        WitnessPolicy((key_of(ONE),), 2)


# Second keys, of ML-DSA-44


def test_a_second_key_reads_back_and_is_told_from_the_first() -> None:
    text = str(SECOND.verifier)
    assert parse_cosigner(text) == PostQuantumKey.parse(text) == SECOND.verifier
    assert parse_cosigner(str(ONE.verifier)) == key_of(ONE)
    assert PostQuantumCosigningKey.parse(SECOND.encoded).verifier == SECOND.verifier
    assert SECOND.encoded not in repr(SECOND)
    for wrong in (str(ONE.verifier), text[:-8], text.replace("witness", "other"), str(LOG.verifier)):
        with pytest.raises(MalformedError):
            PostQuantumKey.parse(wrong)
    for secret in (ONE.encoded, SECOND.encoded.replace("witness", "other"), SECOND.encoded[:-4], "x"):
        with pytest.raises(InvalidError):
            PostQuantumCosigningKey.parse(secret)


def test_its_line_signs_the_bytes_that_c2sp_says() -> None:
    signed = parse_note(cosigned(5, (SECOND, NOW))).signatures[1]
    name, origin, number = b"witness.example/1", b"ledger.example", (5).to_bytes(8, "big")
    time = NOW.to_bytes(8, "big")
    message = b"subtree/v1\n\0" + bytes([17]) + name + time + bytes([14]) + origin + bytes(8) + number
    public = MLDSA44PrivateKey.from_seed_bytes(b"\x11" * 32).public_key()
    assert signed.signature[:8] == time
    public.verify(signed.signature[8:], message + checkpoint(5).root)
    typed = b"witness.example/1\n\x06" + public.public_bytes_raw()
    assert signed.key_id == hashlib.sha256(typed).digest()[:4]


def test_a_witness_with_two_keys_counts_where_both_have_signed() -> None:
    hybrid = WitnessPolicy((key_of(ONE), key_of(TWO)), 1, 60, (SECOND.verifier,))
    hybrid.check(cosigned(5, (ONE, NOW), (SECOND, NOW)), NOW)
    hybrid.check(cosigned(5, (TWO, NOW)), NOW)  # it has one key
    assert hybrid.key_ids == (SECOND.verifier.key_id, TWO.verifier.key_id)
    for lacking in (
        ((ONE, NOW),),
        ((SECOND, NOW),),
        ((ONE, NOW), (SECOND, NOW - 61)),
        ((ONE, NOW - 61), (SECOND, NOW)),
    ):
        with pytest.raises(UnwitnessedError):
            hybrid.check(cosigned(5, *lacking), NOW)
    other = parse_note(cosigned(6, (SECOND, NOW))).signatures[1]
    for moved in (other, NoteSignature(other.name, other.key_id, other.signature[:-1])):
        with pytest.raises(SignatureError):
            hybrid.check(cosigned(5, (ONE, NOW)) + str(moved).encode(), NOW)


def test_what_strangers_write_under_a_witnesss_name_is_none_of_its_lines() -> None:
    hybrid = WitnessPolicy((key_of(ONE),), 1, 60, (SECOND.verifier,))
    liar = PostQuantumCosigningKey(SECOND.verifier.name, b"\x12" * 32)
    with pytest.raises(UnwitnessedError):
        hybrid.check(cosigned(5, (ONE, NOW), (liar, NOW)), NOW)
    lie = parse_note(cosigned(5, (liar, NOW))).signatures[1]
    under_its_id = NoteSignature(lie.name, SECOND.verifier.key_id, lie.signature)
    with pytest.raises(SignatureError):
        hybrid.check(cosigned(5, (ONE, NOW)) + str(under_its_id).encode(), NOW)
    other_name = PostQuantumCosigningKey("witness.example/2", b"\x11" * 32)  # its own bytes, by another name
    moved = parse_note(cosigned(5, (other_name, NOW))).signatures[1]
    with pytest.raises(SignatureError):
        hybrid.check(
            cosigned(5, (ONE, NOW))
            + str(NoteSignature(SECOND.verifier.name, SECOND.verifier.key_id, moved.signature)).encode(),
            NOW,
        )


def test_a_note_that_is_stuffed_with_second_lines_is_read_in_little_time() -> None:
    """Each of them verifies; no more fit into a note than a reader can be asked to look at."""
    line = str(parse_note(cosigned(5, (SECOND, NOW))).signatures[1]).encode()
    note = cosigned(5, (ONE, NOW))
    stuffed = note + line * ((MAX_NOTE_BYTES - len(note)) // len(line))
    began = time.process_time()
    WitnessPolicy((key_of(ONE),), 1, 60, (SECOND.verifier,)).check(stuffed, NOW)
    assert time.process_time() - began < 0.1
    with pytest.raises(MalformedError):
        cosigned_by(stuffed + line, SECOND.verifier)


def test_a_second_key_never_stands_alone() -> None:
    for keys, second in (((), (SECOND,)), ((TWO,), (SECOND,)), ((ONE,), (SECOND, SECOND))):
        with pytest.raises(InvalidError, match="stands alone"):
            WitnessPolicy(tuple(map(key_of, keys)), 0, 0, tuple(each.verifier for each in second))


# Requests


def test_a_request_reads_back() -> None:
    for asked in (request(0, 5), request(5, 9), request(9, 9)):
        assert parse_add_checkpoint(bytes(asked)) == asked


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("old 5", "old 05"),
        lambda text: text.replace("old 5", "old -5"),
        lambda text: text.replace("old 5", "old  5"),
        lambda text: text.replace("old 5", "new 5"),
        lambda text: text.replace("old 5", "old " + "9" * 20),
        lambda text: text.replace("old 5", "old \u0665"),
        lambda text: text.replace("old 5\n", "old 5\nAAAA\n"),
        lambda text: text.replace("old 5\n", "old 5\n?\n"),
        lambda text: text.replace("old 5\n", "old 5\n" + (base64.b64encode(bytes(32)).decode() + "\n") * 64),
        lambda text: text.replace("\n\n", "\n"),
        lambda text: "",
    ],
)
def test_what_is_no_request_is_refused(spoil: Callable[[str], str]) -> None:
    with pytest.raises(MalformedError):
        parse_add_checkpoint(spoil(bytes(request(5, 9)).decode()).encode())


@pytest.mark.parametrize(("latest", "old", "new"), [(None, 0, 5), (None, 0, 0), (5, 5, 9), (9, 9, 9)])
def test_what_continues_the_latest_may_be_cosigned(latest: int | None, old: int, new: int) -> None:
    known = None if latest is None else checkpoint(latest)
    assert check_add_checkpoint(request(old, new), LOG.verifier, known) == checkpoint(new)


def other_root(size: int) -> bytes:
    return sign_checkpoint(Checkpoint("ledger.example", size, bytes(32)), LOG)


@pytest.mark.parametrize(
    ("asked", "latest", "error"),
    [
        (request(5, 9), 4, StaleError),
        (request(0, 9), 4, StaleError),
        (request(5, 9), None, StaleError),
        (AddCheckpoint(9, (), request(0, 5).note), 9, MalformedError),
        (AddCheckpoint(9, (), other_root(9)), 9, ForkedError),
        (AddCheckpoint(5, request(5, 9).proof, other_root(9)), 5, DishonestError),
        (AddCheckpoint(5, request(5, 9).proof[:-1], request(5, 9).note), 5, DishonestError),
        (AddCheckpoint(5, (), request(5, 9).note), 5, DishonestError),
        (AddCheckpoint(0, request(5, 9).proof, request(5, 9).note), None, DishonestError),
        (AddCheckpoint(9, (bytes(32),), request(9, 9).note), 9, DishonestError),
        (AddCheckpoint(5, (), sign_checkpoint(checkpoint(9), NoteKey("ledger.example", bytes(32)))), 5, SignatureError),
    ],
)
def test_anything_else_is_not(asked: AddCheckpoint, latest: int | None, error: type[PeerError]) -> None:
    known = None if latest is None else checkpoint(latest)
    with pytest.raises(error) as raised:
        check_add_checkpoint(asked, LOG.verifier, known)
    assert type(raised.value) is error
