"""Clause L17: what proves itself, each beside what proves nothing."""

from __future__ import annotations

import pytest
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    checkpoint_of,
    equivocation,
    make_session,
    open_session,
    receipt_of,
    release,
    slash,
    stake,
    unstake,
)
from ruled_ledger import CAP, DOMAIN, FEE, SESSION, RuledLedger

from protocol.settlement import Account, ledger_domain

LIAR = PROVIDERS[1]
BOND = 1_001
ELSEWHERE = make_session(cap=CAP, salt=5)
OTHER = ledger_domain("other+00000000+AA==")
ONE = receipt_of(DOMAIN, SESSION, 1)
TWO = receipt_of(DOMAIN, SESSION, 1, output=b"\x99" * 32)


@pytest.fixture
def ledger() -> RuledLedger:
    ledger = RuledLedger()
    ledger.do(CLIENT, open_session(ELSEWHERE))
    ledger.do(LIAR, stake(BOND))
    ledger.do(OPERATOR, stake(ledger.free(OPERATOR)))
    return ledger


def test_half_goes_to_who_proves_it_and_half_to_nobody(ledger: RuledLedger) -> None:
    ledger.do(LIAR, unstake(400))
    before, liar = ledger.books.total(), ledger.books.account(LIAR.address)
    free = ledger.free(STRANGER)
    ledger.do(STRANGER, slash(ONE, TWO))
    assert ledger.free(STRANGER) == free + 500 - FEE
    assert ledger.books.account(LIAR.address) == Account(free=liar.free, nonce=liar.nonce)
    assert (ledger.books.burned, ledger.log[-1].burned) == (501, 501)
    assert ledger.books.total() == before - 501
    assert ledger.refuses(STRANGER, slash(ONE, TWO)) == "nothing-staked"
    assert ledger.replayed() == ledger.books


def test_who_convicts_himself_loses_half(ledger: RuledLedger) -> None:
    had = ledger.books.account(LIAR.address).total
    ledger.do(LIAR, slash(ONE, TWO))
    assert ledger.books.account(LIAR.address).total == had - 501 - FEE


def test_a_stake_of_one_unit_is_burned(ledger: RuledLedger) -> None:
    ledger.do(PROVIDERS[0], stake(1))
    free = ledger.free(STRANGER)
    ledger.do(STRANGER, slash(receipt_of(DOMAIN, SESSION), receipt_of(DOMAIN, SESSION, rows=14)))
    assert (ledger.free(STRANGER), ledger.books.burned) == (free - FEE, 1)


def test_a_closed_session_convicts_too(ledger: RuledLedger) -> None:
    ledger.do(CLIENT, release(DOMAIN, SESSION, (0, 0, 0)))
    ledger.do(CLIENT, slash(ONE, TWO))


def test_what_proves_nothing(ledger: RuledLedger) -> None:
    late = {"window": 4, "nonce": b"\x67" * 32}
    for other, code in (
        (ONE, "proof"),
        (receipt_of(DOMAIN, SESSION, 1, rows=14, nonce=b"\x67" * 32), "proof"),
        (receipt_of(DOMAIN, SESSION, 1, rows=14, window=4), "proof"),
        (receipt_of(DOMAIN, SESSION, 1, rows=14, **late), "proof"),
        (receipt_of(DOMAIN, SESSION, 0, rows=14), "proof"),
        (receipt_of(DOMAIN, ELSEWHERE, 1, rows=14), "proof"),
        (receipt_of(DOMAIN, SESSION, 1, rows=14, key=STRANGER), "bad-signature"),
        (receipt_of(OTHER, SESSION, 1, rows=14), "bad-signature"),
    ):
        assert ledger.refuses(STRANGER, slash(ONE, other)) == code, other
    closing = [receipt_of(DOMAIN, SESSION, 1, rows=rows, nonce=bytes(32)) for rows in (13, 14)]
    assert ledger.refuses(STRANGER, slash(*closing)) == "proof"
    no_leg = [receipt_of(DOMAIN, SESSION, 3, rows=rows, key=LIAR) for rows in (13, 14)]
    assert ledger.refuses(STRANGER, slash(*no_leg)) == "proof"
    unknown = [receipt_of(DOMAIN, make_session(salt=9), 1, rows=rows) for rows in (13, 14)]
    assert ledger.refuses(STRANGER, slash(*unknown)) == "unknown-session"
    right = slash(ONE, TWO)
    assert ledger.refuses(STRANGER, right.replace(first=right.second, second=right.first)) == "proof"
    ledger.do(STRANGER, right)


def test_an_operator_that_signs_two_roots_loses_its_stake(ledger: RuledLedger) -> None:
    one, two = checkpoint_of(DOMAIN, OPERATOR), checkpoint_of(DOMAIN, OPERATOR, root=b"\x89" * 32)
    staked, free = ledger.books.account(OPERATOR.address).bond, ledger.free(STRANGER)
    assert staked > 0
    for other, code in (
        (one, "proof"),
        (checkpoint_of(DOMAIN, OPERATOR, root=b"\x89" * 32, size=6), "proof"),
        (checkpoint_of(DOMAIN, OPERATOR, root=b"\x89" * 32, origin=b"\x78" * 32), "proof"),
        (checkpoint_of(DOMAIN, STRANGER, root=b"\x89" * 32), "bad-signature"),
        (checkpoint_of(OTHER, OPERATOR, root=b"\x89" * 32), "bad-signature"),
    ):
        assert ledger.refuses(STRANGER, equivocation(DOMAIN, one, other)) == code
    right = equivocation(DOMAIN, one, two)
    assert ledger.refuses(STRANGER, right.replace(first=right.second, second=right.first)) == "proof"
    nobody = (checkpoint_of(DOMAIN, CLIENT), checkpoint_of(DOMAIN, CLIENT, root=b"\x89" * 32))
    assert ledger.refuses(STRANGER, equivocation(DOMAIN, *nobody)) == "nothing-staked"
    ledger.do(STRANGER, right)
    assert ledger.free(STRANGER) == free + staked // 2 - FEE
    assert ledger.books.account(OPERATOR.address).bond == 0
    assert ledger.replayed() == ledger.books
    assert ledger.books.total() + ledger.books.burned == 5 * MILLION


def test_a_stake_answers_for_the_log_of_another_ledger_too(ledger: RuledLedger) -> None:
    """Whoever runs a ledger elsewhere writes that ledger alone: this one takes the proof that he would not."""
    pair = [checkpoint_of(OTHER, LIAR, root=bytes([root]) * 32) for root in (1, 2)]
    assert ledger.refuses(STRANGER, equivocation(DOMAIN, *pair)) == "bad-signature"  # other signers, by its domain
    mixed = pair[0], checkpoint_of(DOMAIN, LIAR, root=b"\2" * 32)
    assert ledger.refuses(STRANGER, equivocation(OTHER, *mixed)) == "bad-signature"
    assert ledger.books.account(LIAR.address).bond == BOND
    ledger.do(STRANGER, equivocation(OTHER, *pair))
    assert ledger.books.account(LIAR.address).bond == 0
    assert ledger.replayed() == ledger.books
