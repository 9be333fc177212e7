"""Who a re-execution convicts, and when nobody: the first mismatch, unless what entered explains it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidError
from protocol.identity.ids import BlockSpan
from protocol.models.activations import FORMATS, ActivationType, Tolerance
from protocol.receipts.audit import Judgement, Observation, Verdict, draw, judge
from protocol.session.terms import Assignment

T = Tolerance(distance_ppm=20, gain=100, margin=1000, margin_gain=2000)


def seat(place: int, leg: int | None = None) -> Assignment:
    return Assignment(leg=place if leg is None else leg, span=BlockSpan(start=2 * place, end=2 * place + 2))


def windows(*rows: list[int | None], margin: int = 0) -> list[list[Observation]]:
    """Distances by window and leg; the margin is the last window's last leg's."""
    found = [[Observation(seat(place), distance) for place, distance in enumerate(row)] for row in rows]
    last = found[-1][-1]
    found[-1][-1] = Observation(last.seat, last.distance_ppm, margin)
    return found


def found(judgement: Judgement) -> tuple[Verdict, int, int]:
    return judgement.verdict, judgement.window, judgement.leg


def test_honest_noise_matches() -> None:
    judgement = judge(windows([0, 1, 3], [20, 20, 20], margin=1000), T)
    assert judgement.verdict is Verdict.MATCH
    assert judgement.distance_ppm == 20


@pytest.mark.parametrize("leg", [0, 1, 2])
def test_the_first_mismatch_convicts_its_leg(leg: int) -> None:
    distances = [0, 0, 0]
    distances[leg:] = [5000] * (3 - leg)
    assert found(judge(windows([0, 1, 0], distances), T)) == (Verdict.MISMATCH, 1, leg)


def test_the_first_leg_inherits_nothing_so_a_step_beyond_the_tolerance_convicts() -> None:
    assert found(judge(windows([21, 0]), T)) == (Verdict.MISMATCH, 0, 0)
    assert judge(windows([20, 0]), T).verdict is Verdict.MATCH


def test_what_only_inherited_is_not_blamed() -> None:
    """int8 weights in leg 0: leg 1 shows the same and more."""
    judgement = judge(windows([4000, 6000, 9000]), T)
    assert found(judgement) == (Verdict.MISMATCH, 0, 0)


def test_noise_in_an_early_window_only_is_still_its_makers() -> None:
    """Leg 0 keeps every window but one; the rows of it stay in leg 1's keys and values for good."""
    judgement = judge(windows([0, 0], [4000, 300], [0, 700_000]), T)
    assert found(judgement) == (Verdict.MISMATCH, 1, 0)


def test_a_change_below_the_tolerance_may_have_grown_so_nobody_is_convicted() -> None:
    limit = 20 + 100 * (15 + 1)
    judgement = judge(windows([15, 0], [0, limit]), T)
    assert found(judgement) == (Verdict.INCONCLUSIVE, 1, 1)
    assert (judgement.inherited_ppm, judgement.limit_ppm) == (15, limit)
    assert "could have grown" in judgement.reason
    judgement = judge(windows([15, 0], [0, limit + 1]), T)
    assert found(judgement) == (Verdict.MISMATCH, 1, 1)


def test_distances_are_rounded_down_so_an_input_of_none_may_be_one() -> None:
    assert judge(windows([0, 120]), T).verdict is Verdict.INCONCLUSIVE
    assert judge(windows([0, 121]), T).verdict is Verdict.MISMATCH


def test_a_leg_does_not_excuse_itself_by_its_own_earlier_windows() -> None:
    """Its output follows from what entered it, not from what it sent: a cheat cannot lead up to itself."""
    assert found(judge(windows([0, 20], [0, 2000]), T)) == (Verdict.MISMATCH, 1, 1)
    assert found(judge(windows([0, 90], [0, 2000]), T)) == (Verdict.MISMATCH, 1, 1)


def test_an_input_that_was_off_already_leaves_the_next_leg_in_doubt() -> None:
    """Leg 1 may have made its mismatch or inherited it; so leg 2 is not convicted by any distance."""
    assert found(judge(windows([5, 400, 900_000]), T)) == (Verdict.INCONCLUSIVE, 0, 1)


def test_a_conviction_that_stands_by_itself_is_not_hidden_by_an_earlier_doubt() -> None:
    assert found(judge(windows([15, 400], [900, 0]), T)) == (Verdict.MISMATCH, 1, 0)


def test_a_token_that_was_not_drawn_convicts_the_last_leg() -> None:
    assert found(judge(windows([0, 0], margin=3001), T)) == (Verdict.MISMATCH, 0, 1)
    assert judge(windows([0, 0], margin=3000), T).verdict is Verdict.INCONCLUSIVE
    assert judge(windows([0, 0], margin=1000), T).verdict is Verdict.MATCH


