"""What the settlement rules forbid, each beside what they allow."""

from __future__ import annotations

import pytest
from ledger_world import (
    CLIENT,
    MILLION,
    NOW,
    OPERATOR,
    PROVIDERS,
    STRANGER,
    close,
    deposit,
    discharge_of,
    genesis,
    make_session,
    open_session,
    release,
    release_all,
    settle,
    settle_all,
    voucher_of,
    withdraw,
)
from ruled_ledger import CAP, DOMAIN, EXPIRY, FEE, GRACE_S, SESSION, VERIFIER_KEY, RuledLedger

from protocol.encoding.codec import encode
from protocol.errors import DishonestError, MalformedError, RuleError, SignatureError
from protocol.identity.eip712 import sign_typed
from protocol.identity.signing import SigningKey
from protocol.session.messages import Leg, session_id
from protocol.settlement import MAX_MONEY, MAX_SESSION_S, Account, Books, Rules, apply, ledger_domain, replay
from protocol.settlement.operations import sign_op

OTHER = ledger_domain("other+00000000+AA==")


@pytest.fixture
def ledger() -> RuledLedger:
    return RuledLedger()


# L3 to L5: signature, nonce, genesis


def test_a_forged_operation_is_refused(ledger: RuledLedger) -> None:
    action = withdraw(1).replace(actor=CLIENT.address, nonce=2)
    good = sign_op(DOMAIN, CLIENT, action)
    for forged in (
        good.replace(action=encode(action.replace(actor=STRANGER.address))),
        good.replace(action=encode(action.replace(nonce=3))),
        good.replace(action=encode(action.replace(amount=2))),
        sign_op(OTHER, CLIENT, action),
        sign_op(DOMAIN, STRANGER, action),
        good.replace(signature=bytes(64)),
    ):
        with pytest.raises(SignatureError):
            ledger.take(forged)
    ledger.take(good)
    with pytest.raises(RuleError) as replayed:
        ledger.take(good)
    assert replayed.value.code == "nonce"


def test_a_nonce_rises_and_may_leave_gaps(ledger: RuledLedger) -> None:
    ledger.do(CLIENT, withdraw(1), nonce=40)
    assert ledger.refuses(CLIENT, withdraw(1), nonce=39) == "nonce"
    assert ledger.refuses(CLIENT, withdraw(1), nonce=40) == "nonce"
    ledger.do(CLIENT, withdraw(1), nonce=41)


def test_what_is_no_action_is_malformed(ledger: RuledLedger) -> None:
    good = sign_op(DOMAIN, CLIENT, withdraw(1).replace(actor=CLIENT.address, nonce=2))
    for data in (encode(SESSION), encode(good), good.action[:-1], good.action + b"\0", b"\xc1"):
        with pytest.raises(MalformedError):
            ledger.take(good.replace(action=data))


def test_a_ledger_begins_once_and_with_its_genesis(ledger: RuledLedger) -> None:
    assert ledger.refuses(OPERATOR, genesis(VERIFIER_KEY)) == "genesis"
    assert ledger.refuses(STRANGER, genesis(VERIFIER_KEY)) == "genesis"
    for first, code in (
        (withdraw(1), "genesis"),
        (genesis("other+00000000+AA=="), "genesis"),
        (genesis(VERIFIER_KEY, fee=0), "fee"),
    ):
        with pytest.raises(RuleError) as refused:
            apply(Books(), DOMAIN, sign_op(DOMAIN, OPERATOR, first.replace(actor=OPERATOR.address, nonce=1)), NOW)
        assert refused.value.code == code
    assert ledger.books.rules == Rules(
        operator=OPERATOR.address,
        verifier_key=VERIFIER_KEY,
        grace_s=GRACE_S,
        unbonding_s=500,
        notice_s=200,
        faucet_limit=0,
        fee=FEE,
        bond_multiple=0,
    )


# L6: deposit and withdraw


