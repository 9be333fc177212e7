"""Clauses L14 to L16: money at stake, taken back after a wait; each beside what is forbidden."""

from __future__ import annotations

import pytest
from ledger_world import CLIENT, MILLION, OPERATOR, deposit, stake, unbond, unstake, withdraw
from ruled_ledger import FEE, RuledLedger

from protocol.settlement import MAX_MONEY, Account

WAIT_S = 500


@pytest.fixture
def ledger() -> RuledLedger:
    ledger = RuledLedger()
    ledger.do(CLIENT, stake(1_000))
    return ledger


def account(ledger: RuledLedger) -> Account:
    return ledger.books.account(CLIENT.address)


def test_a_stake_is_no_longer_free(ledger: RuledLedger) -> None:
    before = account(ledger)
    ledger.do(CLIENT, stake(5))
    assert account(ledger) == Account(free=before.free - 5 - FEE, nonce=before.nonce + 1, bond=1_005)
    assert ledger.refuses(CLIENT, stake(0)) == "amount"
    assert ledger.refuses(CLIENT, stake(before.free)) == "balance"
    assert ledger.refuses(CLIENT, withdraw(before.free)) == "balance"


def test_all_that_is_free_but_the_fee_can_be_staked(ledger: RuledLedger) -> None:
    free = account(ledger).free
    assert ledger.refuses(CLIENT, stake(free - FEE + 1)) == "balance"
    ledger.do(CLIENT, stake(free - FEE))
    assert account(ledger).free == 0


def test_a_stake_beyond_what_counts_is_refused(ledger: RuledLedger) -> None:
    ledger.do(OPERATOR, deposit(OPERATOR, MAX_MONEY - ledger.free(OPERATOR)))
    ledger.do(OPERATOR, stake(MAX_MONEY))
    ledger.do(OPERATOR, deposit(OPERATOR, 1))
    assert ledger.refuses(OPERATOR, stake(1)) == "overflow"
    ledger.do(OPERATOR, unstake(MAX_MONEY))
    assert ledger.refuses(OPERATOR, stake(1)) == "overflow"
    ledger.now += WAIT_S
    assert ledger.refuses(OPERATOR, unbond()) == "overflow"


def test_what_leaves_a_stake_waits(ledger: RuledLedger) -> None:
    assert ledger.refuses(CLIENT, unstake(0)) == "amount"
    assert ledger.refuses(CLIENT, unstake(1_001)) == "bond"
    assert ledger.refuses(CLIENT, unbond()) == "amount"
    ledger.do(CLIENT, unstake(400))
    free = account(ledger).free
    assert (account(ledger).bond, account(ledger).unbonding) == (600, 400)
    assert account(ledger).unlock_at == ledger.now + WAIT_S
    ledger.now += WAIT_S - 1
    assert ledger.refuses(CLIENT, unbond()) == "early"
    ledger.now += 1
    ledger.do(CLIENT, unbond())
    assert account(ledger) == Account(free=free + 400 - FEE, nonce=account(ledger).nonce, bond=600)
    assert ledger.refuses(CLIENT, unbond()) == "amount"


def test_a_second_part_makes_the_first_wait_anew(ledger: RuledLedger) -> None:
    ledger.do(CLIENT, unstake(400))
    ledger.now += WAIT_S - 1
    ledger.do(CLIENT, unstake(1))
    ledger.now += 1
    assert ledger.refuses(CLIENT, unbond()) == "early"
    ledger.now += WAIT_S - 1
    ledger.do(CLIENT, unbond())
    assert account(ledger).bond == 599


def test_without_a_wait_it_is_free_at_once() -> None:
    ledger = RuledLedger(unbonding=0)
    ledger.do(CLIENT, stake(7))
    ledger.do(CLIENT, unstake(7))
    ledger.do(CLIENT, unbond())
    assert account(ledger).free == MILLION - 90 - 4 * FEE


def test_money_is_conserved_and_a_replay_agrees(ledger: RuledLedger) -> None:
    ledger.do(CLIENT, unstake(400))
    assert ledger.books.total() == 5 * MILLION
    assert ledger.replayed() == ledger.books
