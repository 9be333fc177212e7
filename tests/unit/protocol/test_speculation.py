"""The choice of a pace: right in theory, right in a simulated ring, and never worse than none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ring_times import Ring, Simulation

from protocol.drafting.measured import Came, Times, Worth
from protocol.drafting.speculation import NONE, Costs, Pace, Pacer, Prior, speed

MOST = Pace(64, 16)
TOKENS = 1_500


def gained(ring: Ring, right: float, most: Pace = MOST) -> tuple[float, Pacer]:
    """Speed with guesses against without."""
    pacer = Pacer(most)
    plain = Simulation(ring, right, None, most=most).run(TOKENS)
    return Simulation(ring, right, pacer, most=most).run(TOKENS) / plain, pacer


@pytest.mark.parametrize("round_trip_s", [0.025, 0.075])
@pytest.mark.parametrize("right", [0.7, 0.9])
def test_windows_under_way_reach_three_quarters_of_the_ideal(round_trip_s, right) -> None:
    found, _ = gained(Ring(hop_s=round_trip_s / 2, pass_s=0.01), right)
    assert found >= 0.75 / (1 - right)


@pytest.mark.parametrize("right", [0.0, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("row_s", [0.0, 0.002, 0.01])
@pytest.mark.parametrize("hop_s", [0.0002, 0.0125])
def test_it_is_never_slower_than_without_by_more_than_three_hundredths(right, row_s, hop_s) -> None:
    found, _ = gained(Ring(hop_s=hop_s, row_s=row_s), right)
    assert found >= 0.97


@pytest.mark.parametrize("right", [0.3, 0.7])
@pytest.mark.parametrize("unseen_s", [0.02, 0.05])
def test_what_guesses_hold_up_unseen_counts_too(right, unseen_s) -> None:
    found, _ = gained(Ring(hop_s=0.0002, pass_s=0.01, unseen_s=unseen_s), right)
    assert found >= 0.97


def test_where_every_guess_is_wrong_it_stops_and_where_they_get_right_it_begins_again() -> None:
    pacer = Pacer(MOST)
    for _ in range(200):
        _feed(pacer, right=False)
    assert pacer.pace == NONE
    guessed = sum(bool(_feed(pacer, right=False)) for _ in range(640))
    assert 1 <= guessed <= 12
    for _ in range(1_000):
        _feed(pacer, right=True)
    assert pacer.pace.depth > 4


def _feed(pacer: Pacer, *, right: bool) -> int:
    """One launch and its verdict; the guesses in it."""
    pace = pacer.next_pace()
    pacer.came(1 + pace.depth * right, 0.03 + 0.003 * pace.depth)
    pacer.trips.note(1 + pace.depth, 0.03 + 0.003 * pace.depth)
    pacer.passes.note(1 + pace.depth, 0.01 + 0.001 * pace.depth)
    if pace.depth:
        pacer.worth.note(0, right)
    return pace.depth


def test_the_terms_bound_every_choice() -> None:
    for most in (Pace(1, 1), Pace(3, 2), Pace(0, 0)):
        _, pacer = gained(Ring(), 0.9, most)
        for _ in range(50):
            pace = pacer.next_pace()
            assert pace.depth <= most.depth
            assert pace.flights <= most.flights


def test_shared_passes_make_it_careful() -> None:
    found = []
    for sharing in (1, 16):
        pacer = Pacer(MOST, Prior(worth=0.6))
        for rows in (1, 3, 1, 5) * 20:
            pacer.trips.note(rows, 0.03 + 0.002 * rows)
            pacer.came(1, 0.032)
        for _ in range(16):
            pacer.next_pace(sharing=sharing)
        found.append(pacer.pace)
    assert found[0].depth > 0
    assert found[1] == NONE


def test_what_one_session_taught_the_next_begins_with() -> None:
    _, taught = gained(Ring(), 0.9)
    assert taught.learned().worth == pytest.approx(0.9, abs=0.1)
    assert Pacer(MOST, taught.learned()).worth.survival()[4] > 0.4 > Pacer(MOST).worth.survival()[4]


@pytest.mark.parametrize("right", [0.7, 0.9])
def test_a_short_answer_goes_at_the_pace_that_those_before_it_taught(right) -> None:
    ring, prior, found = Ring(pass_s=0.003, row_s=0.0002), Prior(), []
    for seed in range(9):
        pacer = Pacer(Pace(15, 8), prior)
        plain = Simulation(ring, right, None, most=MOST, seed=seed).run(160)
        found.append(Simulation(ring, right, pacer, most=pacer.most, seed=seed).run(160) / plain)
        prior = pacer.learned()
    assert sum(found[1:]) / 8 >= 0.75 / (1 - right)
    assert max(found[1:]) > 1.2 * found[0]


@given(right=st.floats(0.0, 0.95), depth=st.integers(1, 20), trip_s=st.floats(0.001, 1.0))
def test_one_pass_brings_what_the_formula_says(right, depth, trip_s) -> None:
    survival = [right**each for each in range(40)]
    found = speed(survival, right, Pace(depth, 1), Costs(trip_s, trip_s, 0.0))
    assert found * trip_s == pytest.approx((1 - right ** (depth + 1)) / (1 - right))


@given(right=st.floats(0.1, 0.95), depth=st.integers(1, 20), flights=st.integers(2, 16))
def test_passes_that_cost_nothing_reach_the_ideal_and_none_exceeds_it(right, depth, flights) -> None:
    survival = [right**each for each in range(49)]
    ideal = 1 / (1 - right)
    assert speed(survival, right, Pace(depth, 64), Costs(1.0, 1.0, 0.0)) <= ideal * 1.001
    for spacing_s in (0.001, 0.1, 0.5):
        assert speed(survival, right, Pace(depth, flights), Costs(1.0, 1.0, spacing_s)) <= ideal * 1.001
    assert speed(survival, right, Pace(20, 16), Costs(1.0, 1.0, 1e-6)) >= 0.9 * ideal


def test_times_are_a_line_over_rows_once_rows_differ() -> None:
    times = Times(row_share=0.1)
    assert not times.known
    for _ in range(20):
        times.note(1, 0.02)
    assert times.of(1) == pytest.approx(0.02)
    assert times.of(11) == pytest.approx(0.04, rel=0.1)  # as was believed before
    for rows in (1, 5, 9) * 30:
        times.note(rows, 0.02 + 0.0005 * (rows - 1))
    assert times.of(11) == pytest.approx(0.025, rel=0.05)
    times.note(1, 60.0)
    assert times.of(1) < 0.03


def test_guesses_are_worth_what_they_were_lately_and_by_place() -> None:
    worth = Worth()
    for _ in range(100):
        worth.note(0, right=True)
        worth.note(1, right=False)
    assert worth.survival()[1] > 0.9
    assert worth.survival()[2] < 0.1
    for _ in range(100):
        worth.note(0, right=False)
    assert worth.survival()[1] < 0.1


def test_choices_that_nothing_came_of_tell_nothing() -> None:
    came, other = Came(), Came()
    for _ in range(20):
        came.note(0, 0.1)
    assert not came.known
    for _ in range(20):
        came.note(3, 0.1)
        other.note(1, 0.1)
    assert came.speed == pytest.approx(30.0)
    assert came.ratio(other) == pytest.approx(3.0)