def test_only_the_operator_deposits(ledger: RuledLedger) -> None:
    assert ledger.refuses(CLIENT, deposit(CLIENT, 5)) == "not-operator"
    assert ledger.refuses(OPERATOR, deposit(CLIENT, 0)) == "amount"
    ledger.do(OPERATOR, deposit(CLIENT, 5))
    assert ledger.refuses(OPERATOR, deposit(CLIENT, MAX_MONEY - ledger.free(CLIENT) + 1)) == "overflow"
    ledger.do(OPERATOR, deposit(CLIENT, MAX_MONEY - ledger.free(CLIENT)))


def test_what_is_missing_is_told_to_the_unit(ledger: RuledLedger) -> None:
    free = ledger.free(CLIENT)
    with pytest.raises(RuleError, match=r"0\.000007 missing") as refused:
        ledger.do(CLIENT, withdraw(free + 7))
    assert refused.value.code == "balance"
    assert ledger.refuses(CLIENT, withdraw(0)) == "amount"


# L11: the fee


def test_every_operation_costs_its_actor_the_fee(ledger: RuledLedger) -> None:
    for key, action in (
        (CLIENT, withdraw(5)),
        (STRANGER, settle(DOMAIN, SESSION, 1, 1, 1)),
        (STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, 10))),
    ):
        before, operator = ledger.free(key), ledger.free(OPERATOR)
        ledger.do(key, action)
        spent = 5 if key is CLIENT else 0
        assert (ledger.free(key), ledger.free(OPERATOR)) == (before - spent - FEE, operator + FEE)
    operator = ledger.free(OPERATOR)
    ledger.do(OPERATOR, withdraw(1))
    assert ledger.free(OPERATOR) == operator - 1


def test_an_account_without_money_adds_no_entry(ledger: RuledLedger) -> None:
    broke = SigningKey(b"\x77" * 32)
    ledger.now = EXPIRY + GRACE_S
    for action in (withdraw(1), settle(DOMAIN, SESSION, 1, 1, 1), release(DOMAIN, SESSION, [0, 0, 0])):
        assert ledger.refuses(broke, action) == "balance"
    ledger.now += 1
    assert ledger.refuses(broke, close(SESSION)) == "balance"
    ledger.do(OPERATOR, deposit(broke, FEE - 1))
    assert ledger.refuses(broke, close(SESSION)) == "balance"
    ledger.do(OPERATOR, deposit(broke, 1))
    ledger.do(broke, close(SESSION))
    assert ledger.free(broke) == 0


def test_the_fee_comes_out_of_what_the_operation_pays(ledger: RuledLedger) -> None:
    """A provider without money redeems as soon as its voucher pays the fee, and no earlier."""
    ledger.do(PROVIDERS[0], withdraw(MILLION - FEE))
    assert ledger.free(PROVIDERS[0]) == 0
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, FEE - 1, 9, 9)) == "balance"
    ledger.do(PROVIDERS[0], settle(DOMAIN, SESSION, FEE, 9, 9))
    assert ledger.free(PROVIDERS[0]) == 0
    free = ledger.free(CLIENT)
    assert ledger.refuses(CLIENT, withdraw(free - FEE + 1)) == "balance"
    ledger.do(CLIENT, withdraw(free - FEE))


# L7: open


def test_a_session_reserves_its_caps(ledger: RuledLedger) -> None:
    free = ledger.free(CLIENT)
    ledger.do(CLIENT, open_session(make_session(salt=1, cap=100)))
    assert ledger.free(CLIENT) == free - 300 - FEE
    record = ledger.books.sessions[session_id(make_session(salt=1, cap=100))]
    assert (record.settled, record.ceilings, record.reserved) == ((0, 0, 0), (100, 100, 100), 300)
    left = ledger.free(CLIENT)
    legs = (Leg(provider=PROVIDERS[0].address, cap=left - FEE + 1),)
    assert ledger.refuses(CLIENT, open_session(make_session(salt=2).replace(legs=legs))) == "balance"
    legs = (Leg(provider=PROVIDERS[0].address, cap=left - FEE),)
    ledger.do(CLIENT, open_session(make_session(salt=2).replace(legs=legs)))


