"""Sums of a journal: exact whatever the jobs were, and silent about what nobody knows."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from protocol.reputation.standing import DAY_S
from protocol.serving.earnings import Books, Grouping, JobRecord, PayoutRecord, books_of

MONEY = st.integers(0, 2**62)
MICRO_KWH = 1000 * 3_600_000_000


@st.composite
def jobs(draw: st.DrawFn) -> JobRecord:
    begun = draw(st.integers(0, 20 * DAY_S))
    return JobRecord(
        session=draw(st.binary(min_size=32, max_size=32)),
        client=draw(st.sampled_from([b"a" * 20, b"b" * 20])),
        leg=draw(st.integers(0, 7)),
        model=draw(st.sampled_from([b"m" * 32, b"n" * 32])),
        model_name=draw(st.sampled_from(["one", "two"])),
        blocks="0:6",
        begun_at=begun,
        ended_at=draw(st.none() | st.integers(begun, 21 * DAY_S)),
        outcome="served",
        tokens_in=draw(st.integers(0, 2**24)),
        tokens_out=draw(st.integers(0, 2**24)),
        rows=draw(st.integers(0, 2**25)),
        millijoules=draw(st.none() | st.integers(0, 2**50)),
        source="wall",
        energy_price=draw(st.integers(0, 25_000_000)),
        pue_milli=draw(st.integers(1_000, 10_000)),
        earned=draw(MONEY),
        paid=draw(MONEY),
        fees=draw(st.integers(0, 1000)),
        entry=None,
        paid_at=None,
        closed=draw(st.booleans()),
    )


@st.composite
def payouts(draw: st.DrawFn) -> PayoutRecord:
    return PayoutRecord(
        at=draw(st.integers(0, 20 * DAY_S)),
        amount=draw(MONEY),
        fee=draw(st.integers(0, 1000)),
        to="cold",
        entry=draw(st.none() | st.just("7")),
    )


def summed(some: list[JobRecord], sent: list[PayoutRecord], by: Grouping, price: int | None = None) -> Books:
    return books_of(some, sent, by=by, day_name=lambda day: f"{day:05}", energy_price=price)


ALL = (st.lists(jobs(), max_size=30), st.lists(payouts(), max_size=5), st.sampled_from(Grouping))


@given(*ALL)
def test_the_rows_are_the_total_and_nothing_counts_twice(
    some: list[JobRecord], sent: list[PayoutRecord], by: Grouping
) -> None:
    books = summed(some, sent, by)
    for name in ("jobs", "tokens_in", "tokens_out", "gross", "outstanding", "fees", "unmeasured"):
        assert sum(getattr(row, name) for row in books.rows) == getattr(books.total, name)
    assert books.total.jobs == len(some)
    assert books.total.fees == sum(job.fees for job in some) + sum(each.fee for each in sent if each.entry)
    assert books.total.gross == sum(job.paid if job.closed else max(job.paid, job.earned) for job in some)
    assert len({row.key for row in books.rows}) == len(books.rows)


@given(*ALL)
def test_power_is_rounded_once_and_up(some: list[JobRecord], sent: list[PayoutRecord], by: Grouping) -> None:
    books = summed(some, sent, by)
    exact = sum(job.millijoules * job.pue_milli * job.energy_price for job in some if job.millijoules is not None)
    assert 0 <= books.total.measured_power_cost * MICRO_KWH - exact < MICRO_KWH
    excess = sum(row.measured_power_cost for row in books.rows) - books.total.measured_power_cost
    assert 0 <= excess <= max(0, len(books.rows) - 1)


@given(*ALL)
def test_what_is_not_known_is_not_nothing(some: list[JobRecord], sent: list[PayoutRecord], by: Grouping) -> None:
    for row in (*(books := summed(some, sent, by)).rows, books.total):
        assert (row.power_cost is None) is (row.net is None) is (row.unmeasured > 0)
        assert (row.millijoules is None) is (row.jobs > 0 and row.unmeasured == row.jobs)
        if row.net is not None:
            assert row.net == row.gross - row.fees - row.measured_power_cost


@given(*ALL, st.integers(0, 25_000_000))
def test_another_price_for_energy_changes_nothing_else(
    some: list[JobRecord], sent: list[PayoutRecord], by: Grouping, price: int
) -> None:
    books, other = summed(some, sent, by), summed(some, sent, by, price)
    exact = sum((job.millijoules or 0) * job.pue_milli for job in some) * price
    assert other.total.measured_power_cost == -(-exact // MICRO_KWH)
    assert (other.total.gross, other.total.fees) == (books.total.gross, books.total.fees)


@given(st.lists(jobs(), max_size=30))
def test_a_day_is_the_one_on_which_a_job_ended(some: list[JobRecord]) -> None:
    gross: dict[str, int] = defaultdict(int)
    for job in some:
        gross[f"{(job.begun_at if job.ended_at is None else job.ended_at) // DAY_S:05}"] += job.gross
    books = summed(some, [], Grouping.DAY)
    assert {row.key: row.gross for row in books.rows} == dict(gross)
    assert [row.key for row in books.rows] == sorted(gross)
