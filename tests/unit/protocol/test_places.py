"""The table of places: who gets one, who gives one up, and that no number of new keys shuts the known ones out."""

from __future__ import annotations

import pytest

from protocol.errors import RefusedError
from protocol.reputation.standing import NEWCOMER, Deed, Standing, Tally
from protocol.serving.places import (
    BELOW_S,
    GIVE_WAY_S,
    TURN_S,
    Held,
    Rank,
    free_for_newcomers,
    guests_part,
    kept_for_newcomers,
    make_room,
    quota,
    rank_of,
)

NOW = 1_000_000
ME = b"\x01" * 20
PAID = Standing({Deed.PAID: Tally(1, 100, NOW)})


def held(
    number: int,
    rank: Rank = Rank.NEWCOMER,
    still_s: float = 0.0,
    client: bytes | None = None,
    waited_s: float = 0.0,
) -> Held:
    """Place `number`, of a client of its own unless one is named."""
    mine = (100 + number).to_bytes(20, "big") if client is None else client
    return Held(session=number.to_bytes(32, "big"), client=mine, rank=rank, still_s=still_s, waited_s=waited_s)


def gives_way(around: list[Held], most: int, rank: Rank = Rank.NEWCOMER) -> int | None:
    """The number of the place that is given up, None where one is free, -1 where there is none."""
    try:
        loser = make_room(around, ME, rank, most)
    except RefusedError as error:
        return {"full": -1}[error.code]
    return None if loser is None else int.from_bytes(loser, "big")


def test_a_client_is_known_once_it_has_paid_and_ranks_lower_while_it_is_shunned() -> None:
    lapsed = {Deed.LAPSED: Tally(1, 0, NOW)}
    assert rank_of(NEWCOMER, NOW) is Rank.NEWCOMER
    assert rank_of(PAID, NOW) is Rank.KNOWN
    assert rank_of(Standing(lapsed, failures_in_row=1), NOW) is Rank.SHUNNED
    assert rank_of(Standing(lapsed, failures_in_row=1), NOW + 60) is Rank.NEWCOMER
    assert rank_of(Standing({**lapsed, **PAID.tallies}, failures_in_row=1), NOW) is Rank.NEWCOMER
    assert rank_of(Standing({**lapsed, **PAID.tallies}, failures_in_row=1), NOW + 60) is Rank.KNOWN
    assert rank_of(Standing({Deed.DEFAULTED: Tally(1, 5, NOW), **PAID.tallies}), NOW + 10**6) is Rank.SHUNNED


@pytest.mark.parametrize(
    ("most", "part", "newcomer", "known"), [(1, 1, 1, 1), (2, 1, 1, 2), (5, 2, 2, 4), (16, 8, 4, 8), (64, 32, 16, 32)]
)
def test_what_newcomers_share_and_what_one_client_may_hold(most: int, part: int, newcomer: int, known: int) -> None:
    assert guests_part(most) == part
    assert (quota(Rank.SHUNNED, most), quota(Rank.NEWCOMER, most), quota(Rank.KNOWN, most)) == (1, newcomer, known)


def test_newcomers_fill_their_part_and_no_more() -> None:
    seven = [held(number) for number in range(7)]
    assert gives_way(seven, 16) is None
    assert gives_way([*seven, held(7)], 16) == -1
    assert gives_way([*seven, held(7, Rank.SHUNNED)], 16) == -1, "the shunned have no part of their own"
    assert gives_way([*seven, held(7, Rank.KNOWN)], 16) is None


def test_a_known_client_finds_a_place_whatever_newcomers_do() -> None:
    guests = [held(number) for number in range(8)]
    assert gives_way(guests, 16, Rank.KNOWN) is None
    full = [*guests, *(held(number, Rank.KNOWN) for number in range(8, 16))]
    assert gives_way(full[:-1], 16, Rank.KNOWN) is None
    assert gives_way(full, 16, Rank.KNOWN) == -1


def test_some_places_are_kept_for_newcomers_however_many_known_clients_pay() -> None:
    for most, kept in ((1, 0), (3, 0), (4, 1), (15, 1), (16, 2), (64, 8)):
        assert kept_for_newcomers(most) == kept
        known = [held(number, Rank.KNOWN) for number in range(most - kept)]
        assert gives_way(known[1:], most, Rank.KNOWN) is None
        assert gives_way(known, most, Rank.KNOWN) == -1
        assert gives_way(known, most) == (None if kept else -1)
        assert free_for_newcomers(known, most) == kept


