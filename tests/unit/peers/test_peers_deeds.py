"""Deeds in memory: what counts, until when, and who is forgotten where there are too many."""

from __future__ import annotations

from node.peers.deeds import MAX_SUM, Deeds
from protocol.reputation.standing import DAY_S, FIRST_PAUSE_S, KEPT_DAYS, NEWCOMER, Deed, shunned_until

NOW = 1_800_000_000
PEER = b"p" * 20


def test_failures_add_up_until_a_merit_ends_the_row() -> None:
    deeds = Deeds()
    for second in range(3):
        deeds.take(PEER, Deed.SILENT, at=NOW + second, about="said nothing")
    standing = deeds.standing(PEER, NOW + 3)
    assert (standing.failures_in_row, standing.of(Deed.SILENT).count) == (3, 3)
    assert shunned_until(standing) == NOW + 2 + 4 * FIRST_PAUSE_S
    deeds.take(PEER, Deed.SERVED, at=NOW + 4, amount=70)
    standing = deeds.standing(PEER, NOW + 4)
    assert (standing.failures_in_row, standing.of(Deed.SILENT).count, standing.of(Deed.SERVED).amount) == (0, 3, 70)
    assert not standing.is_newcomer
    assert shunned_until(standing) == 0


def test_a_deed_is_forgotten_after_its_time_and_not_before() -> None:
    deeds = Deeds()
    deeds.take(PEER, Deed.LIED, at=NOW)
    deeds.take(PEER, Deed.SERVED, at=NOW + DAY_S)
    over = NOW + KEPT_DAYS * DAY_S
    assert deeds.standing(PEER, over - 1).offended
    assert not deeds.standing(PEER, over).offended
    assert not deeds.standing(PEER, over).is_newcomer
    assert deeds.standing(PEER, over + DAY_S) == NEWCOMER
    assert len(deeds) == 0


def test_a_crowd_of_new_keys_pushes_out_nobody_who_served() -> None:
    deeds = Deeds(most=100)
    friend, liar = b"f" * 20, b"l" * 20
    deeds.take(friend, Deed.SERVED, at=NOW - DAY_S)
    deeds.take(liar, Deed.LIED, at=NOW - DAY_S)
    for each in range(5000):
        deeds.take(each.to_bytes(20, "big"), Deed.LAPSED, at=NOW + each)
        assert len(deeds) <= 100
    assert not deeds.standing(friend, NOW).is_newcomer
    assert deeds.standing(liar, NOW).offended
    assert deeds.standing((4999).to_bytes(20, "big"), NOW).failures_in_row == 1
    assert deeds.standing((0).to_bytes(20, "big"), NOW) == NEWCOMER


def test_what_a_clock_ahead_has_dated_counts_as_of_now() -> None:
    ahead, deeds = Deeds(), Deeds()
    ahead.take(PEER, Deed.FAILED, at=NOW + 200 * DAY_S)
    deeds.load(ahead.rows(), NOW)
    assert deeds.standing(PEER, NOW).of(Deed.FAILED).last_at == NOW
    assert deeds.standing(PEER, NOW + KEPT_DAYS * DAY_S) == NEWCOMER


def test_sums_end_below_what_a_database_holds() -> None:
    deeds = Deeds()
    for _ in range(3):
        deeds.take(PEER, Deed.PAID, at=NOW, amount=MAX_SUM - 1)
    assert deeds.standing(PEER, NOW).of(Deed.PAID).amount == MAX_SUM


def test_what_was_counted_apart_follows_what_is_here() -> None:
    before, later = Deeds(), Deeds()
    before.take(PEER, Deed.FAILED, at=NOW)
    later.take(PEER, Deed.SERVED, at=NOW + 1)
    later.take(PEER, Deed.FAILED, at=NOW + 2)
    before.absorb(later)
    standing = before.standing(PEER, NOW + 2)
    assert (standing.failures_in_row, standing.of(Deed.FAILED).count) == (1, 2)


def test_who_is_forgotten_is_a_newcomer() -> None:
    deeds = Deeds()
    deeds.take(PEER, Deed.LIED, at=NOW)
    deeds.take(b"q" * 20, Deed.LIED, at=NOW)
    deeds.forget(PEER)
    assert deeds.standing(PEER, NOW) == NEWCOMER
    assert deeds.standing(b"q" * 20, NOW).offended
    deeds.forget(None)
    assert len(deeds) == 0