def test_a_session_opens_once(ledger: RuledLedger) -> None:
    assert ledger.refuses(CLIENT, open_session(SESSION)) == "exists"
    ledger.do(CLIENT, release(DOMAIN, SESSION, [0, 0, 0]))
    assert ledger.refuses(CLIENT, open_session(SESSION)) == "exists"  # closed, too


@pytest.mark.parametrize(
    ("expiry", "opens"),
    [
        (NOW - 1, False),
        (NOW, False),
        (NOW + 1, True),
        (NOW + MAX_SESSION_S, True),
        (NOW + MAX_SESSION_S + 1, False),
    ],
)
def test_a_session_expires_ahead_but_not_too_far(ledger: RuledLedger, expiry: int, opens: bool) -> None:
    action = open_session(make_session(salt=1, cap=1, expiry=expiry))
    if opens:
        ledger.do(CLIENT, action)
    else:
        assert ledger.refuses(CLIENT, action) == "expiry"


def test_a_session_without_any_cap_is_refused(ledger: RuledLedger) -> None:
    nothing = make_session(salt=1, cap=0)
    assert ledger.refuses(CLIENT, open_session(nothing)) == "amount"
    one = nothing.replace(legs=(*nothing.legs[:2], Leg(provider=PROVIDERS[2].address, cap=1)))
    ledger.do(CLIENT, open_session(one))


def test_anybody_opens_with_the_clients_signature(ledger: RuledLedger) -> None:
    session = make_session(salt=1, cap=100)
    good = sign_typed(DOMAIN, session, CLIENT)
    elsewhere, another = sign_typed(OTHER, session, CLIENT), sign_typed(DOMAIN, SESSION, CLIENT)
    for forged in (b"", bytes(64), sign_typed(DOMAIN, session, STRANGER), elsewhere, another):
        assert ledger.refuses(STRANGER, open_session(session, forged)) == "bad-signature"
    assert ledger.refuses(CLIENT, open_session(session, good)) == "not-client"  # there would be two spellings
    client, stranger = ledger.free(CLIENT), ledger.free(STRANGER)
    ledger.do(STRANGER, open_session(session, good))
    assert (ledger.free(CLIENT), ledger.free(STRANGER)) == (client - 300, stranger - FEE)


# L8: settle


def test_each_legs_amount_rises_on_its_own(ledger: RuledLedger) -> None:
    """A client that signs [10, 5] for one leg and [5, 10] for the other cheats neither."""
    ledger.do(PROVIDERS[0], settle(DOMAIN, SESSION, 10, 5, 0))
    ledger.do(PROVIDERS[1], settle(DOMAIN, SESSION, 5, 10, 0))
    assert ledger.settled() == (10, 10, 0)
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, 10, 10, 0)) == "settled"
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, 0, 0, 0)) == "settled"
    ledger.do(STRANGER, settle(DOMAIN, SESSION, 0, 0, 1))  # anybody may
    assert ledger.settled() == (10, 10, 1)
    assert ledger.free(PROVIDERS[2]) == MILLION + 1


def test_a_voucher_pays_to_the_very_cap(ledger: RuledLedger) -> None:
    for leg in range(3):
        amounts = [CAP] * 3
        amounts[leg] += 1
        assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, *amounts)) == "cap"
    ledger.do(PROVIDERS[0], settle(DOMAIN, SESSION, CAP, CAP, CAP))
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, CAP, CAP, CAP)) == "closed"  # nothing is held any more


@pytest.mark.parametrize("amounts", [(1,), (1, 1), (1, 1, 1, 1)])
def test_a_voucher_has_an_amount_for_each_leg(ledger: RuledLedger, amounts: tuple[int, ...]) -> None:
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, *amounts)) == "mismatch"


def test_a_voucher_for_another_session_or_ledger_or_by_another_is_refused(ledger: RuledLedger) -> None:
    other = make_session(salt=1, cap=CAP)
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, other, 1, 1, 1)) == "unknown-session"
    assert ledger.refuses(PROVIDERS[0], settle(OTHER, SESSION, 1, 1, 1)) == "bad-signature"
    for key in (*PROVIDERS, STRANGER, OPERATOR):
        assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, 1, 1, 1, key=key)) == "bad-signature"
    ledger.do(CLIENT, open_session(other))
    ledger.do(PROVIDERS[0], settle(DOMAIN, other, 1, 1, 1))
    assert ledger.settled() == (0, 0, 0)


