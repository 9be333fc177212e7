"""Whoever dies when, and whatever was held before: client, legs and verifier count a session alike."""

from __future__ import annotations

from typing import Any

from agreed_job import CLIENT, agree
from brevity import at_length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from market_offers import some_limits
from tabbed_play import TabbedPlay
from taken import take_voucher

from protocol.receipts.bundle import verify_bundle
from protocol.session.claim import Claim
from protocol.session.messages import sign_voucher
from protocol.session.metering import paid_limit, positions_of, spans
from protocol.session.tab import first_voucher

ROUTE = ((0, 2), (2, 4), (4, 6))
STANDBYS = ((0, 6), (2, 4), (0, 2), (2, 6))


@st.composite
def sessions(draw: Any) -> TabbedPlay:
    prompt = draw(st.integers(1, 12))
    continues, ahead = draw(st.integers(0, prompt - 1)), draw(st.integers(1, 3))
    limits = {"limits": some_limits(credit=draw(st.integers(0, 4)))}
    agreed = agree(
        spans=ROUTE,
        standbys=STANDBYS,
        prompt=prompt,
        most=draw(st.integers(1, 14)),
        chunk=draw(st.integers(1, 6)),
        window=draw(st.integers(1, 6)),
        ahead=ahead,
        continues=continues,
        cached={leg: draw(st.integers(0, continues)) for leg in range(7)},
        replays=draw(st.sets(st.integers(0, 6))),
        offers=dict.fromkeys(range(7), limits),
    )
    return TabbedPlay(agreed, lag=draw(st.integers(0, ahead - 1)))


class Story:
    """One such session to its end; the claims of its legs take every voucher."""

    def __init__(self, job: TabbedPlay, draw: Any) -> None:
        self.job, self.draw = job, draw
        agreed = job.agreed
        self.first = sign_voucher(agreed.ledger.domain, first_voucher(agreed.session, agreed.terms), CLIENT)
        self.claims = [
            Claim(agreed.ledger.domain, agreed.session, agreed.terms, leg, self.first)
            for leg in range(len(agreed.keys))
        ]
        for leg, joining in enumerate(job.tab.joinings):
            self.claims[leg].begin(joining.start)
        self.gone: set[int] = set()

    def run(self) -> None:
        tab = self.job.tab
        while not tab.ended:
            self.pay()
            if self.draw(st.integers(0, 3)) == 0:
                self.die()
                continue
            assert all(self.claims[each.leg].may_process > tab.proven for each in tab.book.route)
            self.job.window()
        self.job.play.close()
        self.job.receipts()
        assert tab.complete

    def pay(self) -> None:
        agreed, tab = self.job.agreed, self.job.tab
        while (voucher := tab.next_voucher()) is not None:
            positions = positions_of(agreed.plan, voucher.tokens_in, voucher.tokens_out)
            assert positions <= paid_limit(agreed.plan, tab.proven)
            assert voucher.amounts == self.job.play.amounts(positions)
            for each in tab.book.route:
                take_voucher(self.claims[each.leg], sign_voucher(agreed.ledger.domain, voucher, CLIENT))
                assert self.claims[each.leg].positions_paid == positions

    def die(self) -> None:
        """One leg dies, perhaps when others have signed for more already; a standby takes over, if there is one."""
        job = self.job
        route = [(each.leg, (each.span.start, each.span.end)) for each in job.tab.book.route]
        place = self.draw(st.integers(0, len(route) - 1))
        dead, (start, end) = route[place]
        free = [
            leg
            for leg, (a, b) in enumerate(STANDBYS, 3)
            if a <= start and end <= b and leg not in self.gone and leg not in dict(route)
        ]
        if not free:
            return
        void = job.in_vain().rows[-1]
        late = []
        for signed, shown in void:
            leg = signed.receipt.leg
            if leg != dead:
                (
                    late.append((leg, signed, shown))
                    if self.draw(st.booleans())
                    else job.tab.take_receipt(leg, signed, shown)
                )
        self.gone.add(dead)
        route[place] = (self.draw(st.sampled_from(free)), (start, end))
        job.reroute(*route)
        for leg, span in spans(job.tab.reroutes).items():
            self.claims[leg].reroute(job.play.stints()[leg], span)
        for leg, signed, shown in late:
            job.tab.take_receipt(leg, signed, shown)


@settings(deadline=None, max_examples=at_length(24), suppress_health_check=list(HealthCheck))
@given(sessions(), st.data())
def test_all_count_a_session_alike_whoever_dies(job: TabbedPlay, data: st.DataObject) -> None:
    Story(job, data.draw).run()
    last = job.tab.last_voucher(honest=True)
    assert last == job.play.voucher().voucher
    found = verify_bundle(job.play.bundle())
    assert found.amounts == last.amounts
    assert [each.index for each in found.windows] == [each.index for each in job.tab.book.windows]
    assert len(found.sketches) == len(found.windows)
