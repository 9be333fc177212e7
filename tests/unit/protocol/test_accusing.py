"""What two statements become: an operation that convicts, or a reason why none does."""

from __future__ import annotations

import pytest
from ledger_world import CLIENT, OPERATOR, STRANGER, deposit, receipt_of, stake
from ruled_ledger import DOMAIN, SESSION, RuledLedger

from protocol.errors import MalformedError, PeerError, SignatureError
from protocol.log.checkpoint import Checkpoint, Operator, operator_line, parse_checkpoint, sign_checkpoint
from protocol.log.fork import ForkProof
from protocol.log.note import Note, NoteKey, parse_note
from protocol.settlement import ledger_domain
from protocol.settlement.accusing import accuse_leg, accuse_operator_of

LOG_KEY = NoteKey("ledger.example/accused", b"\x05" * 32)
HERE = Operator(DOMAIN, OPERATOR.address)


def note_of(size: int, root: int, *, by: object = OPERATOR) -> bytes:
    """A checkpoint signed by the log, and by somebody's account."""
    checkpoint = Checkpoint(LOG_KEY.verifier.name, size, bytes([root]) * 32)
    note = sign_checkpoint(checkpoint, LOG_KEY)
    if by is None:
        return note
    found = parse_note(note)
    assert parse_checkpoint(found.text) == checkpoint
    line = operator_line(DOMAIN, checkpoint, by)  # type: ignore[arg-type]
    return bytes(Note(found.text, (*found.signatures, line)))


def proof_of(older: bytes, newer: bytes, root: int = 2) -> ForkProof:
    return ForkProof(
        verifier_key=str(LOG_KEY.verifier), older=older, newer=newer, root=bytes([root]) * 32, consistency=()
    )


def test_two_checkpoints_of_one_size_convict() -> None:
    ledger = RuledLedger()
    ledger.do(OPERATOR, deposit(OPERATOR, 10))
    ledger.do(OPERATOR, stake(10))
    for pair in ((note_of(5, 1), note_of(5, 2)), (note_of(5, 3), note_of(5, 2))):
        action = accuse_operator_of(proof_of(*pair), HERE)
    ledger.do(STRANGER, action)
    assert ledger.books.burned == 5


def test_what_convicts_no_operator() -> None:
    one, two = note_of(5, 1), note_of(5, 2)
    for older, newer, operator, error in (
        (one, one, HERE, PeerError),
        (note_of(5, 1, by=None), two, HERE, MalformedError),
        (one, note_of(5, 2, by=None), HERE, MalformedError),
        (note_of(5, 1, by=CLIENT), two, HERE, MalformedError),
        (one, two, Operator(ledger_domain("other+00000000+AA=="), OPERATOR.address), SignatureError),
    ):
        with pytest.raises(error):
            accuse_operator_of(proof_of(older, newer), operator)
    accuse_operator_of(proof_of(one, two), HERE)


def test_two_receipts_are_put_in_order() -> None:
    one, two = receipt_of(DOMAIN, SESSION), receipt_of(DOMAIN, SESSION, rows=14)
    assert accuse_leg(one, two) == accuse_leg(two, one)
    ledger = RuledLedger()
    assert ledger.refuses(STRANGER, accuse_leg(one, two)) == "nothing-staked"
