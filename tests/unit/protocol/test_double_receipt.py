"""Two receipts under one nonce: kept where they contradict each other, and read back as they were written."""

from __future__ import annotations

import pytest
from ledger_world import PROVIDERS, STRANGER, receipt_of
from ruled_ledger import DOMAIN, SESSION

from protocol.errors import MalformedError, PeerError
from protocol.receipts.double_receipt import DoubleReceipt, SaidOnce, check_double, dump_double, is_double, load_double
from protocol.session.messages import SignedReceipt
from protocol.session.receipt import NO_HASH

VENUE = "one+00000000+AA=="


def double(first: SignedReceipt, second: SignedReceipt) -> DoubleReceipt:
    return DoubleReceipt(venue=VENUE, session=SESSION, first=first, second=second)


def test_what_a_leg_says_twice_is_noticed() -> None:
    said = SaidOnce(DOMAIN, SESSION)
    one, two = receipt_of(DOMAIN, SESSION), receipt_of(DOMAIN, SESSION, rows=14)
    leg = one.receipt.leg
    assert said.take(leg, one) is None
    assert said.take(leg, one) is None
    assert said.take(leg, receipt_of(DOMAIN, SESSION, rows=14, nonce=b"\x2a" * 32)) is None
    assert said.take(leg, receipt_of(DOMAIN, SESSION, rows=14, window=one.receipt.window + 1)) is None
    assert said.take(leg, two.replace(signature=receipt_of(DOMAIN, SESSION, rows=15).signature)) is None
    assert said.take(leg + 1, two) is None
    assert said.take(leg, two) == one
    for nobody in (one.replace(receipt=one.receipt.replace(nonce=NO_HASH)), two):
        assert SaidOnce(DOMAIN, SESSION).take(leg, nobody) is None


def test_a_proof_is_read_as_it_was_written() -> None:
    proof = double(receipt_of(DOMAIN, SESSION), receipt_of(DOMAIN, SESSION, rows=14))
    data = dump_double(proof).encode()
    assert is_double(data)
    assert load_double(data) == proof
    assert check_double(proof, DOMAIN) == PROVIDERS[proof.first.receipt.leg].address
    for wrong in (b"", b"{}", data[:-9], data.replace(b"receipt/1", b"receipt/2"), data.replace(b'"first"', b'"fist"')):
        with pytest.raises(MalformedError):
            load_double(wrong)


def test_what_proves_nothing_is_refused() -> None:
    one = receipt_of(DOMAIN, SESSION)
    for other in (
        one,
        receipt_of(DOMAIN, SESSION, rows=14, nonce=b"\x2a" * 32),
        receipt_of(DOMAIN, SESSION, rows=14, window=one.receipt.window + 1),
        receipt_of(DOMAIN, SESSION, rows=14).replace(signature=one.signature),
        receipt_of(DOMAIN, SESSION, key=STRANGER, rows=14),
    ):
        with pytest.raises(PeerError):
            check_double(double(one, other), DOMAIN)
