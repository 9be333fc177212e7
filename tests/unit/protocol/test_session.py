"""What the settlement rules forbid of vouchers, closes and operations, each beside what they allow."""

from __future__ import annotations

import pytest
from ledger_world import CLIENT, MILLION, OPERATOR, PROVIDERS, STRANGER, close, make_terms, open_session, settle

from protocol.codec import Message
from protocol.errors import MalformedError, RuleError, SignatureError
from protocol.messages import Close, Deposit, Genesis, SignedOp, Withdraw, session_id, sign_op
from protocol.metering import leg_amount
from protocol.session import Books, apply, ledger_domain
from protocol.signing import SigningKey

VERIFIER_KEY = "test+00000000+AA=="
DOMAIN, OTHER = ledger_domain(VERIFIER_KEY), ledger_domain("other+00000000+AA==")
NOW, GRACE_S = 1_800_000_000, 50
TERMS = make_terms(cap=30)  # one micro-unit a prompt token, two a generated one
EXPIRY = TERMS.expiry
RULES = {
    "below in prompt tokens": ((9, 5), "stale"),
    "below in generated tokens": ((10, 4), "stale"),
    "the same again": ((10, 5), "settled"),
    "above the cap": ((10, 11), "cap"),
    "far above the cap": ((2**40, 2**40), "cap"),
}


class Ledger:
    """The rules over a dictionary, with one session open."""

    def __init__(self) -> None:
        self.books, self.now = Books(), NOW
        self.do(OPERATOR, Genesis(verifier_key=VERIFIER_KEY, grace_s=GRACE_S, faucet_limit=0))
        self.do(OPERATOR, Deposit(account=CLIENT.address, amount=MILLION, reference="x"))
        self.do(CLIENT, open_session(TERMS))

    def do(self, key: SigningKey, action: Message) -> None:
        self.take(sign_op(DOMAIN, key, self.books.account(key.address).nonce + 1, action))

    def take(self, signed: SignedOp) -> None:
        self.books.record(apply(self.books, DOMAIN, signed, self.now))

    def earned(self) -> list[int]:
        return [self.books.account(key.address).free for key in PROVIDERS]

    def refuses(self, key: SigningKey, action: Message) -> str:
        """The code of the rule that forbids it; the books stay as they were."""
        before = dict(self.books.accounts), dict(self.books.sessions)
        with pytest.raises((RuleError, SignatureError)) as refused:
            self.do(key, action)
        assert (self.books.accounts, self.books.sessions) == before
        return refused.value.code


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.mark.parametrize("what", RULES, ids=str)
def test_a_voucher_that_does_not_go_on_from_the_last_is_refused(ledger: Ledger, what: str) -> None:
    counts, code = RULES[what]
    ledger.do(PROVIDERS[0], settle(DOMAIN, TERMS, 10, 5))
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, TERMS, *counts)) == code
    assert ledger.earned() == [20] * 3
    ledger.do(STRANGER, settle(DOMAIN, TERMS, 10, 10))  # anyone may, to the very cap
    assert ledger.earned() == [30] * 3


def test_a_voucher_for_another_session_is_refused(ledger: Ledger) -> None:
    other = make_terms(salt=1, cap=30)
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, other, 1, 1)) == "unknown-session"
    ledger.do(CLIENT, open_session(other))
    ledger.do(PROVIDERS[0], settle(DOMAIN, other, 1, 1))
    assert ledger.books.sessions[session_id(TERMS)].tokens_in == 0


def test_a_voucher_for_another_ledger_is_refused(ledger: Ledger) -> None:
    assert ledger.refuses(PROVIDERS[0], settle(OTHER, TERMS, 1, 1)) == "bad-signature"
    ledger.do(PROVIDERS[0], settle(DOMAIN, TERMS, 1, 1))


@pytest.mark.parametrize("key", [*PROVIDERS, STRANGER, OPERATOR], ids=lambda key: key.address.hex()[:6])
def test_a_voucher_by_anyone_but_the_client_is_refused(ledger: Ledger, key: SigningKey) -> None:
    assert ledger.refuses(key, settle(DOMAIN, TERMS, 1, 1, key=key)) == "bad-signature"


def test_a_voucher_is_redeemed_until_the_grace_ends(ledger: Ledger) -> None:
    ledger.now = EXPIRY + GRACE_S
    ledger.do(PROVIDERS[0], settle(DOMAIN, TERMS, 1, 1))
    ledger.now += 1
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, TERMS, 2, 2)) == "expired"


def test_the_rest_goes_back_after_the_grace_and_no_earlier(ledger: Ledger) -> None:
    ledger.do(PROVIDERS[0], settle(DOMAIN, TERMS, 10, 5))
    end = Close(session=session_id(TERMS), discharges=())
    ledger.now = EXPIRY + GRACE_S
    assert ledger.refuses(CLIENT, end) == "early"
    ledger.now += 1
    ledger.do(STRANGER, end)
    paid = sum(leg_amount(leg, 10, 5) for leg in TERMS.legs)
    assert ledger.books.account(CLIENT.address).free == MILLION - paid
    assert ledger.refuses(CLIENT, end) == "closed"
    assert ledger.refuses(PROVIDERS[0], settle(DOMAIN, TERMS, 11, 5)) == "closed"


def test_an_early_close_needs_every_legs_word_for_the_settled_counts(ledger: Ledger) -> None:
    ledger.do(PROVIDERS[0], settle(DOMAIN, TERMS, 10, 5))
    good = close(DOMAIN, TERMS, 10, 5)
    for discharges in (good.discharges[:2], good.discharges[::-1], (*good.discharges, good.discharges[0])):
        assert ledger.refuses(CLIENT, good.replace(discharges=discharges)) == "discharge"
    assert ledger.refuses(CLIENT, close(DOMAIN, TERMS, 10, 6)) == "discharge"
    assert ledger.refuses(CLIENT, close(OTHER, TERMS, 10, 5)) == "discharge"
    ledger.do(CLIENT, good)


def test_a_forged_or_replayed_operation_is_refused(ledger: Ledger) -> None:
    good = sign_op(DOMAIN, CLIENT, 2, Withdraw(amount=1, reference=""))
    with pytest.raises(SignatureError):
        ledger.take(good.replace(actor=STRANGER.address))
    with pytest.raises(SignatureError):
        ledger.take(good.replace(nonce=3))
    with pytest.raises(SignatureError):
        ledger.take(sign_op(OTHER, CLIENT, 2, Withdraw(amount=1, reference="")))
    ledger.take(good)
    with pytest.raises(RuleError) as replayed:
        ledger.take(good)
    assert replayed.value.code == "nonce"


def test_an_action_that_is_none_is_malformed(ledger: Ledger) -> None:
    signed = sign_op(DOMAIN, CLIENT, 2, TERMS)
    with pytest.raises(MalformedError):
        ledger.take(signed)


def test_what_is_missing_is_told_to_the_unit(ledger: Ledger) -> None:
    free = ledger.books.account(CLIENT.address).free
    with pytest.raises(RuleError, match=r"0\.000007 missing") as refused:
        ledger.do(CLIENT, Withdraw(amount=free + 7, reference=""))
    assert refused.value.code == "balance"
    ledger.do(CLIENT, Withdraw(amount=free, reference=""))
