"""What a stateful test does to the twins: drawn operations, and composite ones that reach what draws alone would not.

Drawn freely, hardly any operation at the edge of a second, in a race, or with a proof would ever be accepted; a test
that never sees one taken is blind there. So edges, round trips and races are rules of their own.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

from contract_calls import as_call, claim_of
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from twin_steps import TwinSteps, another
from twins import GRACE_S, PARTIES, UNBONDING_S, Step, Twins, World

from protocol.identity.eip712 import sign_typed, struct_hash
from protocol.identity.signing import SigningKey
from protocol.log.checkpoint import SignedCheckpoint, TypedCheckpoint
from protocol.session.messages import (
    Session,
    session_id,
)
from protocol.settlement import MAX_MONEY, MAX_SESSION_S, ledger_domain
from protocol.settlement.operations import (
    Stake,
    Unbond,
    Unstake,
    Withdraw,
)

LOG = ledger_domain("log.example+00000000+AA==")
"""What the operator of some ledger signs its checkpoints under."""
parties = st.sampled_from(PARTIES)
amounts = st.sampled_from([0, 1, 2, 7, 30, 100, 500, MAX_MONEY - 300, MAX_MONEY])
tenths = st.lists(st.sampled_from([0, 1, 3, 5, 9, 10]), min_size=3, max_size=3)
legs = st.lists(st.tuples(parties, st.sampled_from([0, 1, 10, 30, 60])), min_size=1, max_size=3)
lives = st.sampled_from([0, 1, 20, 40, 40, 60, MAX_SESSION_S, MAX_SESSION_S + 1])
steps_on = st.sampled_from([1, 1, 1, 2, 15, 40])
which = st.integers(0, 30)
flaws = st.sampled_from(["", "", "", "", "signer", "cap", "short", "domain"])
offsets = st.sampled_from([-1, 0, 1])
words = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 1, 2, 3]), st.sampled_from([0, 0, 1, 5, 10, 29])), min_size=1, max_size=3
)


class TwinMachine(TwinSteps, RuleBasedStateMachine):
    """Every rule ends with a comparison of all that both twins hold."""

    world: ClassVar[World]
    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world.reset()
        self.opened: list[Session] = []

    @initialize(number=st.sampled_from([0, 1]), rich=st.booleans())
    def begin(self, number: int, rich: bool) -> None:
        self.twins = Twins(self.world, self.world.venues[number], self.world.begin, self.counts)
        for key, amount in zip(PARTIES, (1000, 200, 60, MAX_MONEY - 7 if rich else 50), strict=True):
            if amount:
                self.take(self.deposited(key, amount))

    # Single operations

    @rule(key=parties, amount=amounts, wait=steps_on)
    def deposit(self, key: SigningKey, amount: int, wait: int) -> None:
        self.do(self.deposited(key, amount), wait=wait)

    @rule(key=parties, amount=amounts, all_of_it=st.booleans())
    def withdraw(self, key: SigningKey, amount: int, all_of_it: bool) -> None:
        if all_of_it:
            amount = self.twins.books.account(key.address).free
        step = Step(
            "withdraw",
            key,
            lambda actor, nonce: Withdraw(actor=actor, nonce=nonce, amount=amount, reference=""),
            "withdraw",
            lambda _: (key.address, amount),
        )
        self.do(step)

    @rule(client=parties, actor=parties, drawn=legs, life=lives, flaw=flaws, wait=steps_on)
    def open(
        self,
        client: SigningKey,
        actor: SigningKey,
        drawn: list[tuple[SigningKey, int]],
        life: int,
        flaw: str,
        wait: int,
    ) -> None:
        at = self.twins.now + wait
        session = self.session(client, drawn, at + life)
        self.do(self.opening(session, actor, another(client) if flaw == "signer" else None), at=at)

    @rule(index=which, actor=parties)
    def open_again(self, index: int, actor: SigningKey) -> None:
        if session := self.pick(index):
            self.do(self.opening(session, actor))

    @rule(index=which, actor=parties, parts=tenths, flaw=flaws, wait=steps_on)
    def settle(self, index: int, actor: SigningKey, parts: list[int], flaw: str, wait: int) -> None:
        if session := self.pick(index):
            self.do(self.settling(actor, (session, self.voucher(session, parts, flaw))), wait=wait)

    @rule(one=which, other=which, actor=parties, parts=tenths, more=tenths, flaw=flaws)
    def settle_two(self, one: int, other: int, actor: SigningKey, parts: list[int], more: list[int], flaw: str) -> None:
        first, second = self.pick(one), self.pick(other)
        if first and second:
            claims = (first, self.voucher(first, parts)), (second, self.voucher(second, more, flaw))
            self.do(self.settling(actor, *claims))

    @rule(index=which, actor=parties, said=words, flaw=flaws)
    def release(self, index: int, actor: SigningKey, said: list[tuple[int, int]], flaw: str) -> None:
        if session := self.pick(index):
            signed = [self.discharge(session, leg, amount) for leg, amount in said]
            signed[-1] = self.discharge(session, *said[-1], flaw)
            self.do(self.releasing(actor, session, signed))

    @rule(index=which, actor=parties, again=st.booleans())
    def release_all(self, index: int, actor: SigningKey, again: bool) -> None:
        """Every leg gives up the rest; one more word after that comes to a closed session."""
        if session := self.pick(index):
            signed = [self.discharge(session, leg, 0) for leg, each in enumerate(session.legs) if each.cap]
            signed += [self.discharge(session, 0, 0)] * again
            if signed:
                self.do(self.releasing(actor, session, signed))

    @rule(index=which, actor=parties)
    def close(self, index: int, actor: SigningKey) -> None:
        if session := self.pick(index):
            self.do(self.closing(actor, session))

    @rule(key=parties, amount=amounts, kind=st.sampled_from(["stake", "unstake", "unbond"]), wait=steps_on)
    def move_stake(self, key: SigningKey, amount: int, kind: str, wait: int) -> None:
        steps = {
            "stake": self.simple("stake", key, Stake, amount, amount=amount),
            "unstake": self.simple("unstake", key, Unstake, amount, amount=amount),
            "unbond": self.simple("unbond", key, Unbond),
        }
        self.do(steps[kind], wait=wait)

    # Edges, races, and round trips

    @rule(
        index=which,
        after_grace=st.booleans(),
        offset=offsets,
        actor=parties,
        parts=tenths,
        what=st.sampled_from(["settle", "close", "release", "open"]),
    )
    def at_an_edge(
        self, index: int, after_grace: bool, offset: int, actor: SigningKey, parts: list[int], what: str
    ) -> None:
        """At a session's expiry, or the end of its grace, to the second."""
        session = self.pick(index)
        at = 0 if session is None else session.expiry + GRACE_S * after_grace + offset
        if session is None or at <= self.twins.now:
            return
        steps = {
            "settle": self.settling(actor, (session, self.voucher(session, parts))),
            "close": self.closing(actor, session),
            "release": self.releasing(actor, session, [self.discharge(session, 0, 0)]),
            "open": self.opening(session, actor),
        }
        self.do(steps[what], at=at)

    @rule(
        client=parties,
        drawn=st.lists(st.tuples(parties, st.sampled_from([10, 20])), min_size=2, max_size=3),
        parts=tenths,
        more=tenths,
        offset=offsets,
        said=st.sampled_from([0, 3, 11]),
        end=st.sampled_from(["settle", "close"]),
        relayed=st.booleans(),
        flaw=flaws,
    )
    def a_whole_session(
        self,
        client: SigningKey,
        drawn: list[tuple[SigningKey, int]],
        parts: list[int],
        more: list[int],
        offset: int,
        said: int,
        end: str,
        relayed: bool,
        flaw: str,
    ) -> None:
        """Open, settle, release, settle again, and the last second."""
        session = self.session(client, drawn, self.twins.now + 20)
        if self.do(self.opening(session, another(client) if relayed else client)) != [""]:
            return
        self.do(self.settling(drawn[0][0], (session, self.voucher(session, parts, flaw))))
        self.do(self.releasing(client, session, [self.discharge(session, 1, said, flaw)]))
        self.do(self.settling(drawn[0][0], (session, self.voucher(session, more))))
        last = {
            "settle": self.settling(client, (session, self.voucher(session, [10] * 3))),
            "close": self.closing(drawn[0][0], session),
        }
        self.do(last[end], at=session.expiry + GRACE_S + offset)
        self.do(self.closing(client, session))
        self.do(self.opening(session, client))

    @rule(key=parties, amount=st.sampled_from([1, 7, 30]), again=st.booleans(), offset=offsets)
    def a_whole_stake(self, key: SigningKey, amount: int, again: bool, offset: int) -> None:
        """Put at stake, taken out, perhaps in two steps, and free at the second."""
        self.do(self.simple("stake", key, Stake, amount + 1, amount=amount + 1))
        self.do(self.simple("unstake", key, Unstake, amount, amount=amount))
        if again:
            self.do(self.simple("unstake", key, Unstake, 1, amount=1), wait=UNBONDING_S // 2)
        at = self.twins.books.account(key.address).unlock_at + offset
        self.do(self.simple("unbond", key, Unbond), at=at if at > self.twins.now else 0)

    @rule(
        client=parties,
        accused=parties,
        actor=parties,
        stakes=st.sampled_from([0, 1, 7, 30]),
        leaving=st.booleans(),
        flaw=st.sampled_from(["", "", "", "", "window", "nonce", "zero", "signer", "same", "order", "leg"]),
        when=st.sampled_from(["at once", "closed", "end", "after"]),
        second=st.booleans(),
    )
    def a_proof(
        self,
        client: SigningKey,
        accused: SigningKey,
        actor: SigningKey,
        stakes: int,
        leaving: bool,
        flaw: str,
        when: str,
        second: bool,
    ) -> None:
        """A provider at stake, and two receipts of one window under one nonce."""
        if stakes:
            self.do(self.simple("stake", accused, Stake, stakes, amount=stakes))
        if leaving:
            self.do(self.simple("unstake", accused, Unstake, 1, amount=1))
        session = self.session(client, [(accused, 3), (actor, 2)], self.twins.now + 5)
        self.do(self.opening(session, client))
        if when == "closed":
            self.do(self.settling(actor, (session, self.voucher(session, [10, 10]))))
        leg = 2 if flaw == "leg" else 1 if second else 0
        pair = [self.receipt(session, leg, 1), self.receipt(session, leg, 1 if flaw == "same" else 2, flaw)]
        if flaw == "zero":
            pair[0] = self.receipt(session, leg, 1, flaw)
        pair.sort(key=lambda each: struct_hash(each.receipt), reverse=flaw == "order")
        at = session.expiry + GRACE_S + {"end": 0, "after": 1}.get(when, 0)
        self.do(self.slashing(actor, session, pair), at=at if when in ("end", "after") else 0)
        self.do(self.slashing(actor, session, pair))

    @rule(
        accused=parties,
        actor=parties,
        stakes=st.sampled_from([0, 1, 8]),
        flaw=st.sampled_from(["", "", "", "size", "origin", "root", "signer", "order", "ledger", "venue"]),
    )
    def an_equivocation(self, accused: SigningKey, actor: SigningKey, stakes: int, flaw: str) -> None:
        """A log's operator at stake, and two roots of one size."""
        if stakes:
            self.do(self.simple("stake", accused, Stake, stakes, amount=stakes))
        one = TypedCheckpoint(origin=b"\x41" * 32, size=6, root=b"\x42" * 32)
        other = TypedCheckpoint(
            origin=(b"\x45" if flaw == "origin" else b"\x41") * 32,
            size=7 if flaw == "size" else 6,
            root=(b"\x42" if flaw == "root" else b"\x43") * 32,
        )
        signers = accused, another(accused) if flaw == "signer" else accused
        log = self.twins.venue.domain if flaw == "venue" else LOG
        pair = [
            SignedCheckpoint(checkpoint=said, signature=sign_typed(log, said, key))
            for said, key in zip((one, other), signers, strict=True)
        ]
        pair.sort(key=lambda each: struct_hash(each.checkpoint), reverse=flaw == "order")
        self.do(self.equivocating(actor, pair, self.twins.venue.domain if flaw == "ledger" else LOG))

    @rule(index=which, one=parties, other=parties, parts=tenths, more=tenths, kind=st.sampled_from("scrbw"))
    def a_race(
        self, index: int, one: SigningKey, other: SigningKey, parts: list[int], more: list[int], kind: str
    ) -> None:
        """Two operations in one block, the second made for what the first leaves."""
        session = self.pick(index)
        if session is None:
            return
        first = self.settling(one, (session, self.voucher(session, parts)))
        free = self.twins.books.account(one.address).free
        steps = {
            "s": (first, self.settling(other, (session, self.voucher(session, more)))),
            "c": (self.closing(one, session), self.closing(other, session)),
            "r": (first, self.releasing(other, session, [self.discharge(session, 0, 0)])),
            "b": (self.simple("stake", one, Stake, 5, amount=5), self.simple("unstake", one, Unstake, 5, amount=5)),
            "w": (self.simple("stake", one, Stake, free, amount=free),) * 2,
        }
        self.do(*steps[kind])

    @rule(
        index=which,
        after_grace=st.booleans(),
        offset=offsets,
        parts=tenths,
        kinds=st.permutations(["settle", "close", "release", "slash"]),
    )
    def a_race_at_an_edge(self, index: int, after_grace: bool, offset: int, parts: list[int], kinds: list[str]) -> None:
        """All that can end a session, in one block and whichever order, where its time or its grace is over."""
        session = self.pick(index)
        at = 0 if session is None else session.expiry + GRACE_S * after_grace + offset
        if session is None or at <= self.twins.now:
            return
        pair = sorted(
            (self.receipt(session, 0, tokens) for tokens in (1, 2)), key=lambda each: struct_hash(each.receipt)
        )
        steps = {
            "settle": self.settling(PARTIES[0], (session, self.voucher(session, parts))),
            "close": self.closing(PARTIES[1], session),
            "release": self.releasing(PARTIES[2], session, [self.discharge(session, 0, 0)]),
            "slash": self.slashing(PARTIES[3], session, pair),
        }
        self.do(*(steps[each] for each in kinds), at=at)

    @rule(accused=parties, actor=parties, offset=offsets, slashed_first=st.booleans())
    def a_race_for_a_stake(self, accused: SigningKey, actor: SigningKey, offset: int, slashed_first: bool) -> None:
        """The proof comes in the second in which the stake can leave."""
        if self.do(self.simple("stake", accused, Stake, 9, amount=9)) != [""]:
            return
        session = self.session(actor, [(accused, 0), (actor, 1)], self.twins.now + UNBONDING_S)
        self.do(self.opening(session, actor))
        self.do(self.simple("unstake", accused, Unstake, 8, amount=8))
        pair = sorted(
            (self.receipt(session, 0, tokens) for tokens in (1, 2)), key=lambda each: struct_hash(each.receipt)
        )
        steps = [self.slashing(actor, session, pair), self.simple("unbond", accused, Unbond)]
        self.do(
            *(steps if slashed_first else steps[::-1]), at=self.twins.books.account(accused.address).unlock_at + offset
        )

    @rule(index=which, actor=parties, parts=tenths, what=st.sampled_from(["settle", "release", "close", "cut", "odd"]))
    def with_other_marks(self, index: int, actor: SigningKey, parts: list[int], what: str) -> None:
        """An operation that says of a session what is not so: only the contract is told."""
        session = self.pick(index)
        record = None if session is None else self.twins.books.session(session_id(session))
        if session is None or record is None or record.closed:
            return
        stored = self.twins.marks(session)
        marks = stored[:15] + bytes([stored[15] ^ 1]) + stored[16:]
        claim = claim_of(session, marks, self.voucher(session, parts))
        values: dict[str, tuple[Any, ...]] = {
            "settle": ([claim],),
            "release": (as_call(session), marks),
            "close": (as_call(session), marks),
            "cut": (as_call(session), stored[:-1]),
            "odd": (as_call(session), stored + bytes(72)),
        }
        name, why = ("release", "mismatch") if what in ("cut", "odd") else (what, "stale")
        step = Step(name, actor, lambda *_: Unbond(actor=actor.address, nonce=0), name, lambda _: values[what])
        self.twins.refused_by_contract(step, self.twins.now + 1, why)
