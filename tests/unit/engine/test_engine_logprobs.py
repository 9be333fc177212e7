"""What is said of tokens: the logarithm of transformers' softmax, and how far off somebody else's word is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine.logprobs import likeliest, off_by, say
from protocol.session.logprobs import MOST_MILLIONTHS, LogProb, check_said, pack_said, unpack_said

NUMBERS = st.lists(st.integers(-6, 6), min_size=1, max_size=60)


def logits(seed: int, count: int = 300) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=count) * 4).astype(np.float32)


@settings(max_examples=at_length(60))
@given(NUMBERS, st.integers(0, 70))
def test_the_likeliest_are_those_of_a_whole_order(numbers: list[int], count: int) -> None:
    """Few different numbers, so that most are equal."""
    exact = np.array(numbers, dtype=np.float64)
    assert likeliest(exact, count).tolist() == np.argsort(-exact, kind="stable")[:count].tolist()


@pytest.mark.parametrize("top", [0, 1, 20])
def test_what_is_said_is_the_logarithm_of_the_softmax(top: int) -> None:
    values = logits(1)
    expected = torch.log_softmax(torch.from_numpy(values).double(), dim=0)
    for token in (int(np.argmax(values)), 5, 299):
        found = say(values, token, top)
        check_said(found, token=token, top=top)
        drawn, *others = unpack_said(found)
        assert drawn.token == token
        assert [each.token for each in others] == np.argsort(-values, kind="stable")[:top].tolist()
        for each in (drawn, *others):
            assert abs(each.logarithm - float(expected[each.token])) <= 5.1e-7
        assert off_by(values, found) == 0


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_a_head_that_overflows_says_something(odd: float) -> None:
    values = logits(2)
    values[7] = odd
    for token in (7, 8):
        found = say(values, token, 3)
        check_said(found, token=token, top=3)
        assert off_by(values, found) == 0
    assert unpack_said(say(np.array([0, -5000], dtype=np.float32), 1, 0))[0].millionths == MOST_MILLIONTHS


@settings(max_examples=at_length(40))
@given(st.integers(0, 2**32 - 1), st.integers(1, 1000), st.integers(0, 20))
def test_logits_within_half_of_it_are_off_by_no_more(seed: int, milli: int, top: int) -> None:
    """That is what makes it a margin (F7)."""
    values = logits(seed, 80).astype(np.float64)
    shift = np.random.default_rng(seed + 1).uniform(-1, 1, size=80) * milli / 2000
    others = (values + shift).astype(np.float32)
    token = int(np.argmax(others))
    assert off_by(values.astype(np.float32), say(others, token, top)) <= milli * 1000 + 3


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda it: [it[0]._replace(millionths=it[0].millionths + 5000), *it[1:]], 5000),
        (lambda it: [*it[:2], it[2]._replace(millionths=it[2].millionths + 70), it[3]], 70),
        (lambda it: [*it[:3], LogProb(9, it[3].millionths)], 100_000),  # another token in the place of the third
    ],
)
def test_a_lie_is_seen(change, least: int) -> None:
    values = np.linspace(0, 10, 60).astype(np.float32)
    said = list(unpack_said(say(values, 59, 3)))
    lie = pack_said(change(said))
    assert off_by(values, lie) >= least


def test_one_that_was_left_out_is_seen() -> None:
    """Each number is true, and the second likeliest is not among them."""
    values = np.array([3, 2, 1, 0], dtype=np.float32)
    first, second, third = unpack_said(say(values, 0, 3))[1:]
    assert off_by(values, pack_said([first, first, third])) == 1_000_000
    assert off_by(values, pack_said([first, first, second])) == 0