def test_a_newcomer_that_stood_still_a_little_all_the_time_has_had_its_turn() -> None:
    around = [held(number, waited_s=TURN_S - 1) for number in range(4)]
    assert gives_way(around, 8) == -1
    around[2] = held(2, waited_s=TURN_S)
    assert gives_way(around, 8) == 2
    assert gives_way(around, 8, Rank.SHUNNED) == -1
    assert gives_way(around[1:], 8) is None
    known = [held(number, Rank.KNOWN, waited_s=9 * TURN_S) for number in range(8)]
    assert gives_way(known, 8, Rank.KNOWN) == -1, "who has paid here before may take its time"
    assert free_for_newcomers(around, 8) == 1


def test_what_stood_still_longest_gives_way_and_what_moves_does_not() -> None:
    around = [held(0, still_s=GIVE_WAY_S), held(1, still_s=GIVE_WAY_S + 1), held(2, still_s=0.5), held(3)]
    assert gives_way(around, 8) == 1
    assert gives_way([held(0, still_s=GIVE_WAY_S - 0.1), *around[2:], held(4)], 8) == -1


def test_the_lower_rank_gives_way_first_and_never_a_higher_one() -> None:
    around = [held(0, still_s=9), held(1, Rank.SHUNNED, still_s=4), held(2), held(3)]
    assert gives_way(around, 8) == 1
    assert gives_way(around, 8, Rank.SHUNNED) == 1
    assert gives_way([held(0, still_s=9), held(2), held(3), held(4)], 8, Rank.SHUNNED) == -1
    full = [held(0, still_s=9), *(held(number, Rank.KNOWN, still_s=20) for number in range(1, 4))]
    assert gives_way(full, 4, Rank.KNOWN) == 1, "the place of a newcomer is kept for one"
    assert gives_way(full, 4) == 0
    assert gives_way(full[:3], 4, Rank.KNOWN) is None
    assert gives_way([*full[1:], held(4, Rank.KNOWN)], 4) == -1
    three = [held(0, still_s=9), held(1), *full[1:3]]
    assert gives_way(three, 4, Rank.KNOWN) == 0


def test_who_ranks_lower_gives_way_sooner() -> None:
    moving = [held(number) for number in range(3)]
    assert gives_way([held(3, Rank.SHUNNED, still_s=BELOW_S), *moving], 8) == 3
    assert gives_way([held(3, Rank.SHUNNED, still_s=BELOW_S - 0.1), *moving], 8) == -1
    assert gives_way([held(3, still_s=BELOW_S), *moving], 8) == -1
    assert gives_way([held(3, Rank.SHUNNED, still_s=BELOW_S), *moving], 8, Rank.SHUNNED) == -1
    assert free_for_newcomers([held(3, Rank.SHUNNED, still_s=BELOW_S), *moving], 8) == 1


def test_a_client_holds_no_more_than_its_quota_however_still_its_jobs_stand() -> None:
    mine = [held(number, still_s=99, client=ME) for number in range(4)]
    assert gives_way(mine[:3], 16) is None
    assert gives_way(mine, 16) == -1
    assert gives_way([held(0, Rank.SHUNNED, client=ME)], 16, Rank.SHUNNED) == -1
    known = [held(number, Rank.KNOWN, client=ME) for number in range(8)]
    assert gives_way(known[:7], 16, Rank.KNOWN) is None
    assert gives_way(known, 16, Rank.KNOWN) == -1


def test_where_the_operator_has_taken_places_away_nobody_is_let_in() -> None:
    assert gives_way([held(number, Rank.KNOWN) for number in range(6)], 4, Rank.KNOWN) == -1


def test_what_is_free_is_what_a_newcomer_would_find() -> None:
    assert free_for_newcomers([], 16) == 8
    assert free_for_newcomers([held(number) for number in range(8)], 16) == 0
    assert free_for_newcomers([held(number, Rank.KNOWN) for number in range(14)], 16) == 2
    assert free_for_newcomers([held(number, Rank.KNOWN, still_s=9) for number in range(20)], 16) == 0
    assert free_for_newcomers([held(number, still_s=GIVE_WAY_S - 3 * (number > 1)) for number in range(8)], 16) == 2
    assert free_for_newcomers([held(number, still_s=9) for number in range(3)], 16) == 8
