"""When answers are held back so that others catch up with them: on a crowded machine, seldom, and not for long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from crowded_ring import tokens_a_second

from node.core_wait import core_wait_ns
from node.pipeline.serving.gathering import PASSES, Gathering

PASS_US = 10_000


def crowded(kept_us: int = 4_000, passes: int = PASSES) -> Gathering:
    gathering = Gathering()
    for _ in range(passes):
        gathering.passed(PASS_US, kept_us)
    return gathering


def test_a_small_group_waits_until_others_have_come() -> None:
    gathering = crowded()
    assert gathering.hold_us(0, ready=2, live=8, pass_us=PASS_US) == 15_000
    assert gathering.hold_us(6_000, ready=3, live=8, pass_us=PASS_US) == 9_000
    assert gathering.hold_us(8_000, ready=4, live=8, pass_us=PASS_US) == 0
    assert gathering.hold_us(8_001, ready=2, live=8, pass_us=PASS_US) == 0  # it has just been done


def test_it_does_not_wait_for_what_does_not_come() -> None:
    gathering = crowded()
    assert gathering.hold_us(0, ready=2, live=8, pass_us=PASS_US)
    assert gathering.hold_us(15_000, ready=2, live=8, pass_us=PASS_US) == 0
    for _ in range(PASSES - 1):
        gathering.passed(PASS_US, 4_000)
        assert gathering.hold_us(30_000, ready=2, live=8, pass_us=PASS_US) == 0
    gathering.passed(PASS_US, 4_000)
    assert gathering.hold_us(30_000, ready=2, live=8, pass_us=PASS_US)


@pytest.mark.parametrize(("ready", "live"), [(1, 1), (1, 2), (4, 8), (8, 8), (0, 8), (1, 0)])
def test_nobody_waits_where_there_are_two_groups_or_one(ready: int, live: int) -> None:
    assert crowded().hold_us(0, ready=ready, live=live, pass_us=PASS_US) == 0


def test_nobody_waits_where_cores_are_free_or_little_is_known() -> None:
    assert crowded(kept_us=1_000).hold_us(0, ready=2, live=8, pass_us=PASS_US) == 0
    assert crowded(passes=PASSES - 1).hold_us(0, ready=2, live=8, pass_us=PASS_US) == 0


def test_the_system_says_how_long_each_thread_was_kept_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [core_wait_ns()]
    thread = threading.Thread(target=lambda: found.append(core_wait_ns()))
    thread.start()
    thread.join()
    assert min(found) >= 0
    assert found[0] <= core_wait_ns()
    monkeypatch.setattr("node.core_wait._FIGURES", Path("/nowhere"))
    assert core_wait_ns() == 0


@pytest.mark.parametrize(("legs", "cores", "streams"), [(3, 2, 8), (3, 2, 16), (4, 2, 8), (3, 1, 8), (6, 2, 8)])
def test_legs_that_share_cores_gain_a_seventh_at_least(legs: int, cores: int, streams: int) -> None:
    alone, together = (tokens_a_second(legs, cores, streams, gathers=each) for each in (False, True))
    assert together > 1.15 * alone


@pytest.mark.parametrize(("legs", "cores", "streams"), [(3, 3, 8), (4, 4, 16), (2, 2, 8), (3, 2, 1)])
def test_legs_with_cores_of_their_own_lose_nothing(legs: int, cores: int, streams: int) -> None:
    alone, together = (tokens_a_second(legs, cores, streams, gathers=each) for each in (False, True))
    assert together == alone
