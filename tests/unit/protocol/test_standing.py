"""What follows from what a peer did: for how long it is left alone, and how much it is trusted with."""

from __future__ import annotations

from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.reputation.standing import (
    DAY_S,
    FAILURES,
    FIRST_PAUSE_S,
    KEPT_DAYS,
    LONGEST_PAUSE_S,
    MERITS,
    NEWCOMER,
    OFFENCES,
    Deed,
    Standing,
    Tally,
    granted_credit,
    shunned_until,
    why_shunned,
)

NOW = 1_800_000_000


def standing(in_row: int = 0, **deeds: Tally) -> Standing:
    return Standing(MappingProxyType({Deed(name): tally for name, tally in deeds.items()}), in_row)


def test_every_deed_but_those_of_time_has_one_consequence() -> None:
    sorts = (FAILURES, OFFENCES, MERITS)
    counted = {deed: sum(deed in sort for sort in sorts) for deed in Deed}
    assert counted == dict.fromkeys(Deed, 1) | {Deed.LATE: 0, Deed.ADRIFT: 0}


@pytest.mark.parametrize(
    ("drifts", "served", "left_alone"),
    [(4, 4, False), (5, 5, True), (5, 9, True), (5, 10, False), (50, 99, True), (50, 100, False)],
)
def test_m84_clocks_that_differ_again_and_again_cost_a_day(drifts: int, served: int, left_alone: bool) -> None:
    peer = standing(0, adrift=Tally(drifts, 0, NOW), served=Tally(served, 1, NOW))
    assert shunned_until(peer) == (NOW + DAY_S if left_alone else 0)
    why = why_shunned(peer, NOW + 60)
    assert (why is not None) is left_alone
    assert why is None or f"did not add up in {drifts} jobs" in why
    assert not peer.offended


def test_a_newcomer_is_left_out_of_nothing() -> None:
    assert shunned_until(NEWCOMER) == 0
    assert why_shunned(NEWCOMER, NOW) is None
    assert NEWCOMER.is_newcomer
    assert not standing(served=Tally(1, 5, NOW)).is_newcomer


@pytest.mark.parametrize("deed", FAILURES)
def test_m11_a_failure_costs_a_minute_and_each_further_one_twice_as_much_up_to_a_day(deed: Deed) -> None:
    pauses = [shunned_until(standing(n, **{deed: Tally(n, 0, NOW)})) - NOW for n in range(1, 40)]
    assert pauses[:4] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert shunned_until(standing(0, **{deed: Tally(9, 0, NOW)})) == 0, "a merit has followed"


@pytest.mark.parametrize("deed", OFFENCES)
def test_m11_an_offence_costs_as_long_as_it_is_remembered(deed: Deed) -> None:
    offender = standing(0, **{deed: Tally(1, 0, NOW), "served": Tally(100, 10**9, NOW)})
    assert shunned_until(offender) == NOW + KEPT_DAYS * DAY_S


def test_lateness_alone_is_told_and_no_more() -> None:
    assert shunned_until(standing(late=Tally(50, 0, NOW))) == 0


@pytest.mark.parametrize(
    ("known", "after", "why"),
    [
        (standing(1, silent=Tally(1, 0, NOW)), 10, "it failed you once, last 10 s ago: left out for 50 s more"),
        (
            standing(4, silent=Tally(4, 0, NOW)),
            130,
            "it failed you 4 times in a row, last 2 min ago: left out for 5 min more",
        ),
        (
            standing(lied=Tally(1, 0, NOW)),
            2 * DAY_S,
            "it signed what cannot be true, 2 days ago: left out for 28 days more",
        ),
        (standing(mismatched=Tally(1, 0, NOW)), 0, "a spot check convicted it, 0 s ago: left out for 30 days more"),
    ],
)
def test_why_is_said_for_people(known: Standing, after: int, why: str) -> None:
    assert why_shunned(known, NOW + after) == why
    assert why_shunned(known, shunned_until(known)) is None


def test_m12_credit_grows_with_what_was_paid_up_to_a_window_and_is_none_after_an_offence() -> None:
    terms = {"price_out": 1_000_000, "window": 64, "least": 4}
    assert granted_credit(NEWCOMER, **terms) == 4
    assert granted_credit(standing(paid=Tally(1, 100, NOW)), **terms) == 10
    assert granted_credit(standing(paid=Tally(9, 10**9, NOW)), **terms) == 64
    assert granted_credit(standing(paid=Tally(9, 10**9, NOW), defaulted=Tally(1, 5, NOW)), **terms) == 0


TALLIES = st.builds(Tally, st.integers(0, 2**61), st.integers(0, 2**61), st.integers(NOW - KEPT_DAYS * DAY_S, NOW))


@given(st.dictionaries(st.sampled_from(list(Deed)), TALLIES), st.integers(0, 2**61))
def test_no_record_is_beyond_what_can_be_said_of_it(tallies: dict[Deed, Tally], in_row: int) -> None:
    known = Standing(MappingProxyType(tallies), in_row)
    until = shunned_until(known)
    assert until <= NOW + KEPT_DAYS * DAY_S
    why = why_shunned(known, NOW)
    assert (why is None) is (until <= NOW)
    assert why is None or why.isprintable()
    for price_out in (0, 1, 10**12):
        assert 0 <= granted_credit(known, price_out=price_out, window=64, least=64) <= 64
