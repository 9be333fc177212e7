"""What a client owes when its route changes, and when it goes on from another session (session.md, H1 to H8)."""

from __future__ import annotations

import pytest
from agreed_job import CLIENT, agree
from tabbed_play import TabbedPlay, copied
from taken import take_voucher

from protocol.errors import DishonestError, InvalidError, MalformedError
from protocol.session.claim import Claim
from protocol.session.frames import SampledToken
from protocol.session.messages import sign_voucher
from protocol.session.metering import paid_limit, positions_of, rates_for, spans
from protocol.session.receipt import fed_hash
from protocol.session.tab import first_voucher

TAKES_OVER = ((0, (0, 2)), (3, (2, 4)), (2, (4, 6)))


@pytest.fixture
def job() -> TabbedPlay:
    """Four windows of one with a standby, up to position 13."""
    job = TabbedPlay(agree(standbys=((0, 6),)))
    for _ in range(4):
        job.window()
    return job


def test_a_job_whose_route_changes_ends_as_any_other(job: TabbedPlay) -> None:
    tab = job.tab
    job.reroute(*TAKES_OVER)
    assert (tab.proven, tab.awaited) == (13, (0, 3, 2))
    job.finish()
    assert tab.complete
    last, paid = tab.last_voucher(honest=True), job.play.voucher().voucher
    assert last == paid
    assert [each.index for each in tab.book.windows] == [0, 1, 2, 3, 6, 7]
    assert tab.nonce == job.agreed.client_chain.nonce(7)


def test_the_leg_that_died_is_paid_for_what_all_have_signed(job: TabbedPlay) -> None:
    before = job.play.amounts(13)
    job.reroute(*TAKES_OVER)
    job.finish()
    amounts = job.tab.last_voucher(honest=True).amounts
    assert amounts[1] == before[1]
    assert amounts[0] > before[0]


