"""Legs die, standbys take over: who is owed what, against a count that goes position by position.

A death strikes while a window is served. What every leg has signed for before stands; the rest is computed again by the
new route, from the end of the last window that is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from agreed_job import CLIENT, Agreed, agree
from brevity import at_length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from market_offers import some_limits, some_rates
from played_job import Play
from taken import take_voucher

from protocol.session.claim import Claim
from protocol.session.messages import SignedVoucher, sign_voucher
from protocol.session.metering import (
    Stint,
    last_position,
    most_owed,
    owed,
    payable,
    positions_of,
    rates_for,
    spans,
    window_end,
    work_of,
)
from protocol.session.tab import first_voucher
from protocol.session.terms import Plan, open_reroutes
from protocol.settlement.operations import Release, Settle

Span = tuple[int, int]
relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))
price = st.integers(0, 3) | st.integers(0, 4 * 10**6)


@dataclass
class Naive:
    """What one leg did, position by position."""

    cached: int
    """First positions that it holds from an earlier session."""
    from_kv: set[int] = field(default_factory=set)
    computed: set[int] = field(default_factory=set)
    """Without a token of its own: the prompt, and what it had to compute again."""
    generated: set[int] = field(default_factory=set)
    """Positions whose token was its work."""
    late: int = 0

    def serve(self, plan: Plan, start: int, end: int) -> None:
        known = self.from_kv | self.computed | self.generated
        for position in sorted(set(range(end)) - known):
            if position >= start and position >= plan.prompt:
                continue
            (self.from_kv if position < self.cached else self.computed).add(position)
        for position in range(max(start, plan.prompt - 1), end):
            assert position not in self.generated
            self.generated.add(position)


@st.composite
def spans_of(draw: Any, blocks: int) -> list[Span]:
    cuts = sorted(draw(st.sets(st.integers(1, blocks - 1), max_size=2))) if blocks > 1 else []
    return list(pairwise([0, *cuts, blocks]))


@st.composite
def jobs(draw: Any) -> Agreed:
    """Random plans, routes, standbys, rates, credit, and positions that are held from before."""
    blocks = draw(st.integers(1, 4))
    spans = draw(spans_of(blocks))
    starts = st.integers(0, blocks - 1)
    standbys = [(a, draw(st.integers(a + 1, blocks))) for a in draw(st.lists(starts, max_size=4))]
    prompt, most = draw(st.integers(1, 12)), draw(st.integers(1, 14))
    continues = draw(st.integers(0, prompt - 1))
    offers = {}
    for leg in range(len(spans) + len(standbys)):
        price_in = draw(price)
        rates = some_rates(
            opening=draw(st.integers(0, 9)),
            price_in=price_in,
            price_out=draw(price),
            price_cached=draw(st.integers(0, price_in)),
            late_discount_ppm=draw(st.sampled_from([0, 1, 333_333, 1_000_000])),
        )
        offers[leg] = {"rates": rates, "limits": some_limits(credit=draw(st.integers(0, 6)))}
    cached = {leg: draw(st.integers(0, continues)) for leg in offers}
    return agree(
        spans=spans,
        standbys=standbys,
        prompt=prompt,
        most=most,
        chunk=draw(st.integers(1, 6)),
        window=draw(st.integers(1, 6)),
        continues=continues,
        cached=cached,
        replays=draw(st.sets(st.sampled_from(sorted(offers)))),
        ahead=draw(st.integers(1, 3)),
        offers=offers,
    )


def cover(hole: Span, spare: Sequence[tuple[int, Span]]) -> list[tuple[int, Span]] | None:
    """Standbys that fill a hole, each with the part that it takes; None where they do not suffice."""
    start, end = hole
    if start >= end:
        return []
    for leg, (a, b) in spare:
        if a <= start < b:
            rest = cover((min(b, end), end), [each for each in spare if each[0] != leg])
            if rest is not None:
                return [(leg, (start, min(b, end))), *rest]
    return None


class Story:
    """One job to its end, or to a death that nobody can make good."""

    def __init__(self, agreed: Agreed, draw: Any) -> None:
        self.agreed, self.draw, self.plan = agreed, draw, agreed.plan
        self.play = Play(agreed)
        legs = range(len(agreed.keys))
        self.naive = [Naive(agreed.starts[leg]) for leg in legs]
        self.gone: set[int] = set()
        self.served: dict[tuple[int, int], int] = {}
        """By block and position: who served it."""
        self.history: list[tuple[int, ...]] = []
        first = sign_voucher(agreed.ledger.domain, first_voucher(agreed.session, agreed.terms), CLIENT)
        self.vouchers: list[SignedVoucher] = [first]
        self.claims = [
            Claim(agreed.ledger.domain, agreed.session, agreed.terms, leg, first, start=agreed.starts[leg])
            for leg in legs
        ]

    def run(self) -> None:
        while self.play.position < last_position(self.plan):
            self.check()
            self.pay_ahead()
            if self.draw(st.integers(0, 3)) == 0 and not self.die():
                return
            else:
                self.serve()
        self.check()

    @property
    def route(self) -> list[tuple[int, Span]]:
        return [(each.leg, (each.span.start, each.span.end)) for each in self.play.route]

    def serve(self) -> None:
        """The next window is proven."""
        start, end = self.play.position, window_end(self.plan, self.play.position)
        for leg, (a, b) in self.route:
            naive = self.naive[leg]
            before = len(naive.generated)
            naive.serve(self.plan, start, end)
            naive.late += self.draw(st.integers(0, len(naive.generated) - before))
            self.play._counts[leg].late = naive.late
            for block in range(a, b):
                for position in range(start, end):
                    assert (block, position) not in self.served, "a position was served twice"
                    self.served[block, position] = leg
        self.play.position = end

    def die(self) -> bool:
        """Some legs die; whether others could take their places."""
        dead = self.draw(st.sets(st.sampled_from([leg for leg, _ in self.route]), min_size=1))
        busy = {leg for leg, _ in self.route} | self.gone
        terms = self.agreed.terms
        spare = [
            (leg, (terms.legs[leg].span.start, terms.legs[leg].span.end))
            for leg in range(len(terms.legs))
            if leg not in busy
        ]
        route: list[tuple[int, Span]] = []
        for leg, span in self.route:
            if leg not in dead:
                route.append((leg, span))
                continue
            found = cover(span, spare)
            if found is None:
                return False
            spare = [each for each in spare if each[0] not in {taken for taken, _ in found}]
            route += found
        self.gone |= dead
        self.play.reroute(*route)
        parts = spans(self.play.opened_reroutes)
        for leg, (claim, stint) in enumerate(zip(self.claims, self.play.stints(), strict=True)):
            claim.reroute(stint, parts.get(leg, terms.legs[leg].span))
        return True

    def pay_ahead(self) -> None:
        """A voucher for the next window, before it is served; the legs of the route take it."""
        if not self.play.earned and not self.play.reroutes and not self.agreed.terms.continues:
            return
        self.take(self.play.voucher(window_end(self.plan, self.play.position)))

    def take(self, signed: SignedVoucher, *, last: bool = False) -> None:
        self.vouchers.append(signed)
        for leg, _ in self.route:
            claim = self.claims[leg]
            take_voucher(claim, signed, late=self.naive[leg].late, last=last)
            voucher = signed.voucher
            paid = positions_of(self.plan, voucher.tokens_in, voucher.tokens_out)
            assert claim.positions_paid == paid
            assert claim.may_process == payable(self.plan, self.agreed.terms.credit, paid)
            assert claim.amount >= voucher.amounts[leg]

    def check(self) -> None:
        """The rule says what the walk counted, and nobody's amount fell."""
        position, terms, parts = self.play.earned, self.agreed.terms, spans(self.play.opened_reroutes)
        for leg, (naive, stint) in enumerate(zip(self.naive, self.play.stints(), strict=True)):
            work = work_of(self.plan, stint, position, late=naive.late)
            counted = (len(naive.from_kv), len(naive.computed), len(naive.generated), naive.late)
            assert (work.cached, work.tokens_in, work.tokens_out, work.late) == counted, f"leg {leg}"
            rates = rates_for(terms.legs[leg], parts.get(leg))
            by_position = [owed(rates, work_of(self.plan, stint, p)) for p in range(position + 1)]
            assert by_position == sorted(by_position)
            assert max(by_position) <= self.agreed.session.legs[leg].cap
            if stint.left is not None:
                beyond = work_of(self.plan, stint, last_position(self.plan), late=naive.late)
                assert beyond == work, "who left earns no more"
        self.history.append(self.play.amounts(position))
        for before, after in pairwise(self.history):
            assert all(a <= b for a, b in zip(before, after, strict=True))


