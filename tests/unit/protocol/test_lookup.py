"""Guesses from the text itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.drafting import lookup
from protocol.drafting.lookup import Lookup


def after(tokens, guesses=(), count=4) -> tuple[int, ...]:
    found = Lookup()
    found.extend(tokens)
    return found.propose(guesses, count)


def test_what_followed_the_last_time_is_proposed() -> None:
    assert after([1, 2, 3, 4, 5, 1, 2], count=3) == (3, 4, 5)
    assert after([1, 2, 3, 4, 5, 1, 2], count=1) == (3,)


def test_the_longest_run_and_then_the_latest_place_decide() -> None:
    assert after([8, 1, 2, 3, 9, 1, 2, 4, 8, 1, 2], count=1) == (3,)
    assert after([7, 1, 2, 3, 9, 1, 2, 4, 8, 1, 2], count=1) == (4,)


def test_nothing_is_proposed_where_nothing_like_it_stood() -> None:
    assert after([1, 2, 3, 4]) == ()
    assert after([1]) == ()
    assert after([]) == ()


def test_guesses_under_way_are_gone_on_from() -> None:
    assert after([1, 2, 3, 4, 5, 1], guesses=(2, 3), count=2) == (4, 5)
    assert after([1, 2, 3, 4, 5, 1], guesses=(9,), count=2) == ()


def test_what_repeats_itself_goes_on_for_ever() -> None:
    assert after([6, 7, 8, 6, 7, 8], count=8) == (6, 7, 8, 6, 7, 8, 6, 7)


def test_what_stood_longest_ago_is_forgotten(monkeypatch) -> None:
    monkeypatch.setattr(lookup, "MAX_GRAMS", 4)
    found = Lookup()
    found.extend([1, 2, 3])
    found.extend(range(10, 20))
    found.extend([1, 2])
    assert found.propose((), 1) == ()
    found = Lookup()
    found.extend([1, 2, 3, 1, 2])
    assert found.propose((), 1) == (3,)


@given(tokens=st.lists(st.integers(0, 3), max_size=60), guesses=st.lists(st.integers(0, 3), max_size=5))
def test_it_proposes_what_a_search_from_the_end_finds(tokens, guesses) -> None:
    whole = [*tokens, *guesses]
    expected = None
    for width in lookup.ORDERS:
        run = whole[-width:]
        places = [at for at in range(width, len(tokens)) if tokens[at - width : at] == run]
        if len(run) == width and places:
            expected = tokens[places[-1]]
            break
    found = after(tokens, guesses, 1)
    assert found == (() if expected is None else (expected,))
