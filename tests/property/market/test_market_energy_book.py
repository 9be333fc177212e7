"""The books of a node's energy balance after anything that can happen, and no session is told less than before."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.energy.energy_book import EnergyBook, Window
from protocol.energy.energy_shares import NOBODY, Roofline, Weights, Worked, idle_part, marginal_of, shares
from protocol.energy.shared_counter import AWAY_US, CounterBook, note

SESSIONS = [bytes([each]) * 32 for each in range(4)]
WEIGHTS = st.lists(st.integers(0, 10**9), min_size=1, max_size=8).filter(any)


@given(st.integers(-(10**15), 10**15), WEIGHTS)
def test_parts_sum_up_to_the_whole_and_are_within_one_of_exact(total: int, weights: list[int]) -> None:
    parts = shares(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(total * weight, sum(weights))) < 1 + Fraction(1, 10**9)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[int, int, int, int | None]:
    us = draw(st.integers(1, 10**9))
    return draw(st.integers(0, 10**13)), us, draw(st.integers(0, us)), draw(st.none() | st.integers(0, 2 * 10**9))


@given(st.lists(stretches(), min_size=1, max_size=20))
@settings(max_examples=at_length(30), deadline=None)
def test_idle_energy_is_a_part_of_what_was_counted_on_ints_and_arrays(
    rows: list[tuple[int, int, int, int | None]],
) -> None:
    for energy, us, busy, idle in rows:
        part = idle_part(energy, us, busy, idle)
        exact = Fraction(energy * (us - busy), us) if idle is None else min(Fraction(idle * (us - busy), 10**6), energy)
        assert 0 <= part <= energy
        assert abs(part - exact) <= 1
    known = [(energy, us, busy, idle) for energy, us, busy, idle in rows if idle is not None]
    if known:
        columns = [np.array(each, dtype=np.int64) for each in zip(*known, strict=True)]
        assert idle_part(*columns).tolist() == [idle_part(*row) for row in known]
    columns = [np.array(each, dtype=np.int64) for each in list(zip(*rows, strict=True))[:3]]
    assert idle_part(*columns, None).tolist() == [idle_part(*row[:3], None) for row in rows]


works = st.builds(
    Worked, st.sampled_from([*SESSIONS, NOBODY]), st.integers(0, 500), st.integers(0, 500), st.integers(1, 80)
)
steps = st.one_of(
    st.tuples(st.just("record"), st.lists(works, max_size=4)),
    st.tuples(st.just("tell"), st.sampled_from(SESSIONS)),
    st.tuples(st.just("end"), st.sampled_from(SESSIONS)),
    st.tuples(
        st.just("close"),
        st.builds(
            Window,
            microjoules=st.none() | st.integers(0, 10**10),
            us=st.just(10**7),
            busy_us=st.integers(0, 10**7),
            passes=st.integers(0, 100),
        ),
    ),
)


@given(st.lists(steps, max_size=60), st.none() | st.integers(1, 10**12))
@settings(max_examples=at_length(60), deadline=None)
def test_the_books_balance_whatever_happens(happened: list[tuple[str, object]], rate: int | None) -> None:
    book = EnergyBook(Weights(prompt=3, generated=40), rate=rate)
    told: dict[bytes, int | None] = {}
    over: set[bytes] = set()
    final = counted = 0
    for what, value in happened:
        match what, value:
            case "record", list():
                book.record([each._replace(session=NOBODY) if each.session in over else each for each in value])
            case (("tell" | "end"), bytes()) if value not in over:
                before = told.get(value, 0)
                said = told[value] = book.tell(value) if what == "tell" else book.end(value)
                assert said is None or (before is not None and said >= before), "nothing is taken back"
                if what == "end":
                    over.add(value)
                    final += said or 0
            case "close", Window():
                book.close(value)
                counted += value.microjoules or 0
        assert book.measured == counted
        balance = book.idle + book.told + book.untold + book.carried + book.running
        assert book.measured + book.estimated == balance
    book.close(Window(microjoules=None, us=1, busy_us=0, passes=0))
    assert book.told <= final * 1000


PASSES = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 64)), max_size=9)


@given(st.integers(1, 10**6), st.integers(1, 10**5), PASSES)
@settings(max_examples=at_length(30), deadline=None)
def test_a_slope_is_found_where_batches_differ_and_none_where_they_do_not(
    each: int, fixed: int, windows: list[tuple[int, int]]
) -> None:
    rows = [(passes, passes * batch, passes * fixed + passes * batch * each) for passes, batch in windows]
    found = marginal_of(rows)
    if len({batch for _, batch in windows}) < 2:
        assert found is None
    elif found is not None:
        assert found == each


def test_a_roofline_is_the_longer_of_arithmetic_and_memory() -> None:
    roofline = Roofline(milliwatts=400_000, mflop_per_s=312_000_000, kb_per_s=2_039_000_000)
    size = {"parameters": 70_000_000_000, "weight_bytes": 140_000_000_000}
    memory_us = Fraction(140_000_000_000, 2_039_000)
    assert abs(roofline.microjoules(1, **size) - memory_us * 400) <= 400
    arithmetic_us = Fraction(2 * 70_000_000_000 * 4096, 312_000_000)
    assert abs(roofline.microjoules(4096, **size) - arithmetic_us * 400) <= 400
    rows = np.array([1, 64, 4096], dtype=np.int64)
    assert roofline.microjoules(rows, **size).tolist() == [roofline.microjoules(int(each), **size) for each in rows]


# One counter, several nodes


@st.composite
def readings(draw: st.DrawFn) -> list[tuple[str, int, int, int]]:
    """Who reads when, how much was counted since, and how much time it has used since."""
    return draw(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 3 * 10**6), st.integers(0, 10**9), st.integers(0, 10**9)),
            max_size=40,
        )
    )


@given(readings())
@settings(max_examples=at_length(30), deadline=None)
def test_what_nodes_have_of_a_counter_sums_up_to_what_it_counted(happened: list[tuple[str, int, int, int]]) -> None:
    book: CounterBook | None = None
    at = value = gone = first = 0
    used = dict.fromkeys("abc", 0)
    for who, passed, counted, worked in happened:
        at, value, used[who] = at + passed, value + counted, used[who] + worked
        before = book
        book = note(book, at_us=at, value=value, is_power=False, who=who, work_ns=used[who])
        was = None if before is None else before.parties.get(who)
        joined = book.parties[who].joined_us == at and (was is None or was.joined_us != at)
        if joined and len(book.parties) == 1 and not book.parties[who].noted:
            first, gone = value, 0  # nobody was there before
        elif before is not None:
            kept = {name: each.joined_us for name, each in book.parties.items()}
            gone += sum(each.uj for name, each in before.parties.items() if kept.get(name) != each.joined_us)
        assert gone + book.pool_uj + sum(each.uj for each in book.parties.values()) == value - first
        assert all(each.seen_us + AWAY_US >= at for each in book.parties.values())
        assert book.gaps == 0


def test_a_part_is_as_large_as_the_time_that_was_used() -> None:
    book = None
    for second in range(0, 61):
        for offset, who, share in ((0, "a", 3), (300_000, "b", 1)):
            book = note(
                book,
                at_us=second * 1_000_000 + offset,
                value=200 * (second * 1_000_000 + offset),
                is_power=False,
                who=who,
                work_ns=second * share * 100_000_000,
            )
    assert book is not None
    a, b = book.parties["a"].uj, book.parties["b"].uj
    assert abs(a / (a + b) - 0.75) < 0.02
    assert a + b + book.pool_uj == 60_300_000 * 200


def test_power_is_integrated_and_what_was_not_read_is_not_known() -> None:
    book = note(None, at_us=0, value=100_000_000, is_power=True, who="a", work_ns=0)
    book = note(book, at_us=1_000_000, value=300_000_000, is_power=True, who="a", work_ns=1)
    assert (book.parties["a"].uj, book.gaps) == (200_000_000, 0)
    book = note(book, at_us=1_000_000 + AWAY_US, value=300_000_000, is_power=True, who="a", work_ns=1)
    assert book.parties["a"].uj == 200_000_000 + 300_000_000 * AWAY_US // 10**6
    later = note(book, at_us=2_000_001 + 2 * AWAY_US, value=300_000_000, is_power=True, who="a", work_ns=1)
    assert later.parties["a"].joined_us == later.at_us
    assert sum(each.uj for each in later.parties.values()) == 0, "nobody knows what it used meanwhile"


def test_a_counter_that_goes_back_or_leaps_is_a_gap() -> None:
    book = note(None, at_us=0, value=1_000, is_power=False, who="a", work_ns=0)
    back = note(book, at_us=1_000_000, value=999, is_power=False, who="a", work_ns=0)
    assert (back.gaps, back.pool_uj, back.value) == (1, 0, 999)
    most = {"most_uw": 500_000_000, "step_uj": 1_000}
    reached = 1_000 + 3 * 500_000_000 + 2 * 1_000
    same = note(book, at_us=1_000_000, value=reached, is_power=False, who="a", work_ns=0, **most)
    assert (same.gaps, same.parties["a"].uj) == (0, reached - 1_000)
    leapt = note(book, at_us=1_000_000, value=reached + 1, is_power=False, who="a", work_ns=0, **most)
    assert (leapt.gaps, leapt.parties["a"].uj) == (1, 0)
    anew = note(back, at_us=5, value=7, is_power=False, who="a", work_ns=0)
    assert (anew.gaps, anew.at_us, set(anew.parties)) == (1, 5, {"a"}), "the machine was started anew"