@settings(relaxed, max_examples=at_length(80))
@given(jobs(), st.data())
def test_every_proven_position_is_paid_once_whoever_dies(agreed: Agreed, data: st.DataObject) -> None:
    story = Story(agreed, data.draw)
    story.run()
    blocks = agreed.manifest.blocks
    assert story.served.keys() == {(b, p) for b in range(blocks) for p in range(agreed.base, story.play.position)}
    for naive in story.naive:
        assert not naive.from_kv & naive.computed
        prompt_end = {agreed.plan.prompt - 1}
        assert not naive.generated & (naive.from_kv | naive.computed) - prompt_end
    reroutes = open_reroutes(story.play.reroutes, agreed.terms, agreed.session, blocks=blocks)
    assert list(reroutes) == story.play.opened_reroutes


@settings(relaxed, max_examples=at_length(40))
@given(jobs(), st.data())
def test_money_is_conserved_whoever_dies_and_whatever_is_settled_when(agreed: Agreed, data: st.DataObject) -> None:
    ledger, session = agreed.ledger, agreed.session
    total, reserved = ledger.books.total(), sum(leg.cap for leg in session.legs)
    free = ledger.books.account(CLIENT.address).free
    story = Story(agreed, data.draw)
    story.run()
    final = story.play.voucher()
    story.take(final, last=True)
    early = data.draw(st.lists(st.sampled_from(story.vouchers[:-1]), max_size=2))
    fees = 0
    promised = [0] * len(session.legs)
    for pay in (*early, final):
        better = [max(a, b) for a, b in zip(promised, pay.voucher.amounts, strict=True)]
        if better != promised:
            ledger.act(CLIENT, Settle, vouchers=(pay,))
            promised, fees = better, fees + 1
    record = ledger.books.session(agreed.id)
    assert record is not None
    assert list(record.settled) == promised
    words = [
        story.play.discharge(leg, settled)
        for leg, (settled, ceiling) in enumerate(zip(record.settled, record.ceilings, strict=True))
        if settled < ceiling
    ]
    if words:
        ledger.act(CLIENT, Release, discharges=tuple(words))
        fees += 1
    assert ledger.books.total() == total
    refunded = ledger.books.account(CLIENT.address).free + fees - free
    assert sum(promised) + refunded == reserved
    for leg, paid in enumerate(promised):
        assert ledger.books.account(session.legs[leg].provider).free == paid


