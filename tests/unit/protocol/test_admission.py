"""How long a new job would wait: its own client's rows, and of others as many as it is served itself meanwhile."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import RefusedError
from protocol.market.admission import MAX_RETRY_S, UNIT, Queued, charge, require_soon, wait_us

ME, OTHER, THIRD = (bytes([name]) * 20 for name in (1, 2, 3))
ROW_US = 1000
JOB = Queued(ME, True, 100)


def waits(*queued: Queued, job: Queued = JOB) -> int:
    """Rows that come first."""
    return wait_us(queued, job, 1)


def refused(queued: list[Queued], job: Queued = JOB, *, bound_us: int = 1_000_000) -> RefusedError:
    with pytest.raises(RefusedError) as error:
        require_soon(queued, job, row_us=ROW_US, bound_us=bound_us)
    assert error.value.code == "busy"
    return error.value


def test_nobody_waits_where_nothing_is_queued() -> None:
    assert waits() == 0
    require_soon([], JOB, row_us=10**6, bound_us=0)


def test_others_come_before_by_as_much_as_one_is_served_oneself() -> None:
    assert waits(Queued(OTHER, True, 4000)) == 100
    assert waits(Queued(OTHER, True, 40)) == 40
    assert waits(*[Queued(OTHER, True, 4000)] * 7) == 100  # however many sessions it has
    assert waits(Queued(OTHER, True, 4000), Queued(THIRD, True, 70)) == 170


def test_ones_own_sessions_come_in_order() -> None:
    assert waits(Queued(ME, True, 4000), Queued(ME, True, 30)) == 4030


def test_new_keys_together_come_before_by_no_more_than_those_who_have_paid() -> None:
    strangers = [Queued(bytes([9, number]) * 10, False, 4000) for number in range(50)]
    assert waits(*strangers) <= 100 + len(strangers)  # 2 rows of each
    newcomer = Queued(OTHER, False, 100)
    assert waits(*strangers, job=newcomer) == 100 * 50
    # Beside 50 others it has a 51st of half of the time; the one who has paid has the other half.
    assert waits(*strangers, Queued(ME, True, 10_000), job=newcomer) == 100 * 50 + 100 * 51


def test_a_row_counts_alike_unless_new_keys_are_more() -> None:
    assert charge(True, known=1, guests=9) == UNIT
    assert charge(False, known=0, guests=9) == UNIT
    assert charge(False, known=3, guests=3) == UNIT
    assert charge(False, known=3, guests=9) == 3 * UNIT


def test_a_wait_at_the_bound_is_taken_and_one_above_is_told_when_to_come_back() -> None:
    queued = [Queued(ME, True, 1000)]
    require_soon(queued, JOB, row_us=ROW_US, bound_us=1_000_000)
    assert refused([Queued(ME, True, 1001)]).retry_s == 1
    assert refused([Queued(ME, True, 6000)]).retry_s == 5
    assert "after 6 s" in refused([Queued(ME, True, 6000)]).message
    assert refused([Queued(ME, True, 10**9)]).retry_s == MAX_RETRY_S


queues = st.lists(
    st.builds(Queued, st.integers(1, 6).map(lambda name: bytes([name]) * 20), st.booleans(), st.integers(0, 9000)),
    max_size=12,
).map(lambda found: [Queued(each.client, each.client[0] % 2 == 1, each.rows) for each in found])


@settings(deadline=None)
@given(queues, st.integers(1, 4096), st.integers(1, 10_000), st.integers(0, 10_000_000))
def test_who_comes_back_in_time_is_taken(queued: list[Queued], rows: int, row_us: int, bound_us: int) -> None:
    """Where nothing else has come, and all were served alike meanwhile."""
    job = Queued(ME, True, rows)
    assert wait_us(queued, job, row_us) <= row_us * sum(each.rows for each in queued)
    total, told = sum(each.rows for each in queued), 0
    try:
        require_soon(queued, job, row_us=row_us, bound_us=bound_us)
    except RefusedError as error:
        told = error.retry_s
    assert (told > 0) is (wait_us(queued, job, row_us) > bound_us)
    assert told <= min(MAX_RETRY_S, row_us * total // 1_000_000 + 1)
    if 0 < told < MAX_RETRY_S:
        require_soon(_later(queued, told * 1_000_000 // row_us), job, row_us=row_us, bound_us=bound_us)


def _later(queued: list[Queued], served: int) -> list[Queued]:
    """After so many rows were served: to all clients alike, a row at a time, in order of arrival within each."""
    left: dict[tuple[bytes, bool], int] = {}
    for each in queued:
        left[each.client, each.known] = left.get((each.client, each.known), 0) + each.rows
    clients = {*left, (ME, True)}
    known = sum(is_known for _, is_known in clients)
    costs = {each: charge(each[1], known=known, guests=len(clients) - known) for each in left}
    low, high = 0, 20_000 * 12 * UNIT * 12

    def total(at: int) -> int:
        return sum(min(rows, at // costs[each]) for each, rows in left.items())

    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if total(middle) <= served else (low, middle - 1)
    return [Queued(*each, rows - min(rows, low // costs[each])) for each, rows in left.items()]
