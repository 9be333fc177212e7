"""The settlement rules as a machine: money is conserved, counters rise, a replay of the log gives the same state."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from protocol.codec import Message
from protocol.eip712 import sign_typed
from protocol.errors import RuleError, SignatureError
from protocol.messages import (
    Close,
    Deposit,
    Discharge,
    Genesis,
    Leg,
    LogEntry,
    Open,
    Session,
    Settle,
    Voucher,
    Withdraw,
    session_id,
    sign_op,
)
from protocol.metering import leg_amount
from protocol.session import Books, apply, ledger_domain, replay
from protocol.signing import SigningKey

OPERATOR, *PARTIES = (SigningKey(bytes([number]) * 32) for number in range(1, 6))
VERIFIER_KEY = "test+00000000+AA=="
DOMAIN = ledger_domain(VERIFIER_KEY)
GRACE_S = 50

parties = st.integers(0, len(PARTIES) - 1)
small = st.integers(0, 40)


class Settlement(RuleBasedStateMachine):
    """Random operations by random parties, many of them forbidden."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books()
        self.log: list[LogEntry] = []
        self.now = 1_000
        self.deposited = self.withdrawn = 0
        self.sessions: list[Session] = []
        self.accepted: set[str] = set()

    def act(self, key: SigningKey, action: Message, *, nonce: int | None = None) -> bool:
        number = self.books.account(key.address).nonce + 1 if nonce is None else nonce
        before = dict(self.books.accounts), dict(self.books.sessions)
        try:
            outcome = apply(self.books, DOMAIN, sign_op(DOMAIN, key, number, action), self.now)
        except (RuleError, SignatureError):
            assert (self.books.accounts, self.books.sessions) == before
            return False
        self.books.record(outcome)
        self.log.append(outcome.entry)
        self.accepted.add(type(action).__name__)
        return True

    @initialize()
    def genesis(self) -> None:
        action = Genesis(verifier_key=VERIFIER_KEY, grace_s=GRACE_S, faucet_limit=0)
        assert self.act(OPERATOR, action)
        assert not self.act(OPERATOR, action)

    @rule(who=parties, amount=st.integers(0, 3_000), by_operator=st.booleans())
    def deposit(self, who: int, amount: int, by_operator: bool) -> None:
        key = OPERATOR if by_operator else PARTIES[who]
        done = self.act(key, Deposit(account=PARTIES[who].address, amount=amount, reference="x"))
        assert done is (by_operator and amount > 0)
        self.deposited += amount if done else 0

    @rule(who=parties, amount=st.integers(0, 2_000))
    def withdraw(self, who: int, amount: int) -> None:
        free = self.books.account(PARTIES[who].address).free
        done = self.act(PARTIES[who], Withdraw(amount=amount, reference="x"))
        assert done is (0 < amount <= free)
        self.withdrawn += amount if done else 0

    @rule(who=parties, thief=parties, legs=st.lists(st.tuples(parties, small, small, small), min_size=1, max_size=3))
    def open(self, who: int, thief: int, legs: list[tuple[int, int, int, int]]) -> None:
        terms = Session(
            client=PARTIES[who].address,
            expiry=self.now + 100,
            window=4,
            model=bytes(32),
            policy=bytes(32),
            salt=len(self.log).to_bytes(32, "big"),
            legs=tuple(
                Leg(provider=PARTIES[p].address, price_in=a * 10**6, price_out=b * 10**6, cap=c * 20)
                for p, a, b, c in legs
            ),
        )
        free = self.books.account(terms.client).free
        if thief != who:
            assert not self.act(PARTIES[thief], Open(session=terms))
        done = self.act(PARTIES[who], Open(session=terms))
        assert done is (sum(leg.cap for leg in terms.legs) <= free)
        if done:
            self.sessions.append(terms)
            assert not self.act(PARTIES[who], Open(session=terms))

    @rule(pick=small, tokens_in=small, tokens_out=small, forged=st.booleans(), who=parties)
    def settle(self, pick: int, tokens_in: int, tokens_out: int, forged: bool, who: int) -> None:
        if not self.sessions:
            return
        terms = self.sessions[pick % len(self.sessions)]
        record = self.books.session(session_id(terms))
        client = next(key for key in PARTIES if key.address == terms.client)
        voucher = Voucher(session=session_id(terms), tokens_in=tokens_in, tokens_out=tokens_out, receipts=bytes(32))
        signature = sign_typed(DOMAIN, voucher, OPERATOR if forged else client)
        done = self.act(PARTIES[who], Settle(voucher=voucher, signature=signature))
        within = all(leg_amount(leg, tokens_in, tokens_out) <= leg.cap for leg in terms.legs)
        fresh = tokens_in >= record.tokens_in and tokens_out >= record.tokens_out
        news = (tokens_in, tokens_out) != (record.tokens_in, record.tokens_out)
        in_time = self.now <= terms.expiry + GRACE_S
        assert done is (not forged and within and fresh and news and in_time and not record.closed)

    @rule(pick=small, who=parties, discharged=st.booleans(), wrong=st.booleans())
    def close(self, pick: int, who: int, discharged: bool, wrong: bool) -> None:
        if not self.sessions:
            return
        terms = self.sessions[pick % len(self.sessions)]
        record = self.books.session(session_id(terms))
        word = Discharge(
            session=session_id(terms), tokens_in=record.tokens_in, tokens_out=record.tokens_out + int(wrong)
        )
        signatures = tuple(
            sign_typed(DOMAIN, word, next(key for key in PARTIES if key.address == leg.provider)) for leg in terms.legs
        )
        action = Close(session=session_id(terms), discharges=signatures if discharged else ())
        over = self.now > terms.expiry + GRACE_S
        assert self.act(PARTIES[who], action) is (not record.closed and (over if not discharged else not wrong))

    @rule(seconds=st.sampled_from([0, 1, 49, 50, 51, 100, 150]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(who=parties, back=st.integers(0, 2))
    def replayed_nonce(self, who: int, back: int) -> None:
        nonce = self.books.account(PARTIES[who].address).nonce
        if nonce >= back:
            assert not self.act(PARTIES[who], Withdraw(amount=1, reference="x"), nonce=nonce - back)

    @invariant()
    def money_is_conserved(self) -> None:
        assert self.books.total() == self.deposited - self.withdrawn

    def teardown(self) -> None:
        again = Books()
        for entry in self.log:
            replay(again, DOMAIN, entry)
        assert again == self.books


Settlement.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSettlement = Settlement.TestCase
