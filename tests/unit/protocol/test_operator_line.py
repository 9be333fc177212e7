"""An operator's own line on a checkpoint: typed data by its account's key, which C2SP readers pass over."""

from __future__ import annotations

import pytest

from protocol.errors import MalformedError, SignatureError
from protocol.identity.eip712 import encode_type
from protocol.identity.ids import keccak256
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import (
    Checkpoint,
    Operator,
    SignedCheckpoint,
    check_gossiped,
    check_operator_line,
    open_checkpoint,
    operator_line,
    own_note,
    recover_checkpoint,
    sign_checkpoint,
    sign_typed_checkpoint,
    typed_checkpoint,
)
from protocol.log.note import Note, NoteKey, NoteSignature, parse_note
from protocol.settlement import ledger_domain

LOG = NoteKey("ledger.example", bytes(range(32)))
DOMAIN = ledger_domain(str(LOG.verifier))
ELSEWHERE = ledger_domain(str(NoteKey("other.example", bytes(32)).verifier))
OPERATOR, STRANGER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
HERE = Operator(DOMAIN, OPERATOR.address)
CHECKPOINT = Checkpoint("ledger.example", 7, bytes(range(32)))
BARE = sign_checkpoint(CHECKPOINT, LOG)
NOTE = sign_checkpoint(CHECKPOINT, LOG, operator_line(DOMAIN, CHECKPOINT, OPERATOR))


def with_line(line: NoteSignature) -> bytes:
    found = parse_note(BARE)
    return bytes(Note(found.text, (*found.signatures, line)))


def test_the_typed_checkpoint_is_the_contracts() -> None:
    typed = typed_checkpoint(CHECKPOINT)
    assert encode_type(type(typed)) == "Checkpoint(bytes32 origin,uint64 size,bytes32 root)"
    assert (typed.origin, typed.size, typed.root) == (keccak256(b"ledger.example"), 7, bytes(range(32)))


def test_who_signed_follows_from_the_signature_and_the_venue() -> None:
    signed = sign_typed_checkpoint(DOMAIN, CHECKPOINT, OPERATOR)
    assert recover_checkpoint(DOMAIN, signed) == OPERATOR.address
    assert recover_checkpoint(ELSEWHERE, signed) != OPERATOR.address
    other = signed.replace(checkpoint=signed.checkpoint.replace(size=8))
    assert recover_checkpoint(DOMAIN, other) != OPERATOR.address


def test_the_line_is_read_back_and_the_logs_own_signature_stands_beside_it() -> None:
    assert open_checkpoint(NOTE, LOG.verifier) == CHECKPOINT
    found = check_operator_line(NOTE, HERE)
    assert isinstance(found, SignedCheckpoint)
    assert found == sign_typed_checkpoint(DOMAIN, CHECKPOINT, OPERATOR)
    assert check_operator_line(BARE, HERE) is None
    assert check_operator_line(NOTE, Operator(DOMAIN, STRANGER.address)) is None


def test_a_line_that_the_operator_did_not_sign_here_is_refused() -> None:
    own, strangers = (operator_line(DOMAIN, CHECKPOINT, key) for key in (OPERATOR, STRANGER))
    forged = NoteSignature(own.name, own.key_id, strangers.signature)
    for line in (forged, NoteSignature(own.name, own.key_id, own.signature[:-1])):
        with pytest.raises(SignatureError):
            check_operator_line(with_line(line), HERE)
    with pytest.raises(SignatureError):
        check_operator_line(NOTE, Operator(ELSEWHERE, OPERATOR.address))


def test_gossip_carries_the_operators_line_and_no_other() -> None:
    assert check_gossiped(NOTE, LOG.verifier, HERE) == NOTE
    assert check_gossiped(BARE, LOG.verifier, HERE) == BARE
    assert check_gossiped(NOTE, None) == NOTE
    for note in (with_line(operator_line(DOMAIN, CHECKPOINT, STRANGER)), with_line(NoteSignature("w", b"1234", b"5"))):
        with pytest.raises(MalformedError):
            check_gossiped(note, LOG.verifier, HERE)


def test_what_others_have_put_on_a_note_is_left_out_of_the_logs_own() -> None:
    line = operator_line(DOMAIN, CHECKPOINT, OPERATOR)
    found = parse_note(BARE)
    crowded = bytes(Note(found.text, (NoteSignature("w", b"1234", b"5"), *found.signatures, line)))
    assert own_note(crowded, LOG.verifier) == BARE
    assert own_note(crowded, LOG.verifier, HERE) == NOTE