def test_tokens_drawn_from_rows_that_were_off_are_not_the_last_legs_fault() -> None:
    assert found(judge(windows([700_000, 0], margin=9_000_000), T)) == (Verdict.MISMATCH, 0, 0)
    assert judge(windows([20, 0], margin=40_000), T).verdict is Verdict.INCONCLUSIVE
    assert found(judge(windows([20, 0], margin=50_000), T)) == (Verdict.MISMATCH, 0, 1)


def test_the_only_leg_answers_for_its_tokens_without_excuse() -> None:
    assert found(judge(windows([0], margin=1001), T)) == (Verdict.MISMATCH, 0, 0)


def test_a_sketch_that_was_never_shown_excuses_whom_it_would_have_cleared() -> None:
    """The leg before died with what it had sent unseen."""
    judgement = judge(windows([0, 0], [None, 5000]), T)
    assert found(judgement) == (Verdict.INCONCLUSIVE, 1, 1)
    assert "not shown" in judgement.reason
    assert judge(windows([0, 0], [None, 5]), T).verdict is Verdict.MATCH


def test_a_leg_that_joined_later_is_not_convicted_by_what_nobody_signed() -> None:
    """What it was given of the windows before, to catch up, stands in no receipt."""
    seen = windows([0, 0], [0, 5000])
    seen[1][1] = Observation(seat(1, leg=2), 5000)
    assert found(judge(seen, T)) == (Verdict.INCONCLUSIVE, 1, 2)
    seen[1][0] = Observation(seat(0, leg=3), 5000)
    assert found(judge(seen, T)) == (Verdict.INCONCLUSIVE, 1, 3), "its client may have fed it other tokens"
    seen[0][0] = Observation(seat(0, leg=3), 0)
    assert found(judge(seen, T)) == (Verdict.MISMATCH, 1, 3)


def test_a_leg_that_kept_what_it_held_answers_for_it_in_the_session_that_continues() -> None:
    """Two sessions: the same provider under another index; one that let go of it was fed anew."""
    before = Observation(seat(0, leg=2), 0, holder=b"kept")
    after = Observation(seat(0, leg=0), 5000, holder=b"kept")
    assert found(judge([[before], [after]], T)) == (Verdict.MISMATCH, 1, 0)
    for other in (Observation(seat(0, leg=0), 0), Observation(seat(0, leg=2), 0, holder=b"let go")):
        assert found(judge([[other], [after]], T)) == (Verdict.INCONCLUSIVE, 1, 0)


def test_nothing_observed_is_no_verdict() -> None:
    for empty in ([], [[]], windows([None, None])):
        with pytest.raises(InvalidError):
            judge(empty, T)


@given(st.data())
def test_whoever_is_convicted_was_given_no_excuse(data: st.DataObject) -> None:
    """Over any distances: honest legs stay within gain of their input, and are never convicted."""
    legs, count = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    honest = data.draw(st.integers(0, legs - 1))
    rows: list[list[int | None]] = []
    for _ in range(count):
        row: list[int | None] = [data.draw(st.integers(0, 2_000_000)) for _ in range(legs)]
        entered = [before[honest - 1] or 0 for before in [*rows, row]] if honest else [0]
        row[honest] = data.draw(st.integers(0, 20 + (100 * (max(entered) + 1) if honest else 0)))
        rows.append(row)
    judgement = judge(windows(*rows), T)
    assert judgement.verdict is not Verdict.MISMATCH or judgement.leg != honest


def test_fp32_is_judged_and_bf16_is_not_yet() -> None:
    assert FORMATS[ActivationType.FP32].tolerance == T
    assert FORMATS[ActivationType.BF16].tolerance is None


def test_draws_are_spread_and_follow_from_the_seed() -> None:
    drawn = [draw(bytes([i]), bytes(32), 5, 3) for i in range(200)]
    assert {(each.window, each.leg) for each in drawn} == {(w, leg) for w in range(5) for leg in range(3)}
    assert draw(b"x", bytes(32), 5, 3) == draw(b"x", bytes(32), 5, 3)
    for windows_, legs in ((0, 3), (5, 0)):
        with pytest.raises(InvalidError):
            draw(b"x", bytes(32), windows_, legs)


def test_tokens_that_could_not_be_drawn_again_leave_it_open() -> None:
    """And nobody is convicted of them; of rows, and of tokens before, one still is."""
    seen = windows([0, 0])
    seen[0][1] = replace(seen[0][1], redrawn=False)
    assert judge(seen, T).verdict is Verdict.INCONCLUSIVE
    open_still = seen[0][1]
    for worse in (replace(open_still, distance_ppm=5_000), replace(open_still, margin=10**10)):
        seen[0][1] = worse
        assert found(judge(seen, T)) == (Verdict.MISMATCH, 0, 1)