@pytest.mark.parametrize(
    ("now", "settles"),
    [(EXPIRY - 1, True), (EXPIRY, True), (EXPIRY + 1, True), (EXPIRY + GRACE_S - 1, True), (EXPIRY + GRACE_S, True),
     (EXPIRY + GRACE_S + 1, False)],
)  # fmt: skip
def test_vouchers_are_redeemed_until_the_grace_ends_and_sessions_close_after(
    ledger: RuledLedger, now: int, settles: bool
) -> None:
    ledger.now = now
    if settles:
        assert ledger.refuses(CLIENT, close(SESSION)) == "early"
        ledger.do(PROVIDERS[0], settle(DOMAIN, SESSION, 1, 1, 1))
    else:
        assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, 1, 1, 1)) == "expired"
        ledger.do(CLIENT, close(SESSION))


def test_vouchers_of_many_sessions_are_redeemed_together_or_not_at_all(ledger: RuledLedger) -> None:
    other = make_session(salt=1, cap=CAP)
    ledger.do(CLIENT, open_session(other))
    one, two = voucher_of(DOMAIN, SESSION, 1, 2, 3), voucher_of(DOMAIN, other, 4, 5, 6)
    unknown = voucher_of(DOMAIN, make_session(salt=9), 1, 1, 1)
    assert ledger.refuses(STRANGER, settle_all(one, two, unknown)) == "unknown-session"
    assert ledger.refuses(STRANGER, settle_all(one, one)) == "settled"
    ledger.do(STRANGER, settle_all(one, two))
    assert [ledger.free(key) - MILLION for key in PROVIDERS] == [5, 7, 9]
    assert [effect.session for effect in ledger.log[-1].sessions] == sorted([session_id(SESSION), session_id(other)])
    ledger.do(STRANGER, settle_all(voucher_of(DOMAIN, SESSION, 5, 0, 0), voucher_of(DOMAIN, SESSION, 0, 5, 0)))
    assert ledger.settled() == (5, 5, 3)


# L9: release


def test_a_dead_leg_does_not_lock_the_others_rest(ledger: RuledLedger) -> None:
    ledger.do(PROVIDERS[0], settle(DOMAIN, SESSION, 10, 8, 2))
    free = ledger.free(CLIENT)
    words = (discharge_of(DOMAIN, SESSION, 0, 10), discharge_of(DOMAIN, SESSION, 2, 2))  # leg 1 is gone
    ledger.do(STRANGER, release_all(*words))
    assert ledger.free(CLIENT) == free + 20 + 28
    assert ledger.books.sessions[session_id(SESSION)].ceilings == (10, CAP, 2)
    ledger.do(STRANGER, settle(DOMAIN, SESSION, 0, CAP, 0))  # what it is still owed, it can still be paid
    assert ledger.settled() == (10, CAP, 2)
    assert ledger.refuses(STRANGER, settle(DOMAIN, SESSION, 11, CAP, 2)) == "closed"


def test_a_discharge_holds_whatever_voucher_comes_later(ledger: RuledLedger) -> None:
    ledger.do(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, 10)))
    ledger.do(STRANGER, settle(DOMAIN, SESSION, 25, 5, 0))
    assert ledger.settled() == (10, 5, 0)
    assert ledger.refuses(STRANGER, settle(DOMAIN, SESSION, CAP, 5, 0)) == "settled"


def test_a_discharge_takes_back_nothing_that_was_paid(ledger: RuledLedger) -> None:
    ledger.do(STRANGER, settle(DOMAIN, SESSION, 10, 0, 0))
    ledger.do(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, 4)))
    record = ledger.books.sessions[session_id(SESSION)]
    assert (record.settled[0], record.ceilings[0]) == (10, 10)


