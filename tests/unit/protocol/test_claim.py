"""The vouchers that a leg takes, and what it gives up: each clause with its neighbour (session.md, V1 to V7)."""

from __future__ import annotations

from typing import Any

import pytest
from agreed_job import CLIENT, agree
from played_job import Play
from taken import take_voucher

from protocol.errors import MalformedError, SignatureError, StaleError, UnpaidError
from protocol.identity.ids import MAX_TOKENS, BlockSpan
from protocol.identity.signing import SigningKey
from protocol.routing.routes import MAX_LEGS
from protocol.session.claim import VOUCHERS_A_WINDOW, Claim
from protocol.session.messages import SignedVoucher, check_discharge, check_voucher, sign_voucher
from protocol.session.metering import Stint, window_count
from protocol.session.order import check_acceptance
from protocol.session.tab import Tab, first_voucher
from protocol.settlement import ledger_domain

STRANGER = SigningKey(b"\x31" * 32)


@pytest.fixture
def play() -> Play:
    return Play(agree(standbys=((0, 6),)))


def claim_of(play: Play, leg: int = 1, **more: Any) -> Claim:
    agreed = play.agreed
    first = sign_voucher(agreed.ledger.domain, first_voucher(agreed.session, agreed.terms), CLIENT)
    return Claim(agreed.ledger.domain, agreed.session, agreed.terms, leg, first, **more)


def test_the_first_voucher_pays_for_the_first_window(play: Play) -> None:
    claim = claim_of(play)
    assert (claim.positions_paid, claim.may_process, claim.amount) == (4, 4, 12)
    assert claim.owed(4) == 12


def test_vouchers_rise_with_the_job(play: Play) -> None:
    claim = claim_of(play)
    for positions in (8, 10, 13, 17, 20):
        signed = play.voucher(positions)
        take_voucher(claim, signed)
        assert (claim.positions_paid, claim.amount) == (positions, claim.owed(positions))
        assert claim.newest is claim.best is signed


def test_v1_it_is_for_this_session(play: Play) -> None:
    with pytest.raises(MalformedError, match="another session"):
        take_voucher(claim_of(play), play.voucher(8, session=bytes(32)))


def test_v2_the_client_signed_it_for_this_ledger(play: Play) -> None:
    with pytest.raises(SignatureError):
        take_voucher(claim_of(play), play.voucher(8, STRANGER))
    elsewhere = sign_voucher(ledger_domain("other"), play.voucher(8).voucher, CLIENT)
    with pytest.raises(SignatureError):
        check_voucher(play.agreed.ledger.domain, play.agreed.session, elsewhere)


def test_v3_an_amount_for_each_leg_within_its_cap(play: Play) -> None:
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    take_voucher(claim_of(play), play.voucher(8, amounts=caps))
    for leg in range(4):
        over = (*caps[:leg], caps[leg] + 1, *caps[leg + 1 :])
        with pytest.raises(MalformedError) as raised:
            take_voucher(claim_of(play), play.voucher(8, amounts=over))
        assert raised.value.code == "cap"
    for wrong in (caps[:3], (*caps, 0)):
        with pytest.raises(MalformedError, match="amounts for"):
            take_voucher(claim_of(play), play.voucher(8, amounts=wrong))


def test_v4_no_more_tokens_than_were_ordered(play: Play) -> None:
    caps = tuple(leg.cap for leg in play.agreed.session.legs)
    take_voucher(claim_of(play), play.voucher(20, amounts=caps))
    for counts in ({"tokens_in": 11}, {"tokens_out": 12}, {"tokens_out": MAX_TOKENS}):
        with pytest.raises(MalformedError, match="more tokens than were ordered"):
            take_voucher(claim_of(play), play.voucher(20, amounts=caps, **counts))


def test_v4_no_more_vouchers_than_the_windows_take() -> None:
    play = Play(agree(prompt=2, most=40, chunk=4, window=40))
    claim = claim_of(play)
    assert window_count(play.agreed.plan) == 2
    for positions in range(3, 3 + 2 * VOUCHERS_A_WINDOW - 1):
        take_voucher(claim, play.voucher(positions))
    with pytest.raises(StaleError, match="one more than the 8"):
        take_voucher(claim, play.voucher(40))
    take_voucher(claim, play.voucher(40), last=True)


def test_v4_more_tokens_than_before_until_the_answer_is_over(play: Play) -> None:
    claim = claim_of(play)
    take_voucher(claim, play.voucher(17))
    for positions in (16, 17):
        with pytest.raises(StaleError, match="no more tokens than an earlier one"):
            take_voucher(claim, play.voucher(positions))
    take_voucher(claim, play.voucher(16), last=True)
    assert claim.positions_paid == 16
    assert claim.amount == claim.owed(17), "what was promised once stays promised"


@pytest.mark.parametrize("leg", range(3))
def test_v5_a_leg_looks_at_its_own_amount_only(play: Play, leg: int) -> None:
    amounts = play.voucher(17).voucher.amounts
    alone = tuple(amount if at == leg else 0 for at, amount in enumerate(amounts))
    take_voucher(claim_of(play, leg), play.voucher(17, amounts=alone))
    short = tuple(amount - (at == leg) for at, amount in enumerate(amounts))
    with pytest.raises(UnpaidError, match=f"where {amounts[leg]} are owed"):
        take_voucher(claim_of(play, leg), play.voucher(17, amounts=short))


