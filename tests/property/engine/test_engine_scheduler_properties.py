"""Every pass is within bounds, nothing is lost or reordered, and nobody waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.engine.scheduler import SHORT_ROWS, Item, Scheduler

lengths = st.lists(st.one_of(st.just(1), st.integers(1, SHORT_ROWS), st.integers(1, 300)), max_size=40)
bounds = st.integers(4 * SHORT_ROWS, 200)


def queued(lengths: list[int], most: int) -> tuple[Scheduler, list[Item]]:
    items = [Item(bytes([i]), 10 * i, length) for i, length in enumerate(lengths)]
    scheduler = Scheduler(most)
    for item in items:
        scheduler.add(item)
    return scheduler, items


@given(lengths, bounds)
def test_all_rows_run_once_in_order_within_the_bound(lengths: list[int], most: int) -> None:
    scheduler, items = queued(lengths, most)
    assert len(scheduler) == len(items)
    ran: dict[bytes, list[int]] = {item.session: [] for item in items}
    while batch := scheduler.next_batch():
        assert sum(piece.length for piece in batch) <= most
        assert len({piece.session for piece in batch}) == len(batch)
        for piece in batch:
            assert piece.length > 0
            ran[piece.session].extend(range(piece.position, piece.position + piece.length))
    assert len(scheduler) == 0
    for item in items:
        assert ran[item.session] == list(range(item.position, item.position + item.length))


@given(lengths, bounds)
def test_each_kind_starts_first_come_first_served(lengths: list[int], most: int) -> None:
    scheduler, items = queued(lengths, most)
    order: list[bytes] = []
    while batch := scheduler.next_batch():
        order += [piece.session for piece in batch if piece.session not in order]
    for short in (True, False):
        kind = [item.session for item in items if (item.length <= SHORT_ROWS) is short]
        assert [session for session in order if session in kind] == kind


@given(lengths, bounds)
def test_a_long_item_that_was_cut_ends_before_the_next_begins(lengths: list[int], most: int) -> None:
    scheduler, items = queued(lengths, most)
    ends: list[bytes] = []
    total = {item.session: item.position + item.length for item in items}
    while batch := scheduler.next_batch():
        ends += [piece.session for piece in batch if piece.position + piece.length == total[piece.session]]
    long = [item.session for item in items if item.length > SHORT_ROWS]
    assert [session for session in ends if session in long] == long


@given(st.integers(1, 40), st.integers(100, 5000), bounds)
def test_a_long_prompt_does_not_hold_up_decoding(sessions: int, prompt: int, most: int) -> None:
    scheduler = Scheduler(most)
    scheduler.add(Item(b"prompt", 0, prompt))
    for i in range(sessions):
        scheduler.add(Item(b"%d" % i, 50, 1))
    share = most - most // 4
    for _ in range(-(-sessions // share)):
        waiting = scheduler.next_batch()
    assert b"%d" % (sessions - 1) in {piece.session for piece in waiting}


@given(bounds, st.integers(9, 2000))
def test_decoding_does_not_starve_a_prompt(most: int, prompt: int) -> None:
    scheduler = Scheduler(most)
    scheduler.add(Item(b"prompt", 0, prompt))
    passes = 0
    while True:
        passes += 1
        for i in range(2 * most):  # more decode steps than ever fit
            scheduler.add(Item(b"%d" % i, 50, 1))
        batch = scheduler.next_batch()
        last = batch[-1]
        assert last.session == b"prompt"
        if last.position + last.length == prompt:
            break
        assert last.length >= most // 4
    assert passes <= -(-prompt // (most // 4))


def test_a_dropped_session_does_not_run() -> None:
    scheduler = Scheduler(64)
    for name, length in ((b"a", 1), (b"b", 100), (b"c", 1)):
        scheduler.add(Item(name, 0, length))
    scheduler.drop(b"a")
    scheduler.drop(b"b")
    scheduler.drop(b"unknown")
    assert scheduler.next_batch() == [Item(b"c", 0, 1)]


def test_a_bound_too_small_to_share_is_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        Scheduler(4 * SHORT_ROWS - 1)
