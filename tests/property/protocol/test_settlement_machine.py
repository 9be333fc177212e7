"""The settlement rules beside a naive model of them: money is conserved, nobody is cheated, a replay agrees.

The model is written from docs/spec/settlement.md with floats of no kind, lists and loops, and says of every operation
beforehand whether it is taken and what everybody has then.
"""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import astuple, dataclass, field

from brevity import at_length
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from ledger_world import checkpoint_of, equivocation, notice, receipt_of, slash
from ledger_world import genesis as world_genesis

from protocol.errors import PeerError, RuleError
from protocol.identity.eip712 import sign_typed
from protocol.identity.signing import SigningKey
from protocol.session.messages import (
    Discharge,
    Leg,
    Session,
    SignedDischarge,
    SignedVoucher,
    Voucher,
    session_id,
    sign_discharge,
    sign_voucher,
)
from protocol.settlement import Books, apply, ledger_domain, replay
from protocol.settlement.operations import (
    ACTIONS,
    Action,
    Close,
    Deposit,
    LogEntry,
    Open,
    Release,
    Settle,
    Stake,
    Unbond,
    Unstake,
    Withdraw,
    sign_op,
)

OPERATOR, *PARTIES = (SigningKey(bytes([number]) * 32) for number in range(1, 6))
KEYS = {key.address: key for key in (OPERATOR, *PARTIES)}
VERIFIER_KEY = "test+00000000+AA=="
DOMAIN = ledger_domain(VERIFIER_KEY)
GRACE_S, FEE, UNBONDING_S, NOTICE_S = 50, 3, 30, 20

parties = st.sampled_from([3, 2, 1, 0])
"""The first one begins without money."""
small = st.integers(0, 40)
tenths = st.lists(st.sampled_from([0, 1, 2, 3, 5, 7, 8, 9, 10]), min_size=3, max_size=3)
"""How much of each leg's cap a voucher promises. Amounts drawn freely would mostly be above some cap."""
words = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, 3]), st.sampled_from([0, 0, 1, 5, 19, 29, 40])),
    min_size=1,
    max_size=2,
    unique_by=lambda word: word[0],
)
"""Legs, and what each discharges to."""
sometimes = st.sampled_from([False, False, True])
seldom = st.sampled_from([False] * 7 + [True])