def test_v5_late_tokens_are_owed_at_the_discount_that_the_leg_has_signed_for(play: Play) -> None:
    claim = claim_of(play)
    full, cheap = claim.owed(17), claim.owed(17, late=4)
    assert cheap < full
    amounts = (0, cheap, 0, 0)
    with pytest.raises(UnpaidError):
        take_voucher(claim, play.voucher(17, amounts=amounts), late=3)
    take_voucher(claim, play.voucher(17, amounts=amounts), late=4)


def test_a_standby_that_was_not_called_may_do_nothing(play: Play) -> None:
    claim = claim_of(play, 3)
    assert claim.owed(20) == 7
    assert claim.discharge(20).amount == 7


def test_a_reroute_changes_who_is_owed(play: Play) -> None:
    left, joined = claim_of(play, 1), claim_of(play, 3)
    blocks = play.agreed.terms.legs[3].span
    left.reroute(Stint(0, 10), play.agreed.terms.legs[1].span)
    joined.reroute(Stint(10), blocks)
    assert left.owed(20) == left.owed(10)
    assert joined.owed(10) == 7
    assert joined.owed(13) > left.owed(13) - left.owed(10)
    whole = joined.owed(13)
    joined.reroute(Stint(10), BlockSpan(start=2, end=4))
    third = joined.owed(13) - 7
    assert (whole - 7) // 3 <= third <= (whole - 7) // 3 + 1, "a third of its blocks earn a third, opening aside"


@pytest.mark.parametrize("accepts", [False, True])
def test_the_client_pays_no_standby_that_has_not_accepted(play: Play, accepts: bool) -> None:
    agreed = play.agreed
    acceptances = {leg: check_acceptance(agreed.accept(leg), agreed.session, agreed.terms, leg) for leg in range(4)}
    if not accepts:
        del acceptances[3]
    tab = Tab(
        agreed.session,
        agreed.terms,
        agreed.ledger.domain,
        acceptances=acceptances,
        chain=agreed.client_chain,
        prompt=play.tokens,
        stop_tokens=(0,),
        vocabulary=1 << 24,
    )
    assert tab.last_voucher(honest=True).amounts == (7, 7, 7, 7 if accepts else 0)


def test_cached_positions_are_owed_as_cached() -> None:
    play = Play(agree(continues=8, cached={1: 8}))
    assert claim_of(play, 1, start=8).owed(10) < claim_of(play, 1).owed(10)


def test_the_first_voucher_of_a_continuing_session_counts_for_what_it_pays(play: Play) -> None:
    fresh = claim_of(play)
    fresh.begin(0)
    assert fresh.positions_paid == 4

    play = Play(agree(continues=8))
    agreed = play.agreed
    full = first_voucher(agreed.session, agreed.terms)
    dearer = claim_of(play).owed(4)
    cheap = sign_voucher(agreed.ledger.domain, full.replace(amounts=(0, dearer - 1, 0)), CLIENT)
    claim = Claim(agreed.ledger.domain, agreed.session, agreed.terms, 1, cheap)
    assert claim.positions_paid == 3, "as if nothing were held"
    claim.begin(8)
    assert claim.positions_paid == 4, "held positions cost less"
    take_voucher(claim, play.voucher(8))
    assert claim.positions_paid == 8


def test_v7_a_discharge_claims_what_was_earned_and_promised(play: Play) -> None:
    claim = claim_of(play)
    take_voucher(claim, play.voucher(17))
    for positions in (0, 4, 13, 17):
        assert claim.discharge(positions).amount == claim.owed(positions)
    assert claim.discharge(20).amount == claim.amount == claim.owed(17), "no voucher promises more"


def test_what_is_redeemed_is_no_larger_a_promise_than_needed(play: Play) -> None:
    claim = claim_of(play)
    ahead = play.voucher(17)
    take_voucher(claim, ahead)
    final = play.voucher(14)
    take_voucher(claim, final, last=True)
    assert claim.redeemable(claim.owed(14)) is final
    assert claim.redeemable(claim.owed(16)) is ahead


def test_v7_a_discharge_is_the_legs_own(play: Play) -> None:
    domain, session = play.agreed.ledger.domain, play.agreed.session
    check_discharge(domain, session, play.discharge(1, 5))
    for wrong in (play.discharge(1, 5, CLIENT), play.discharge(1, 5, play.agreed.keys[0])):
        with pytest.raises(SignatureError):
            check_discharge(domain, session, wrong)
    for changes in ({"leg": 4}, {"leg": MAX_LEGS - 1}, {"session": bytes(32)}):
        with pytest.raises(MalformedError):
            check_discharge(domain, session, play.discharge(1, 5, **changes))


def test_a_refused_voucher_changes_nothing(play: Play) -> None:
    claim = claim_of(play)
    before = (claim.newest, claim.best, claim.positions_paid)
    refused: list[SignedVoucher] = [
        play.voucher(8, amounts=(0, 0, 0, 0)),
        play.voucher(8, STRANGER),
        play.voucher(3),
    ]
    for signed in refused:
        with pytest.raises((UnpaidError, SignatureError, StaleError)):
            take_voucher(claim, signed)
        assert (claim.newest, claim.best, claim.positions_paid) == before
