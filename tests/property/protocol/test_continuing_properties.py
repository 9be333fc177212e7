"""Who computes what when a sequence is taken up in its middle: enough for every leg, and not a position more."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from protocol.session.continuing import joinings
from protocol.session.frames import ANEW, Joining

LEGS = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=5)


def suffices(found: tuple[Joining, ...], cached: list[int], replays: list[bool]) -> bool:
    """Whether each leg holds what it does not compute, and gets the rows that it does: replayed, or computed anew."""
    for leg, joining in enumerate(found):
        if joining.start > min(cached[leg], joining.base):
            return False
        if leg + 1 < len(found):
            needs = found[leg + 1].start
            if joining.onward != needs or (needs < joining.start and not replays[leg]):
                return False
    return True


@given(LEGS, st.integers(0, 12))
def test_every_leg_gets_every_row_that_it_needs(legs: list[tuple[int, bool]], want: int) -> None:
    cached, replays = [held for held, _ in legs], [again for _, again in legs]
    found = joinings(cached, replays, want)
    assert len(found) == len(legs)
    assert {each.base for each in found} == {min(want, max(cached))}
    assert suffices(found, cached, replays)
    assert all(each.start <= each.base and each.onward <= each.base for each in found)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=3), st.integers(0, 3))
def test_nobody_computes_more_than_is_needed(legs: list[tuple[int, bool]], want: int) -> None:
    """Of all ways that suffice, none lets any leg begin later."""
    cached, replays = [held for held, _ in legs], [again for _, again in legs]
    found = joinings(cached, replays, want)
    base = found[0].base
    for starts in product(range(base + 1), repeat=len(legs)):
        needs = [*starts[1:], base]
        other = tuple(Joining(base=base, start=start, onward=need) for start, need in zip(starts, needs, strict=True))
        if suffices(other, cached, replays):
            assert all(mine.start >= theirs for mine, theirs in zip(found, starts, strict=True))


@given(LEGS)
def test_nothing_is_taken_up_where_nothing_is_wanted_or_held(legs: list[tuple[int, bool]]) -> None:
    cached, replays = [held for held, _ in legs], [again for _, again in legs]
    assert set(joinings(cached, replays, 0)) == {ANEW}
    assert set(joinings([0] * len(legs), replays, 12)) == {ANEW}


def test_a_new_leg_is_fed_what_the_one_before_it_sent() -> None:
    whole, new = Joining(base=8, start=8, onward=8), Joining(base=8, start=0, onward=8)
    assert joinings([8, 0, 8], [True, False, True], 9) == (whole.replace(onward=0), new, whole)


def test_a_leg_that_kept_no_rows_computes_them_again_and_so_does_the_one_before() -> None:
    anew, fed = Joining(base=8, start=0, onward=0), Joining(base=8, start=0, onward=8)
    assert joinings([8, 8, 0], [False, False, False], 8) == (anew, anew, fed)
    assert joinings([8, 8, 0], [True, False, False], 8) == (Joining(base=8, start=8, onward=0), anew, fed)


def test_what_all_hold_is_computed_by_nobody() -> None:
    (first, last) = joinings([5, 7], [False, False], 6)
    assert (first.base, first.start, first.onward) == (6, 5, 6)
    assert (last.start, last.onward) == (6, 6)