def test_a_standby_is_paid_for_catching_up_by_the_first_voucher_beyond(job: TabbedPlay) -> None:
    tab = job.tab
    while (voucher := tab.next_voucher()) is not None:
        before = voucher
    assert before.amounts[3] == 7, "it has accepted, and waits"
    job.reroute(*TAKES_OVER)
    again = tab.next_voucher()
    assert again is not None
    assert tab.next_voucher() is None
    paid = positions_of(job.agreed.plan, again.tokens_in, again.tokens_out)
    assert 13 < paid <= paid_limit(job.agreed.plan, 13)
    assert again.amounts == job.play.amounts(paid)
    assert again.amounts[3] > 7 + 13 // 3, "a third of a micro-unit for every position that it computes"
    legs = spans(tab.reroutes)
    assert rates_for(job.agreed.terms.legs[3], legs[3]).opening == 7
    assert rates_for(job.agreed.terms.legs[3], legs[3]).price_in == -(-1_000_003 // 3)


def test_legs_take_the_vouchers_that_follow_a_reroute(job: TabbedPlay) -> None:
    agreed, tab = job.agreed, job.tab
    first = sign_voucher(agreed.ledger.domain, first_voucher(agreed.session, agreed.terms), CLIENT)
    claims = [Claim(agreed.ledger.domain, agreed.session, agreed.terms, leg, first) for leg in range(4)]
    while (voucher := tab.next_voucher()) is not None:
        for claim in claims[:3]:
            take_voucher(claim, sign_voucher(agreed.ledger.domain, voucher, CLIENT))
    job.reroute(*TAKES_OVER)
    for leg, span in ((0, (0, 2)), (3, (2, 4)), (2, (4, 6))):
        claims[leg].reroute(job.play.stints()[leg], spans(tab.reroutes)[leg])
        assert (claims[leg].span is None) is (leg != 3), span
    again = tab.next_voucher()
    assert again is not None
    for leg in (0, 3, 2):
        take_voucher(claims[leg], sign_voucher(agreed.ledger.domain, again, CLIENT))
        assert claims[leg].owed(claims[leg].positions_paid) == again.amounts[leg]


def test_what_is_signed_in_vain_is_passed_over_before_and_after(job: TabbedPlay) -> None:
    void = job.in_vain()
    for signed, shown in (void.rows[-1][0], void.rows[-1][2]):
        job.tab.take_receipt(signed.receipt.leg, signed, shown)
    job.reroute(*TAKES_OVER)
    for signed, shown in void.rows[-1]:
        job.tab.take_receipt(signed.receipt.leg, signed, shown)
    job.finish()
    assert job.tab.last_voucher(honest=True) == job.play.voucher().voucher


def test_tokens_of_the_old_route_are_passed_over_and_known_ones_stand(job: TabbedPlay) -> None:
    tab, void = job.tab, job.in_vain()
    known = SampledToken(session=job.agreed.id, position=14, token=void.tokens[14])
    assert tab.take_token(known)
    job.reroute(*TAKES_OVER)
    assert not tab.take_token(known.replace(position=15)), "it was on its way"
    assert not tab.take_token(known.replace(route=1)), "it stands already"
    with pytest.raises(DishonestError):
        tab.take_token(known.replace(route=1, token=known.token + 1))
    with pytest.raises(DishonestError):
        tab.take_token(known.replace(route=2, position=15))
    assert tab.take_token(known.replace(route=1, position=15))


def test_without_a_reroute_no_token_comes_twice(job: TabbedPlay) -> None:
    with pytest.raises(DishonestError):
        job.tab.take_token(job.token(13))


def test_what_a_replacement_was_fed_is_what_the_leg_before_signed_for(job: TabbedPlay) -> None:
    job.reroute(*TAKES_OVER)
    rows = [[signed.receipt for signed, _ in row] for row in job.play.rows]
    assert job.tab.fed_hash(3) == fed_hash([row[0].output for row in rows])
    assert job.tab.fed_hash(0) == fed_hash([row[0].input for row in rows])
    cut = TabbedPlay(agree(standbys=((2, 3), (3, 4))))
    cut.window()
    cut.reroute((0, (0, 2)), (3, (2, 3)), (4, (3, 4)), (2, (4, 6)))
    assert cut.tab.fed_hash(3) is not None
    assert cut.tab.fed_hash(4) is None, "nobody signed for what passes between these blocks"


def test_a_reroute_goes_on_from_what_is_proven(job: TabbedPlay) -> None:
    made, sealed = copied(job.play), job.play.reroutes
    made.reroute(*TAKES_OVER)
    for changes in ({"position": 10}, {"position": 14}, {"number": 2}, {"session": bytes(32)}):
        with pytest.raises(InvalidError):
            job.tab.reroute(made.opened_reroutes[0].replace(**changes), b"")
    assert (job.tab.reroutes, sealed) == ([], [])


def test_receipts_of_a_leg_that_has_no_part_are_refused(job: TabbedPlay) -> None:
    signed, shown = job.play.rows[-1][0]
    with pytest.raises(MalformedError, match="nobody waits for"):
        job.tab.take_receipt(3, signed, shown)


@pytest.mark.parametrize("replays", [(), (0, 1)])
def test_a_session_that_continues_begins_at_its_base(replays: tuple[int, ...]) -> None:
    job = TabbedPlay(agree(continues=9, cached={0: 9, 1: 6, 2: 9}, replays=replays))
    tab = job.tab
    assert [each.start for each in tab.joinings] == ([9, 6, 9] if replays else [6, 6, 9])
    assert tab.proven == tab.book.base == 9
    assert tab.last_voucher(honest=True).amounts == (7, 7, 7)
    voucher = tab.next_voucher()
    assert voucher is not None
    assert positions_of(job.agreed.plan, voucher.tokens_in, voucher.tokens_out) == paid_limit(job.agreed.plan, 9)
    job.finish()
    assert tab.last_voucher(honest=True) == job.play.voucher().voucher


def test_a_continuing_session_of_one_window_has_a_second_voucher() -> None:
    """Nobody knows what is held when the first one is signed; so it may pay less than its own window."""
    job = TabbedPlay(agree(prompt=4, most=1, chunk=4, continues=3))
    agreed, first = job.agreed, first_voucher(job.agreed.session, job.agreed.terms)
    signed = sign_voucher(agreed.ledger.domain, first, CLIENT)
    claim = Claim(agreed.ledger.domain, agreed.session, agreed.terms, 0, signed)
    claim.begin(0)
    assert claim.positions_paid < 4
    second = job.tab.next_voucher()
    assert second is not None
    assert (second.tokens_in, second.tokens_out) == (first.tokens_in, first.tokens_out) == (4, 1)
    take_voucher(claim, sign_voucher(agreed.ledger.domain, second, CLIENT))
    assert claim.positions_paid == 4
    assert job.tab.next_voucher() is None


def test_several_windows_ahead_are_paid_ahead() -> None:
    job = TabbedPlay(agree(prompt=12, most=3, chunk=2, ahead=3))
    voucher = job.tab.next_voucher()
    assert voucher is not None
    assert voucher.tokens_in == paid_limit(job.agreed.plan, 0) == 8
    job.finish()
    assert job.tab.complete
