"""Every pass is within bounds, nothing is lost or reordered, and nobody waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.pipeline.serving.scheduler import SHORT_ROWS, Scheduler, Turn

lengths = st.lists(st.one_of(st.just(1), st.integers(1, SHORT_ROWS), st.integers(1, 300)), max_size=40)
bounds = st.one_of(st.integers(1, 200), st.integers(4 * SHORT_ROWS, 200))
wide = st.integers(4 * SHORT_ROWS, 200)


def queued(lengths: list[int], most: int) -> tuple[Scheduler, dict[bytes, int]]:
    waiting = {bytes([i]): length for i, length in enumerate(lengths)}
    scheduler = Scheduler(most)
    for session, rows in waiting.items():
        scheduler.ready(session, rows)
    return scheduler, waiting


@given(lengths, bounds)
def test_all_rows_run_once_within_the_bound(lengths: list[int], most: int) -> None:
    scheduler, waiting = queued(lengths, most)
    assert len(scheduler) == len(waiting)
    ran = dict.fromkeys(waiting, 0)
    while turns := scheduler.next_pass():
        assert sum(turn.rows for turn in turns) <= most
        assert len({turn.session for turn in turns}) == len(turns)
        for turn in turns:
            assert turn.rows > 0
            ran[turn.session] += turn.rows
    assert len(scheduler) == 0
    assert ran == waiting


@given(lengths, wide)
def test_each_kind_starts_first_come_first_served(lengths: list[int], most: int) -> None:
    scheduler, waiting = queued(lengths, most)
    order: list[bytes] = []
    while turns := scheduler.next_pass():
        order += [turn.session for turn in turns if turn.session not in order]
    for short in (True, False):
        kind = [session for session, rows in waiting.items() if (rows <= SHORT_ROWS) is short]
        assert [session for session in order if session in kind] == kind


@given(lengths, wide)
def test_a_long_turn_that_was_cut_ends_before_the_next_long_one_begins(lengths: list[int], most: int) -> None:
    scheduler, waiting = queued(lengths, most)
    left = dict(waiting)
    while turns := scheduler.next_pass():
        for turn in turns:
            left[turn.session] -= turn.rows
        begun = [each for each in waiting if 0 < left[each] < waiting[each]]
        assert len(begun) <= 1


@given(st.integers(1, 40), st.integers(100, 5000), wide)
def test_a_long_prompt_does_not_hold_up_decoding(sessions: int, prompt: int, most: int) -> None:
    scheduler = Scheduler(most)
    scheduler.ready(b"prompt", prompt)
    for i in range(sessions):
        scheduler.ready(b"%d" % i, 1)
    turns: list[Turn] = []
    for _ in range(-(-sessions // (most - most // 4))):
        turns = scheduler.next_pass()
    assert Turn(b"%d" % (sessions - 1), 1) in turns


@given(wide, st.integers(9, 2000))
def test_decoding_does_not_starve_a_prompt(most: int, prompt: int) -> None:
    scheduler = Scheduler(most)
    left, passes = prompt, 0
    scheduler.ready(b"prompt", left)
    while left > 0:
        passes += 1
        for i in range(2 * most):  # more decode steps than ever fit
            scheduler.ready(b"%d" % i, 1)
        ran = {turn.session: turn.rows for turn in scheduler.next_pass()}
        assert ran.get(b"prompt", 0) >= min(left, most // 4) or left <= SHORT_ROWS
        left -= ran.get(b"prompt", 0)
        scheduler.ready(b"prompt", left)
    assert passes <= -(-prompt // (most // 4)) + 3


def test_what_waits_keeps_its_place_when_more_becomes_ready() -> None:
    scheduler = Scheduler(32)
    for session in (b"a", b"b"):
        scheduler.ready(session, 20)
    scheduler.ready(b"a", 24)
    assert scheduler.next_pass() == [Turn(b"a", 24), Turn(b"b", 8)]
    assert scheduler.next_pass() == [Turn(b"b", 12)]


def test_a_session_that_has_nothing_ready_any_more_does_not_run() -> None:
    scheduler = Scheduler(64)
    for session, rows in ((b"a", 1), (b"b", 100), (b"c", 1)):
        scheduler.ready(session, rows)
    scheduler.ready(b"a", 0)
    scheduler.ready(b"b", 0)
    scheduler.ready(b"unknown", 0)
    assert scheduler.next_pass() == [Turn(b"c", 1)]
    assert scheduler.next_pass() == []


def test_a_pass_without_room_is_refused() -> None:
    assert Scheduler(1).next_pass() == []
    with pytest.raises(ValueError, match="too few"):
        Scheduler(0)
