"""What may be said of a token, and what not."""

from __future__ import annotations

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import DishonestError, InvalidError
from protocol.session.logprobs import (
    MAX_TOP,
    MOST_MILLIONTHS,
    LogProb,
    check_said,
    pack_said,
    said_bytes,
    unpack_said,
)
from protocol.session.terms import SamplingTerms

NUMBER = st.integers(0, MOST_MILLIONTHS)
SAID = (LogProb(7, 900), LogProb(3, 100), LogProb(9, 100), LogProb(7, 900))


@settings(max_examples=at_length(50))
@given(st.lists(st.builds(LogProb, NUMBER, NUMBER), min_size=1, max_size=1 + MAX_TOP))
def test_entries_are_read_as_they_were_written(entries: list[LogProb]) -> None:
    data = pack_said(entries)
    assert unpack_said(data) == tuple(entries)
    assert len(data) == said_bytes(len(entries) - 1)


@settings(max_examples=at_length(50))
@given(st.binary(max_size=200), st.integers(0, 5), st.integers(0, MAX_TOP) | st.none())
def test_whatever_somebody_says_is_taken_or_refused(data: bytes, token: int, top: int | None) -> None:
    try:
        check_said(data, token=token, top=top)
    except DishonestError:
        return
    assert len(data) == said_bytes(top)


@pytest.mark.parametrize(
    ("entries", "top", "right"),
    [
        (SAID, 3, True),
        ((SAID[0], *SAID[1:3]), 2, True),
        ((SAID[0],), 0, True),
        ((), None, True),
        (SAID[:1], None, False),
        ((), 0, False),
        (SAID, 2, False),
        (SAID[:3], 3, False),
        ((LogProb(8, 900), *SAID[1:]), 3, False),  # of another token
        ((*SAID[:3], LogProb(7, 901)), 3, False),  # two figures for it
        ((*SAID[:3], LogProb(3, 900)), 3, False),  # named twice
        ((SAID[0], SAID[3], *SAID[1:3]), 3, False),  # out of order
        ((LogProb(7, 99), *SAID[1:3]), 2, False),  # likelier than those that are named
    ],
)
def test_entries_that_can_be_and_their_neighbours(entries: tuple[LogProb, ...], top: int | None, right: bool) -> None:
    if right:
        check_said(pack_said(entries), token=7, top=top)
    else:
        with pytest.raises(DishonestError):
            check_said(pack_said(entries), token=7, top=top)


@pytest.mark.parametrize("wrong", [21, -1, "3", 2.0, True, 256])
def test_terms_ask_for_no_more_than_there_are(wrong: object) -> None:
    for right in (None, 0, MAX_TOP):
        assert SamplingTerms(temperature_milli=0, seed=0, logprobs=right).logprobs == right
    with pytest.raises(InvalidError):
        SamplingTerms(temperature_milli=0, seed=0, logprobs=wrong)  # type: ignore[arg-type]
