"""Every pass is within bounds, nothing is lost or reordered, nobody waits for ever, and clients share alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.pipeline.serving.fair_queue import Customer, FairQueue
from node.pipeline.serving.limits import ProviderLimits
from node.pipeline.serving.pace import LEAST_ROWS, Pace
from node.pipeline.serving.scheduler import LIVE_US, QUANTUM, SHORT_ROWS, Scheduler, Turn

A, B, C = (Customer(bytes([name]) * 20, True) for name in (1, 2, 3))
STEP_US, ROW_US = 60_000, 2_000
BESIDE = 2 * STEP_US // ROW_US
"""Rows that fit beside answers at a stretch of 3."""


def pace(row_us: int = ROW_US, step_us: int = STEP_US, stretch: int = 3) -> Pace:
    return Pace(ProviderLimits(stretch=stretch), row_us=row_us, step_us=step_us)


@dataclass
class Load:
    """Sessions of some clients: who has how many rows of what kind."""

    customers: dict[bytes, Customer] = field(default_factory=dict)
    rows: dict[bytes, int] = field(default_factory=dict)
    answering: dict[bytes, bool] = field(default_factory=dict)

    def add(self, customer: Customer, rows: int, answering: bool) -> bytes:
        session = len(self.rows).to_bytes(4, "big")
        self.customers[session], self.rows[session], self.answering[session] = customer, rows, answering
        return session

    def offer(self, scheduler: Scheduler) -> None:
        for session, rows in self.rows.items():
            scheduler.ready(session, rows, self.customers[session], answering=self.answering[session])

    def run(self, turns: list[Turn]) -> None:
        for turn in turns:
            assert turn.rows > 0
            self.rows[turn.session] -= turn.rows
            assert self.rows[turn.session] >= 0


clients = st.integers(0, 4).map(lambda number: Customer(bytes([number]) * 20, number % 2 == 0))
answers = st.tuples(clients, st.integers(1, 4), st.just(True))
prompts = st.tuples(clients, st.integers(1, 300), st.just(False))
caught_up = st.tuples(clients, st.integers(SHORT_ROWS + 1, 300), st.just(True))
loads = st.lists(st.one_of(answers, prompts, caught_up), max_size=25)
bounds = st.integers(2, 200)
paces = st.builds(
    pace, st.integers(1, 100_000), st.integers(1, 1_000_000), st.one_of(st.just(0), st.just(3), st.integers(1, 9))
)


def loaded(items: list[tuple[Customer, int, bool]]) -> Load:
    load = Load()
    for item in items:
        load.add(*item)
    return load


@given(loads, bounds, paces)
@settings(deadline=None)
def test_all_rows_run_once_within_the_bounds_and_no_pass_is_empty_while_any_wait(
    items: list[tuple[Customer, int, bool]], most: int, at: Pace
) -> None:
    load, scheduler = loaded(items), Scheduler(most, at)
    load.offer(scheduler)
    assert len(scheduler) == len(load.rows)
    while len(scheduler):
        turns = scheduler.next_pass(0)
        assert turns
        assert sum(turn.rows for turn in turns) <= most
        assert len({turn.session for turn in turns}) == len(turns)
        load.run(turns)
    assert scheduler.next_pass(0) == []
    assert not any(load.rows.values())


@given(loads, bounds, paces)
@settings(deadline=None)
def test_beside_answers_prompts_get_what_the_pass_has_time_for(
    items: list[tuple[Customer, int, bool]], most: int, at: Pace
) -> None:
    load, scheduler = loaded(items), Scheduler(most, at)
    load.offer(scheduler)
    while turns := scheduler.next_pass(0):
        beside = scheduler.answering(0)
        rows = sum(turn.rows for turn in turns if not load.answering[turn.session] or turn.rows > SHORT_ROWS)
        bound = at.rows_beside if beside else at.rows_alone
        assert bound is None or rows <= bound


def test_an_answer_on_its_way_round_the_ring_is_waited_for_and_one_that_is_over_is_not() -> None:
    scheduler = Scheduler(512, pace())

    def prompt_rows(now_us: int) -> int:
        scheduler.ready(b"prompt", 5000, B, answering=False)
        return sum(turn.rows for turn in scheduler.next_pass(now_us) if turn.session == b"prompt")

    assert prompt_rows(0) == 500  # a second of it
    scheduler.ready(b"answer", 1, A, answering=True)
    assert prompt_rows(0) == BESIDE
    assert prompt_rows(LIVE_US) == BESIDE
    assert prompt_rows(LIVE_US + 1) == 500
    scheduler.ready(b"answer", 1, A, answering=True)
    assert prompt_rows(LIVE_US + 2) == BESIDE
    scheduler.end(b"answer")
    assert prompt_rows(LIVE_US + 2) == 500


@given(loads, bounds, paces)
@settings(deadline=None)
def test_sessions_of_one_client_start_in_the_order_in_which_they_came(
    items: list[tuple[Customer, int, bool]], most: int, at: Pace
) -> None:
    load, scheduler = loaded(items), Scheduler(most, at)
    load.offer(scheduler)
    order: list[bytes] = []
    short = min(SHORT_ROWS, most - max(1, most // 4))
    while turns := scheduler.next_pass(0):
        order += [turn.session for turn in turns if turn.session not in order]
    for customer in set(load.customers.values()):
        for first in (True, False):
            kind = [
                session
                for session, (whose, rows, answering) in zip(load.rows, items, strict=True)
                if whose == customer and (answering and rows <= short) is first
            ]
            assert [session for session in order if session in kind] == kind


@given(st.integers(1, 40), st.integers(2, 200), paces)
@settings(deadline=None)
def test_answers_go_first_and_no_prompt_holds_them_up(sessions: int, most: int, at: Pace) -> None:
    scheduler, load = Scheduler(most, at), Load()
    load.add(B, 10**6, False)
    waiting = [load.add(A, 1, True) for _ in range(sessions)]
    load.offer(scheduler)
    room = most - max(1, most // 4)
    for _ in range(-(-sessions // room)):
        turns = scheduler.next_pass(0)
        load.run(turns)
        assert any(turn.session not in waiting for turn in turns)
    assert not any(load.rows[session] for session in waiting)


@given(
    st.lists(st.tuples(clients, st.booleans()), min_size=1, max_size=5), st.integers(32, 64), paces, st.integers(1, 32)
)
@settings(deadline=None)
def test_every_session_runs_within_a_bounded_number_of_passes(
    sessions: list[tuple[Customer, bool]], most: int, at: Pace, rows: int
) -> None:
    """However much the others always have ready."""
    load, scheduler = Load(), Scheduler(most, at)
    for customer, answering in sessions:
        load.add(customer, 0, answering)
    waited: Counter[bytes] = Counter()
    chunk = {session: 1 if answering else rows for session, answering in load.answering.items()}
    # A round serves each client a quantum, those that never paid up to as many times later as there are clients.
    bound = 2 + len(sessions) ** 2 * -(-(rows + QUANTUM) // LEAST_ROWS)
    for _ in range(bound + 10):
        for session, left in load.rows.items():
            if left == 0:
                load.rows[session] = chunk[session]
        load.offer(scheduler)
        turns = scheduler.next_pass(0)
        load.run(turns)
        ran = {turn.session for turn in turns}
        for session in load.rows:
            waited[session] = 0 if session in ran else waited[session] + 1
            assert waited[session] <= bound


@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 100), st.booleans(), st.integers(1, 400))
@settings(deadline=None)
def test_two_clients_are_served_alike_whatever_the_number_of_their_sessions(
    mine: int, others: int, most: int, answering: bool, rows: int
) -> None:
    """To within a quantum, at every moment while both have something ready: their answers, or their prompts."""
    load, scheduler = Load(), Scheduler(most, pace())
    rows = 1 if answering else rows
    enough = most  # so that neither is ever out of rows
    for customer, count in ((A, mine), (B, others)):
        for _ in range(max(count, enough) if answering else count):
            load.add(customer, 0, answering)
    had: Counter[Customer] = Counter()
    quantum = 1 if answering else QUANTUM
    for _ in range(40):
        for session in load.rows:
            load.rows[session] = rows if answering else 10**6
        load.offer(scheduler)
        for turn in scheduler.next_pass(0):
            had[load.customers[turn.session]] += turn.rows
        assert abs(had[A] - had[B]) <= quantum


@given(st.integers(1, 5), st.integers(0, 40), st.integers(1, 20))
@settings(deadline=None)
def test_new_keys_together_get_no_more_than_those_who_have_paid(known: int, guests: int, passes: int) -> None:
    queue, had = FairQueue(QUANTUM), Counter[bool]()
    payers = [Customer(bytes([1, number]) * 10, True) for number in range(known)]
    strangers = [Customer(bytes([2, number]) * 10, False) for number in range(guests)]
    for _ in range(passes * 10):
        for customer in (*payers, *strangers):
            queue.put(customer.address, 10**6, customer)
        for turn in queue.take(QUANTUM * known):
            had[turn.session[0] == 1] += turn.rows
    assert had[False] <= had[True] + QUANTUM * known
    if guests:
        assert had[False] * known + QUANTUM * known * (guests + 1) >= had[True] * min(known, guests)


@given(st.integers(1, 60), st.integers(1, 50))
@settings(deadline=None)
def test_who_stays_away_saves_nothing_up_and_loses_nothing(away: int, later: int) -> None:
    queue, had = FairQueue(QUANTUM), Counter[bytes]()
    for step in range(away + later):
        present = (A, B) if step < away else (A, B, C)
        for customer in present:
            queue.put(customer.address, 10**6, customer)
        for turn in queue.take(QUANTUM):
            if step >= away:
                had[turn.session] += turn.rows
    assert max(had[each.address] for each in (A, B, C)) - min(had[each.address] for each in (A, B, C)) <= 2 * QUANTUM


def test_what_waits_keeps_its_place_when_more_becomes_ready() -> None:
    scheduler = Scheduler(32, pace())
    for session in (b"a", b"b"):
        scheduler.ready(session, 20, A, answering=False)
    scheduler.ready(b"a", 24, A, answering=False)
    assert scheduler.next_pass(0) == [Turn(b"a", 24), Turn(b"b", 8)]
    assert scheduler.next_pass(0) == [Turn(b"b", 12)]


def test_a_session_that_has_nothing_ready_any_more_does_not_run() -> None:
    scheduler = Scheduler(64, pace())
    for session, rows in ((b"a", 1), (b"b", 100), (b"c", 1)):
        scheduler.ready(session, rows, A, answering=rows == 1)
    scheduler.ready(b"a", 0, A, answering=True)
    scheduler.ready(b"b", 0, A, answering=False)
    scheduler.ready(b"unknown", 0, A, answering=False)
    assert scheduler.next_pass(0) == [Turn(b"c", 1)]
    assert scheduler.next_pass(0) == []


def test_a_session_goes_from_prompt_to_answer_and_back() -> None:
    scheduler = Scheduler(64, pace())
    scheduler.ready(b"a", 40, A, answering=False)
    scheduler.ready(b"a", 1, A, answering=True)
    assert (len(scheduler), scheduler.next_pass(0)) == (1, [Turn(b"a", 1)])
    assert scheduler.answering(0)
    scheduler.ready(b"a", 0, A, answering=False)
    assert not scheduler.answering(0)


def test_a_pass_without_room_for_both_kinds_is_refused() -> None:
    assert Scheduler(2, pace()).next_pass(0) == []
    with pytest.raises(ValueError, match="too few"):
        Scheduler(1, pace())


# What passes take


def test_the_measured_times_follow_the_passes() -> None:
    at = pace(row_us=1, step_us=1)
    for _ in range(200):
        at.took(8, 0, STEP_US)
        at.took(8, 100, STEP_US + 100 * ROW_US)
    assert (at.step_us, at.row_us, at.rows_beside) == (STEP_US, ROW_US, BESIDE)
    assert at.rows_alone == 500
    assert at.prompt_row_us(beside=False) == ROW_US
    assert at.prompt_row_us(beside=True) == ROW_US + STEP_US // BESIDE


@given(st.lists(st.tuples(st.integers(0, 64), st.integers(0, 512), st.integers(0, 10**9)), max_size=50), paces)
@settings(deadline=None)
def test_no_pass_makes_a_figure_impossible(passes: list[tuple[int, int, int]], at: Pace) -> None:
    for each in passes:
        before = at.step_us, at.row_us
        at.took(*each)
        for old, new in zip(before, (at.step_us, at.row_us), strict=True):
            assert 1 <= new <= 2 * old  # one stall is no trend
        assert at.rows_beside is None or at.rows_beside >= LEAST_ROWS
        assert at.rows_alone >= LEAST_ROWS


def test_without_a_stretch_there_is_no_bound_beside_answers() -> None:
    assert pace(stretch=0).rows_beside is None
    assert pace(stretch=1).rows_beside == LEAST_ROWS
    scheduler = Scheduler(512, pace(stretch=0))
    scheduler.ready(b"answer", 1, A, answering=True)
    scheduler.ready(b"prompt", 5000, B, answering=False)
    assert [turn.rows for turn in scheduler.next_pass(0)] == [1, 511]