@settings(relaxed, max_examples=at_length(40))
@given(jobs(), st.data())
def test_a_leg_discharges_what_it_has_earned(agreed: Agreed, data: st.DataObject) -> None:
    story = Story(agreed, data.draw)
    story.run()
    final = story.play.voucher()
    story.take(final, last=True)
    for leg, _ in story.route:
        claim, late = story.claims[leg], story.naive[leg].late
        word = claim.discharge(story.play.earned, late=late)
        assert word.amount == final.voucher.amounts[leg]
        assert claim.redeemable(word.amount).voucher.amounts[leg] >= word.amount


@settings(relaxed, max_examples=at_length(80))
@given(jobs(), st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_caps_suffice_for_whatever_a_leg_may_be_asked(agreed: Agreed, joined: int, left: int, late: int) -> None:
    plan, terms = agreed.plan, agreed.terms
    last = last_position(plan)
    for leg, cap in enumerate(each.cap for each in agreed.session.legs):
        standby = leg >= len(terms.route)
        joined = min(joined, last - 1) if standby else 0
        stint = Stint(joined, max(joined, min(left, last)) if left < 30 else None, agreed.starts[leg])
        assert cap == most_owed(terms.legs[leg], plan, standby=standby)
        for position in range(last + 1):
            assert owed(terms.legs[leg].rates, work_of(plan, stint, position, late=late)) <= cap