def claims_of(session: Session, parts: list[int], *, beyond: bool = False, short: bool = False) -> list[int]:
    """Amounts for a session's legs; one above a cap, or one too few, where that is asked for."""
    claims = [leg.cap * part // 10 for leg, part in zip(session.legs, parts, strict=False)]
    if beyond:
        claims[-1] = session.legs[-1].cap + 1
    return claims[:-1] or [0, 0] if short else claims


@dataclass
class ModelSession:
    """One session as the model sees it."""

    client: bytes
    expiry: int
    providers: list[bytes]
    caps: list[int]
    paid: list[int]
    most: list[int]


class NotAllowed(Exception):
    """The model says no."""


@dataclass
class Model:
    """Balances and sessions by hand. Each method changes it, or raises and the caller throws the copy away."""

    free: Counter[bytes] = field(default_factory=Counter)
    bond: Counter[bytes] = field(default_factory=Counter)
    leaving: dict[bytes, list[int]] = field(default_factory=dict)
    """What is unbonding, and when it is free."""
    sessions: dict[bytes, ModelSession] = field(default_factory=dict)
    burned: int = 0
    announced: list[tuple[int, int, int, int]] = field(default_factory=list)
    """When, from when on, fee and multiple."""
    paid: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    """By provider and period, under rules with a multiple."""

    def need(self, condition: bool) -> None:
        if not condition:
            raise NotAllowed

    def find(self, identity: bytes) -> ModelSession:
        """An open session; one that is closed is as unknown as one that is forgotten."""
        self.need(identity in self.sessions)
        found = self.sessions[identity]
        self.need(any(most > paid for most, paid in zip(found.most, found.paid, strict=True)))
        return found

    def pay_fee(self, actor: bytes, now: int) -> None:
        fee, _ = self.rules(now)
        if actor != OPERATOR.address:
            self.need(self.free[actor] >= fee)
            self.free[actor] -= fee
            self.free[OPERATOR.address] += fee

    def rules(self, now: int) -> tuple[int, int]:
        """Fee and multiple of bonds: of the last announcement that holds, unless another replaced it before."""
        found = (FEE, 0)
        for number, (_, effective, fee, multiple) in enumerate(self.announced):
            replaced = number + 1 < len(self.announced) and self.announced[number + 1][0] < effective
            if effective <= now and not replaced:
                found = (fee, multiple)
        return found

    def allowed(self, provider: bytes, now: int) -> int:
        """What vouchers may still pay a provider."""
        multiple = self.rules(now)[1]
        if multiple == 0:
            return 2**63
        return max(0, multiple * self.bond[provider] - self.paid[provider, now // UNBONDING_S])

    def settle(self, identity: bytes, claims: list[int], forged: bool, now: int) -> None:
        found = self.find(identity)
        self.need(not forged and len(claims) == len(found.caps) and now <= found.expiry + GRACE_S)
        self.need(all(claim <= cap for claim, cap in zip(claims, found.caps, strict=True)))
        raised = False
        for leg, claim in enumerate(claims):
            provider = found.providers[leg]
            rise = min(min(claim, found.most[leg]) - found.paid[leg], self.allowed(provider, now))
            if rise > 0:
                self.free[provider] += rise
                self.paid[provider, now // UNBONDING_S] += rise if self.rules(now)[1] else 0
                found.paid[leg] += rise
                raised = True
        self.need(raised)

    def release(self, identity: bytes, leg: int, amount: int, forged: bool) -> None:
        found = self.find(identity)
        self.need(not forged and leg < len(found.caps))
        most = max(found.paid[leg], min(found.most[leg], amount))
        self.need(most < found.most[leg])
        self.free[found.client] += found.most[leg] - most
        found.most[leg] = most

    def punish(self, accused: bytes, actor: bytes) -> None:
        penalty = self.bond.pop(accused, 0) + self.leaving.pop(accused, [0, 0])[0]
        self.need(penalty > 0)
        self.free[actor] += penalty // 2
        self.burned += penalty - penalty // 2

    def close(self, identity: bytes, now: int) -> None:
        found = self.find(identity)
        self.need(now > found.expiry + GRACE_S)
        self.free[found.client] += sum(found.most) - sum(found.paid)
        found.most = list(found.paid)


class Settlement(RuleBasedStateMachine):
    """Random operations by random parties, many of them forbidden."""

    def __init__(self) -> None:
        super().__init__()
        self.books, self.model = Books(), Model()
        self.log: list[LogEntry] = []
        self.now = 1_000
        self.deposited = self.withdrawn = 0
        self.sessions: list[Session] = []

    def act(self, key: SigningKey, action: Action, expected: Model | None, *, nonce: int | None = None) -> bool:
        """Submit; it must end as the model says, None standing for a refusal. Whether it was taken."""
        number = self.books.account(key.address).nonce + 1 if nonce is None else nonce
        before = dict(self.books.accounts), dict(self.books.sessions)
        try:
            signed = sign_op(DOMAIN, key, action.replace(actor=key.address, nonce=number))
            outcome = apply(self.books, DOMAIN, signed, self.now)
        except (RuleError, PeerError):
            assert (self.books.accounts, self.books.sessions) == before
            assert expected is None
            return False
        assert expected is not None
        self.books.record(outcome)
        self.model = expected
        self.log.append(outcome.entry)
        for address in KEYS:
            account = self.books.account(address)
            assert (account.free, account.bond) == (expected.free[address], expected.bond[address])
            assert [account.unbonding, account.unlock_at] == expected.leaving.get(address, [0, 0])
        assert self.books.burned == expected.burned
        for identity, record in self.books.sessions.items():
            assert list(record.settled) == expected.sessions[identity].paid
            assert list(record.ceilings) == expected.sessions[identity].most
        self.check_one_way(before[1])
        return True

    def check_one_way(self, before: dict[bytes, object]) -> None:
        """Settled amounts only rise, ceilings only fall, and nothing is above its cap."""
        for identity, record in self.books.sessions.items():
            for leg, cap in enumerate(each.cap for each in record.session.legs):
                assert 0 <= record.settled[leg] <= record.ceilings[leg] <= cap
                if identity in before:
                    old = before[identity]
                    assert old.settled[leg] <= record.settled[leg]  # type: ignore[attr-defined]
                    assert old.ceilings[leg] >= record.ceilings[leg]  # type: ignore[attr-defined]

    def expect(self, actor: SigningKey, change: object) -> Model | None:
        """The model after `change` and the fee; None where it does not allow it."""
        model = copy.deepcopy(self.model)
        try:
            change(model)  # type: ignore[operator]
            model.pay_fee(actor.address, self.now)
        except NotAllowed:
            return None
        return model

    def pick(self, number: int) -> Session | None:
        return self.sessions[number % len(self.sessions)] if self.sessions else None

    def voucher(self, session: Session, claims: list[int], forged: bool) -> SignedVoucher:
        voucher = Voucher(
            session=session_id(session), amounts=tuple(claims), tokens_in=0, tokens_out=0, receipts=bytes(32)
        )
        return sign_voucher(DOMAIN, voucher, OPERATOR if forged else KEYS[session.client])  # type: ignore[index]

    @initialize()
    def genesis(self) -> None:
        action = world_genesis(VERIFIER_KEY, grace=GRACE_S, fee=FEE, unbonding=UNBONDING_S, notice=NOTICE_S)
        assert self.act(OPERATOR, action, self.model)
        assert not self.act(OPERATOR, action, None)
        for who in range(len(PARTIES)):
            self.deposit(who, 1_000 * who, True)
        for who, legs in ((2, [(0, 40), (1, 30), (3, 20)]), (3, [(0, 25)])):
            self.open(who, who, False, 100, legs)

    @rule(who=parties, amount=st.integers(0, 3_000), by_operator=st.booleans())
    def deposit(self, who: int, amount: int, by_operator: bool) -> None:
        key, address = OPERATOR if by_operator else PARTIES[who], PARTIES[who].address

        def change(model: Model) -> None:
            model.need(by_operator and amount > 0)
            model.free[address] += amount

        action = Deposit(actor=bytes(20), nonce=0, account=address, amount=amount, reference="x")
        if self.act(key, action, self.expect(key, change)):
            self.deposited += amount

    @rule(who=st.integers(0, len(PARTIES)), amount=st.integers(0, 2_000), everything=st.booleans())
    def withdraw(self, who: int, amount: int, everything: bool) -> None:
        key = (*PARTIES, OPERATOR)[who]
        if everything:  # to the very unit: what is left pays the fee
            amount = max(0, self.books.account(key.address).free - self.model.rules(self.now)[0])

        def change(model: Model) -> None:
            model.need(0 < amount <= model.free[key.address])
            model.free[key.address] -= amount

        action = Withdraw(actor=bytes(20), nonce=0, amount=amount, reference="x")
        if self.act(key, action, self.expect(key, change)):
            self.withdrawn += amount

    @rule(who=parties, actor=parties, forged=st.booleans(), lifetime=st.sampled_from([0, 1, 100, 100, 100]),
          legs=st.lists(st.tuples(parties, small), min_size=1, max_size=3))  # fmt: skip
    def open(self, who: int, actor: int, forged: bool, lifetime: int, legs: list[tuple[int, int]]) -> None:
        session = Session(
            client=PARTIES[who].address,
            expiry=self.now + lifetime,
            terms=bytes(32),
            salt=len(self.log).to_bytes(32, "big"),
            legs=tuple(Leg(provider=PARTIES[p].address, cap=cap) for p, cap in legs),
        )
        key, caps = PARTIES[actor], [cap for _, cap in legs]
        own = actor == who
        signature = b"" if own else sign_typed(DOMAIN, session, OPERATOR if forged else PARTIES[who])

        def change(model: Model) -> None:
            model.need(own or not forged)
            model.need(lifetime > 0 and 0 < sum(caps) <= model.free[session.client])
            model.free[session.client] -= sum(caps)
            model.sessions[session_id(session)] = ModelSession(
                session.client, session.expiry, [leg.provider for leg in session.legs], caps, [0] * len(caps), caps[:]
            )

        action = Open(actor=bytes(20), nonce=0, session=session, signature=signature)
        if self.act(key, action, self.expect(key, change)):
            self.sessions.append(session)
            assert not self.act(key, action, None)

    @rule(which=small, parts=tenths, forged=seldom, beyond=seldom, short=seldom, who=parties)
    def settle(self, which: int, parts: list[int], forged: bool, beyond: bool, short: bool, who: int) -> None:
        session = self.pick(which)
        if session is None:
            return
        claims = claims_of(session, parts, beyond=beyond, short=short)
        key, identity = PARTIES[who], session_id(session)
        action = Settle(actor=bytes(20), nonce=0, vouchers=(self.voucher(session, claims, forged),))
        self.act(key, action, self.expect(key, lambda model: model.settle(identity, claims, forged, self.now)))

    @rule(which=small, who=parties, low=small, high=small, leg=st.integers(0, 2))
    def settle_two_stories(self, which: int, who: int, low: int, high: int, leg: int) -> None:
        """One voucher favours one leg, the other another: together each leg has the better of the two."""
        session = self.pick(which)
        if session is None:
            return
        caps = [each.cap for each in session.legs]
        one = [min(cap, high if index == leg else low) for index, cap in enumerate(caps)]
        two = [min(cap, low if index == leg else high) for index, cap in enumerate(caps)]
        key, identity = PARTIES[who], session_id(session)
        taken = [
            self.act(
                key,
                Settle(actor=bytes(20), nonce=0, vouchers=(self.voucher(session, claims, False),)),
                self.expect(key, lambda model, claims=claims: model.settle(identity, claims, False, self.now)),  # type: ignore[misc]
            )
            for claims in (one, two)
        ]
        if all(taken) and self.model.rules(self.now)[1] == 0:
            record = self.books.sessions[identity]
            for index, best in enumerate(map(max, zip(one, two, strict=True))):
                assert record.settled[index] >= min(best, record.ceilings[index])

    @rule(first=small, second=small, parts=tenths, who=parties)
    def settle_together(self, first: int, second: int, parts: list[int], who: int) -> None:
        """All vouchers of an operation, or none of them."""
        one, two = self.pick(first), self.pick(second)
        if one is None or two is None:
            return
        key = PARTIES[who]

        def change(model: Model) -> None:
            for session in (one, two):
                model.settle(session_id(session), claims_of(session, parts), False, self.now)

        vouchers = tuple(self.voucher(session, claims_of(session, parts), False) for session in (one, two))
        self.act(key, Settle(actor=bytes(20), nonce=0, vouchers=vouchers), self.expect(key, change))

    @rule(which=small, who=parties, words=words, forged=seldom)
    def release(self, which: int, who: int, words: list[tuple[int, int]], forged: bool) -> None:
        session = self.pick(which)
        if session is None:
            return
        key, identity = PARTIES[who], session_id(session)

        def change(model: Model) -> None:
            for leg, amount in words:
                model.release(identity, leg, amount, forged)

        action = Release(
            actor=bytes(20),
            nonce=0,
            discharges=tuple(self.discharge(session, leg, amount, forged) for leg, amount in words),
        )
        before = self.books.account(session.client).free
        if self.act(key, action, self.expect(key, change)) and key.address != session.client:
            assert self.books.account(session.client).free > before  # one leg's word is enough: the others may be dead

    def discharge(self, session: Session, leg: int, amount: int, forged: bool) -> SignedDischarge:
        owner = session.legs[leg].provider if leg < len(session.legs) else PARTIES[0].address
        word = Discharge(session=session_id(session), leg=leg, amount=amount)
        return sign_discharge(DOMAIN, word, OPERATOR if forged else KEYS[owner])  # type: ignore[index]

    @rule(which=small, who=parties)
    def close(self, which: int, who: int) -> None:
        session = self.pick(which)
        if session is None:
            return
        key, identity = PARTIES[who], session_id(session)
        action = Close(actor=bytes(20), nonce=0, session=identity)
        self.act(key, action, self.expect(key, lambda model: model.close(identity, self.now)))

    @rule(
        which=small, who=parties, beyond=st.sampled_from([-1, 0, 1]), grace=st.booleans(), parts=tenths, soon=sometimes
    )
    def at_an_edge(self, which: int, who: int, beyond: int, grace: bool, parts: list[int], soon: bool) -> None:
        """A second before, at and after an expiry or the end of a grace: what may still be redeemed, what closes."""
        session = self.pick(which)
        if session is None or not soon:
            return
        self.now = max(self.now, session.expiry + beyond + (GRACE_S if grace else 0))
        self.settle(which, parts, False, False, False, who)
        self.close(which, who)
        self.open(who, who, False, 100, [((who + 1) % len(PARTIES), 30), (who, 10)])

    @rule(part=tenths, beyond=st.sampled_from([-1, 0, 1, 1]), word=words)
    def a_whole_life(self, part: list[int], beyond: int, word: list[tuple[int, int]]) -> None:
        """A session is opened, paid, released and closed, the last about when its grace ends."""
        self.deposit(3, 200, True)
        self.open(3, 3, False, 100, [(0, 40), (1, 20), (2, 10)])
        which = len(self.sessions) - 1
        self.settle(which, part, False, False, False, 1)
        self.release(which, 2, word, False)
        self.now = self.sessions[which].expiry + GRACE_S + beyond
        self.close(which, 2)

    @rule(who=parties, amount=small)
    def stake(self, who: int, amount: int) -> None:
        key = PARTIES[who]

        def change(model: Model) -> None:
            model.need(0 < amount <= model.free[key.address])
            model.free[key.address] -= amount
            model.bond[key.address] += amount

        self.act(key, Stake(actor=bytes(20), nonce=0, amount=amount), self.expect(key, change))

    @rule(who=parties, amount=small)
    def unstake(self, who: int, amount: int) -> None:
        key = PARTIES[who]

        def change(model: Model) -> None:
            model.need(0 < amount <= model.bond[key.address])
            model.bond[key.address] -= amount
            before = model.leaving.get(key.address, [0, 0])[0]
            model.leaving[key.address] = [before + amount, self.now + UNBONDING_S]

        self.act(key, Unstake(actor=bytes(20), nonce=0, amount=amount), self.expect(key, change))

    @rule(who=st.sampled_from([3, 2]), amount=small, part=st.integers(1, 40), beyond=st.sampled_from([-1, 0, 0, 1]))
    def stake_for_a_while(self, who: int, amount: int, part: int, beyond: int) -> None:
        """In, in part out again, and free about when the wait ends."""
        self.stake(who, amount)
        self.unstake(who, min(part, amount))
        self.unbond(who, beyond)

    @rule(who=parties, beyond=st.sampled_from([None, None, -1, 0, 1]))
    def unbond(self, who: int, beyond: int | None) -> None:
        """Now, or about when the wait ends."""
        key = PARTIES[who]
        if beyond is not None and key.address in self.model.leaving:
            self.now = max(self.now, self.model.leaving[key.address][1] + beyond)

        def change(model: Model) -> None:
            model.need(key.address in model.leaving)
            amount, when = model.leaving.pop(key.address)
            model.need(self.now >= when)
            model.free[key.address] += amount

        self.act(key, Unbond(actor=bytes(20), nonce=0), self.expect(key, change))

    @rule(
        which=small,
        leg=st.integers(0, 2),
        who=parties,
        lie=st.sampled_from(["rows", "rows", "nonce", "signer"]),
        amount=small,
    )
    def accuse_a_leg(self, which: int, leg: int, who: int, lie: str, amount: int) -> None:
        """Two receipts of one leg: they convict where they differ under one nonce."""
        session = self.pick(which)
        if session is None or leg >= len(session.legs):
            return
        owner, key = session.legs[leg].provider, PARTIES[who]
        self.stake([each.address for each in PARTIES].index(owner), amount)
        changes = {"nonce": {"nonce": b"\x67" * 32, "rows": 9}}.get(lie, {"rows": 9})
        signer = OPERATOR if lie == "signer" else KEYS[owner]  # type: ignore[index]
        one = receipt_of(DOMAIN, session, leg, key=KEYS[owner])  # type: ignore[index]
        two = receipt_of(DOMAIN, session, leg, key=signer, **changes)

        def change(model: Model) -> None:
            held = model.sessions[session_id(session)]
            forgotten = held.most == held.paid and self.now > held.expiry + GRACE_S
            model.need(lie == "rows" and not forgotten)
            model.punish(owner, key.address)

        self.act(key, slash(one, two), self.expect(key, change))

    @rule(accused=parties, who=parties, size=st.sampled_from([5, 5, 6]), root=st.sampled_from([0x88, 0x89, 0x89]))
    def show_two_checkpoints(self, accused: int, who: int, size: int, root: int) -> None:
        key, liar = PARTIES[who], PARTIES[accused]
        self.stake(accused, 7)

        def change(model: Model) -> None:
            model.need(size == 5 and root != 0x88)
            model.punish(liar.address, key.address)

        pair = checkpoint_of(DOMAIN, liar), checkpoint_of(DOMAIN, liar, size=size, root=bytes([root]) * 32)
        self.act(key, equivocation(DOMAIN, *pair), self.expect(key, change))

    @rule(
        by_operator=seldom.map(lambda each: not each),
        beyond=st.sampled_from([-1, 0, 0, 5]),
        fee=st.integers(0, 4),
        multiple=st.sampled_from([0, 0, 1, 3]),
        later=st.sampled_from([0, 0, NOTICE_S - 1, NOTICE_S, NOTICE_S + 9]),
    )
    def announce(self, by_operator: bool, beyond: int, fee: int, multiple: int, later: int) -> None:
        """Other rules; and then time passes, to about when they hold."""
        key, effective = (OPERATOR if by_operator else PARTIES[2]), self.now + NOTICE_S + beyond

        def change(model: Model) -> None:
            model.need(by_operator and beyond >= 0 and fee > 0)
            model.announced.append((self.now, effective, fee, multiple))

        action = notice(effective, fee=fee, bond_multiple=multiple)
        self.act(key, action, self.expect(key, change))
        self.now += later
        self.stake(2, 1)

    @rule(which=small, who=parties)
    def open_again(self, which: int, who: int) -> None:
        """A session that was opened never opens again, known or forgotten."""
        session = self.pick(which)
        if session is not None:
            signature = sign_typed(DOMAIN, session, KEYS[session.client])  # type: ignore[index]
            key = PARTIES[who]
            own = session.client == key.address
            action = Open(actor=bytes(20), nonce=0, session=session, signature=b"" if own else signature)
            assert not self.act(key, action, None)

    @rule(who=parties, back=st.integers(0, 2))
    def replayed_nonce(self, who: int, back: int) -> None:
        nonce = self.books.account(PARTIES[who].address).nonce
        if nonce >= back:
            action = Withdraw(actor=bytes(20), nonce=0, amount=1, reference="x")
            assert not self.act(PARTIES[who], action, None, nonce=nonce - back)

    @invariant()
    def money_is_conserved(self) -> None:
        assert self.books.total() + self.books.burned == self.deposited - self.withdrawn
        for record in self.books.sessions.values():  # those that are held, or could not be opened yet again
            assert not record.is_forgotten(self.log[-1].time if self.log else 0, GRACE_S)
        assert all(value >= 0 for each in self.books.accounts.values() for value in astuple(each))

    def teardown(self) -> None:
        again = Books()
        for entry in self.log:
            replay(again, DOMAIN, entry)
        assert again == self.books


Settlement.TestCase.settings = settings(max_examples=at_length(40), stateful_step_count=40, deadline=None)
TestSettlement = Settlement.TestCase


def test_the_machine_takes_every_kind_of_operation() -> None:
    """Random operations of which none is ever taken would show nothing: here is how often each was."""
    seen: Counter[str] = Counter()

    class Counted(Settlement):
        def teardown(self) -> None:
            seen.update(type(entry.op.read()).__name__ for entry in self.log)
            super().teardown()

    Counted.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
    Counted.TestCase("runTest").runTest()
    assert all(seen[kind.__name__] >= 3 for kind in ACTIONS), seen
