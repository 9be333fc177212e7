"""What a leg keeps of what it sent: whole or not at all, within bounds, and never rows that it took back."""

from __future__ import annotations

import random

import pytest

from node.pipeline.serving.trail import Trails

ROW = 4


def rows(*values: int) -> bytes:
    return b"".join(value.to_bytes(ROW, "little") for value in values)


def test_what_was_sent_can_be_sent_again() -> None:
    trail = Trails().begin(ROW)
    trail.append(0, rows(1, 2, 3))
    trail.append(3, rows(4))
    assert trail.whole == 4
    assert trail.rows(0, 4) == rows(1, 2, 3, 4)
    assert trail.rows(2, 3) == rows(3)
    assert trail.rows(4, 4) == b""
    assert trail.rows(3, 5) is None
    assert trail.rows(-1, 2) is None


def test_rows_that_were_taken_back_are_gone() -> None:
    trail = Trails().begin(ROW)
    trail.append(0, rows(1, 2, 3))
    trail.append(1, rows(8))
    assert trail.rows(0, 2) == rows(1, 8)
    assert trail.rows(0, 3) is None
    trail.cut(1)
    trail.cut(5)
    assert trail.rows(0, 1) == rows(1)
    assert trail.whole == 1


def test_behind_a_gap_nothing_is_kept_until_it_begins_anew() -> None:
    trail = Trails().begin(ROW)
    trail.append(0, rows(1))
    trail.append(2, rows(3))
    assert trail.whole == 0
    trail.append(1, rows(2))
    assert trail.rows(0, 1) is None
    trail.append(0, rows(5))
    assert trail.rows(0, 1) == rows(5)


def test_one_that_outgrows_its_bound_is_lost() -> None:
    trails = Trails(most_of_session=3 * ROW)
    trail = trails.begin(ROW)
    trail.append(0, rows(1, 2, 3))
    assert trail.whole == 3
    trail.append(3, rows(4))
    assert trail.whole == 0
    trail.append(4, rows(5))
    assert (trail.size, trails.size) == (0, 0)


def test_those_of_sessions_that_are_over_are_lost_first_and_then_the_longest() -> None:
    trails = Trails(most_of_all=10 * ROW)
    long, short, older, newer = (trails.begin(ROW) for _ in range(4))
    for trail, count in ((long, 3), (short, 1), (older, 3), (newer, 3)):
        trail.append(0, rows(*range(count)))
    trails.rest(older)
    trails.rest(newer)
    short.append(1, rows(9))
    assert [each.whole for each in (long, short, older, newer)] == [3, 2, 0, 3]
    short.append(2, rows(9, 9, 9))
    assert [each.whole for each in (long, short, newer)] == [3, 5, 0]
    long.append(3, rows(9, 9))
    assert trails.size == 10 * ROW
    long.append(5, rows(9))
    assert [each.whole for each in (long, short)] == [0, 5]


def test_one_that_is_woken_is_not_the_first_to_go() -> None:
    trails = Trails(most_of_all=4 * ROW)
    woken, other = trails.begin(ROW), trails.begin(ROW)
    woken.append(0, rows(1))
    other.append(0, rows(1))
    trails.rest(woken)
    trails.rest(other)
    trails.wake(woken)
    woken.append(1, rows(2, 3, 4))
    assert [woken.whole, other.whole] == [4, 0]


def test_all_room_comes_back() -> None:
    trails = Trails()
    for _ in range(100):
        trail = trails.begin(ROW)
        trail.append(0, rows(1, 2))
        trails.rest(trail)
        trails.end(trail)
        trails.end(trail)
    assert (trails.size, len(trails)) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_there_is_what_was_written_last(seed: int) -> None:
    dice = random.Random(seed)
    trails = Trails(most_of_session=40 * ROW, most_of_all=100 * ROW)
    kept = {trails.begin(ROW): [] for _ in range(5)}
    for step in range(2000):
        trail, written = dice.choice(list(kept.items()))
        at = dice.choice([len(written), dice.randint(0, len(written))])
        if dice.random() < 0.1:
            trail.cut(at)
            del written[at:]
        else:
            new = [step] * dice.randint(1, 5)
            trail.append(at, rows(*new))
            written[at:] = new
        for each, what in kept.items():
            assert each.whole in (0, len(what))
            assert each.rows(0, each.whole) == rows(*what[: each.whole])
        assert trails.size == sum(each.size for each in kept) <= 100 * ROW