def test_a_discharge_must_free_something(ledger: RuledLedger) -> None:
    assert ledger.refuses(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, CAP))) == "released"
    assert ledger.refuses(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, CAP + 1))) == "released"
    ledger.do(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, CAP - 1)))
    assert ledger.refuses(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, CAP - 1))) == "released"
    ledger.do(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, CAP - 2)))


def test_a_discharge_is_the_legs_own_word(ledger: RuledLedger) -> None:
    for key in (CLIENT, OPERATOR, STRANGER, PROVIDERS[1]):
        forged = discharge_of(DOMAIN, SESSION, 0, 0, key=key)
        assert ledger.refuses(CLIENT, release_all(forged)) == "bad-signature"
    assert ledger.refuses(CLIENT, release_all(discharge_of(OTHER, SESSION, 0, 0))) == "bad-signature"
    assert ledger.refuses(CLIENT, release_all(discharge_of(DOMAIN, SESSION, 3, 0))) == "mismatch"
    unknown = discharge_of(DOMAIN, make_session(salt=9), 0, 0)
    assert ledger.refuses(CLIENT, release_all(unknown)) == "unknown-session"
    good = discharge_of(DOMAIN, SESSION, 0, 0)
    assert ledger.refuses(CLIENT, release_all(good, good)) == "released"
    assert ledger.refuses(CLIENT, release_all(good, unknown)) == "unknown-session"
    ledger.do(CLIENT, release_all(good))


def test_what_all_legs_release_is_closed(ledger: RuledLedger) -> None:
    ledger.do(STRANGER, settle(DOMAIN, SESSION, 5, 5, 5))
    ledger.do(CLIENT, release(DOMAIN, SESSION, [5, 5, 5]))
    assert ledger.books.sessions[session_id(SESSION)].closed
    for action in (settle(DOMAIN, SESSION, 6, 5, 5), release(DOMAIN, SESSION, [0, 0, 0]), close(SESSION)):
        assert ledger.refuses(CLIENT, action) == "closed"


# L10: close


def test_after_the_grace_the_rest_goes_back(ledger: RuledLedger) -> None:
    ledger.do(PROVIDERS[0], settle(DOMAIN, SESSION, 10, 5, 0))
    ledger.do(STRANGER, release_all(discharge_of(DOMAIN, SESSION, 0, 20)))
    free = ledger.free(CLIENT)
    ledger.now = EXPIRY + GRACE_S + 1
    assert ledger.refuses(STRANGER, close(make_session(salt=9))) == "unknown-session"
    ledger.do(STRANGER, close(SESSION))
    assert ledger.free(CLIENT) == free + 10 + 25 + 30
    assert ledger.refuses(CLIENT, close(SESSION)) == "unknown-session"
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, SESSION, 11, 5, 0)) == "unknown-session"


# L12: effects


def test_an_entry_carries_what_it_did_and_nothing_else(ledger: RuledLedger) -> None:
    ledger.do(STRANGER, settle(DOMAIN, SESSION, 10, 5, 0))
    again = Books()
    for entry in ledger.log[:-1]:
        replay(again, DOMAIN, entry)
    entry = ledger.log[-1]
    accounts, sessions = entry.accounts, entry.sessions
    assert [effect.account for effect in accounts] == sorted(effect.account for effect in accounts)
    assert (sessions[0].settled, sessions[0].ceilings) == ((10, 5, 0), (CAP,) * 3)
    for wrong in (
        entry.replace(time=EXPIRY + GRACE_S + 1),
        entry.replace(accounts=accounts[:-1]),
        entry.replace(accounts=accounts[::-1]),
        entry.replace(accounts=(accounts[0].replace(free=accounts[0].free + 1), *accounts[1:])),
        entry.replace(sessions=()),
        entry.replace(sessions=(sessions[0].replace(settled=(11, 5, 0)),)),
        entry.replace(sessions=(sessions[0].replace(ceilings=(CAP, CAP, CAP - 1)),)),
    ):
        with pytest.raises(DishonestError):
            replay(again, DOMAIN, wrong)
    replay(again, DOMAIN, entry)
    assert again == ledger.books
    assert again.account(b"\x55" * 20) == Account()
