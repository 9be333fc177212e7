"""Clauses L8, L18 and L19: bounds by bonds, rules that change after a notice, sessions that are forgotten."""

from __future__ import annotations

import pytest
from ledger_world import (
    CLIENT,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    close,
    make_session,
    notice,
    open_session,
    receipt_of,
    release,
    settle,
    settle_all,
    slash,
    stake,
    unstake,
    voucher_of,
    withdraw,
)
from ruled_ledger import DOMAIN, EXPIRY, FEE, GRACE_S, SESSION, RuledLedger

from protocol.session.messages import Leg, session_id
from protocol.settlement import Change

NOTICE_S, PERIOD_S = 200, 500
FIRST, SECOND, THIRD = PROVIDERS


@pytest.fixture
def ledger() -> RuledLedger:
    return RuledLedger()


# L18: rules that change


def test_only_the_operator_announces_and_in_time(ledger: RuledLedger) -> None:
    assert ledger.refuses(CLIENT, notice(NOW + NOTICE_S)) == "not-operator"
    assert ledger.refuses(OPERATOR, notice(NOW + NOTICE_S - 1)) == "early"
    assert ledger.refuses(OPERATOR, notice(NOW + NOTICE_S, fee=0)) == "fee"
    ledger.do(OPERATOR, notice(NOW + NOTICE_S, fee=5, faucet_limit=9, bond_multiple=2))
    rules = ledger.books.rules
    assert rules is not None
    assert (rules.fee, rules.faucet_limit, rules.bond_multiple) == (FEE, 0, 0)
    assert rules.coming == Change(effective=NOW + NOTICE_S, fee=5, faucet_limit=9, bond_multiple=2)


def test_they_hold_from_their_time_on(ledger: RuledLedger) -> None:
    ledger.do(OPERATOR, notice(NOW + NOTICE_S, fee=5))
    ledger.now = NOW + NOTICE_S - 1
    free = ledger.free(CLIENT)
    ledger.do(CLIENT, withdraw(1))
    assert ledger.free(CLIENT) == free - 1 - FEE
    ledger.now += 1
    ledger.do(CLIENT, withdraw(1))
    assert ledger.free(CLIENT) == free - 2 - FEE - 5
    rules = ledger.books.rules
    assert rules is not None
    assert (rules.fee, rules.coming) == (5, None)
    assert ledger.replayed() == ledger.books


def test_a_newer_notice_replaces_one_that_does_not_hold_yet(ledger: RuledLedger) -> None:
    ledger.do(OPERATOR, notice(NOW + NOTICE_S, fee=5))
    ledger.do(OPERATOR, notice(NOW + NOTICE_S + 9, fee=7))
    ledger.now = NOW + NOTICE_S
    free = ledger.free(CLIENT)
    ledger.do(CLIENT, withdraw(1))
    assert ledger.free(CLIENT) == free - 1 - FEE
    ledger.now += 9
    ledger.do(OPERATOR, notice(ledger.now + NOTICE_S, fee=FEE))  # the one before has taken effect, unseen
    ledger.do(CLIENT, withdraw(1))
    assert ledger.free(CLIENT) == free - 2 - FEE - 7
    assert ledger.replayed() == ledger.books


# L8: what a bond bounds


@pytest.fixture
def bounded() -> RuledLedger:
    """Twice its bond is what a provider is paid in a period."""
    ledger = RuledLedger(bond_multiple=2)
    ledger.do(FIRST, stake(5))
    ledger.do(SECOND, stake(4))
    return ledger


def test_a_leg_rises_as_far_as_its_bond_allows(bounded: RuledLedger) -> None:
    free = bounded.free(FIRST)
    bounded.do(CLIENT, settle(DOMAIN, SESSION, 12, 8, 3))
    assert bounded.settled() == (10, 8, 0)
    assert bounded.free(FIRST) == free + 10
    assert bounded.refuses(CLIENT, settle(DOMAIN, SESSION, 12, 8, 3)) == "bond"
    assert bounded.refuses(CLIENT, settle(DOMAIN, SESSION, 10, 8, 0)) == "settled"
    assert bounded.replayed() == bounded.books


def test_the_next_period_pays_the_rest(bounded: RuledLedger) -> None:
    bounded.now = EXPIRY - EXPIRY % PERIOD_S - 1
    bounded.do(CLIENT, settle(DOMAIN, SESSION, 12, 8, 3))
    assert bounded.refuses(CLIENT, settle(DOMAIN, SESSION, 12, 8, 3)) == "bond"
    bounded.now += 1
    bounded.do(CLIENT, settle(DOMAIN, SESSION, 12, 8, 3))
    assert bounded.settled() == (12, 8, 0)
    account = bounded.books.account(FIRST.address)
    assert (account.period, account.claimed) == (bounded.now // PERIOD_S, 2)


def test_more_at_stake_allows_more_and_less_takes_nothing_back(bounded: RuledLedger) -> None:
    bounded.do(CLIENT, settle(DOMAIN, SESSION, 12, 0, 0))
    bounded.do(FIRST, stake(1))
    bounded.do(CLIENT, settle(DOMAIN, SESSION, 12, 0, 0))
    assert bounded.settled()[0] == 12
    bounded.do(FIRST, unstake(6))
    assert bounded.refuses(CLIENT, settle(DOMAIN, SESSION, 13, 0, 0)) == "bond"
    assert bounded.settled()[0] == 12


def test_one_provider_of_two_legs_has_one_bound(bounded: RuledLedger) -> None:
    session = make_session(salt=7).replace(legs=(Leg(provider=FIRST.address, cap=30),) * 2)
    bounded.do(CLIENT, open_session(session))
    bounded.do(CLIENT, settle_all(voucher_of(DOMAIN, session, 7, 7)))
    assert bounded.books.sessions[session_id(session)].settled == (7, 3)


# L19: what is forgotten


def test_a_closed_session_is_forgotten_after_its_grace(ledger: RuledLedger) -> None:
    identity = session_id(SESSION)
    ledger.do(CLIENT, release(DOMAIN, SESSION, (0, 0, 0)))
    ledger.now = EXPIRY + GRACE_S
    assert ledger.refuses(CLIENT, close(SESSION)) == "closed"
    ledger.do(CLIENT, withdraw(1))
    assert identity in ledger.books.sessions
    ledger.now += 1
    proof = slash(receipt_of(DOMAIN, SESSION), receipt_of(DOMAIN, SESSION, rows=14))
    for action in (close(SESSION), settle(DOMAIN, SESSION, 1, 1, 1), release(DOMAIN, SESSION, (0, 0, 0)), proof):
        assert ledger.refuses(STRANGER, action) == "unknown-session"
    assert ledger.refuses(CLIENT, open_session(SESSION)) == "expiry"
    ledger.do(CLIENT, withdraw(1))
    assert identity not in ledger.books.sessions
    assert ledger.replayed() == ledger.books


def test_what_is_held_is_never_forgotten(ledger: RuledLedger) -> None:
    ledger.now = EXPIRY + GRACE_S + 10**9
    ledger.do(CLIENT, withdraw(1))
    assert session_id(SESSION) in ledger.books.sessions
    total = ledger.books.total()
    ledger.do(CLIENT, close(SESSION))
    assert session_id(SESSION) not in ledger.books.sessions
    assert ledger.books.total() == total
