"""Guesses under way: hidden from the middle, and never a part of the answer that would not have come without them."""

from __future__ import annotations

import random
from collections import deque

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.drafting.drafts import Guessing, Mask, Verifying
from protocol.errors import MalformedError

SECRET, SESSION = b"\x05" * 32, b"\x06" * 32
VOCABULARY = 4


def next_token(position: int, token: int) -> int:
    return (token * 7 + position * 3) % VOCABULARY


def plainly(prompt: list[int], most: int) -> list[int]:
    tokens = list(prompt)
    while len(tokens) < len(prompt) + most:
        tokens.append(next_token(len(tokens) - 1, tokens[-1]))
    return tokens


class Play:
    """Both ends of a ring, and frames on their way between them in both directions."""

    def __init__(self, prompt: list[int], most: int, depth: int, flights: int) -> None:
        self.tokens = list(prompt)
        self.end = len(prompt) + most
        self.first = Guessing(depth, flights)
        self.last = Verifying()
        self.onward: deque = deque()
        self.back: deque = deque()
        self.rows_run = 0
        self.first.give(len(prompt))

    def launch(self, guesses: list[int]) -> bool:
        first = self.first
        room = first.room(first.depth, first.flights)
        begin = max(first.launched, first.certain)
        guesses = guesses[: max(0, min(room, self.end - 1 - begin))]
        if not first.must_launch and not (guesses and first.under_way):
            return False
        self.onward.append(first.launch(guesses))
        return True

    def verify(self) -> bool:
        if not self.onward:
            return False
        launch = self.onward.popleft()
        if not self.last.admits(launch.position, launch.given, launch.guesses):
            return True
        self.rows_run += launch.length
        ids = [*self.tokens_at(launch.position, launch.given), *launch.guesses]
        before = max(0, launch.given - 1)  # a prompt's rows draw nothing but the last one
        drawn = [next_token(launch.position + at, ids[at]) for at in range(before, launch.length)]
        stand = self.last.judge(launch.given, launch.guesses, drawn)
        for at in range(before, stand):
            self.back.append((launch.position + at + 1, drawn[at - before]))
        return True

    def tokens_at(self, position: int, count: int) -> list[int]:
        return self.tokens[position : position + count]

    def take(self) -> bool:
        if not self.back:
            return False
        position, token = self.back.popleft()
        if position < self.end:
            self.first.take(position, token)
            self.tokens.append(token)
        return True


@settings(max_examples=at_length(200), deadline=None)
@given(
    prompt=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=5),
    most=st.integers(1, 25),
    depth=st.integers(1, 6),
    flights=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_text_is_the_same_whatever_is_guessed_and_whatever_overtakes(prompt, most, depth, flights, seed) -> None:
    expected = plainly(prompt, most)
    play, chance = Play(prompt, most, depth, flights), random.Random(seed)
    for _ in range(5_000):
        if len(play.tokens) == play.end:
            break
        which = chance.randrange(3)
        if which == 0:
            # An oracle that is often right: the true tokens, with one of them wrong perhaps.
            begin = max(play.first.launched, play.first.certain)
            made = expected[begin : begin + depth]
            if made and chance.random() < 0.4:
                made[chance.randrange(len(made))] = chance.randrange(2 * VOCABULARY)
            play.launch(made)
        elif which == 1:
            play.verify()
        else:
            play.take()
    assert play.tokens == expected


def test_an_oracle_that_is_always_right_needs_one_trip_for_depth_and_one() -> None:
    expected = plainly([1], 20)
    play = Play([1], 20, 4, 1)
    trips = 0
    while len(play.tokens) < play.end:
        begin = max(play.first.launched, play.first.certain)
        play.launch(expected[begin : begin + 4])
        trips += 1
        play.verify()
        while play.take():
            pass
    assert trips == 4
    assert play.tokens == expected


def test_what_follows_from_a_wrong_guess_is_not_computed() -> None:
    wrong = [(token + 1) % VOCABULARY for token in plainly([1], 20)]
    play = Play([1], 20, 2, 4)
    for _ in range(4):
        begin = max(play.first.launched, play.first.certain)
        play.launch(wrong[begin : begin + 2])
    while play.verify():
        pass
    assert play.rows_run == 3  # the certain one and its two guesses; three launches more were dropped


def test_no_more_is_launched_than_the_terms_allow() -> None:
    first = Guessing(3, 2)
    first.give(1)
    assert first.room(8, 8) == 3
    first.launch((1, 2, 3))
    first.launch((1, 2, 3))
    assert first.room(8, 8) == 0
    assert first.under_way == 2


def test_tokens_come_in_order() -> None:
    first = Guessing(3, 2)
    first.give(2)
    first.launch(())
    with pytest.raises(MalformedError):
        first.take(3, 1)
    assert first.take(2, 1) is False
    assert first.certain == 3


@pytest.mark.parametrize("position", [4, 6])
def test_rows_that_leave_a_gap_or_take_back_what_stands_are_no_drafts(position) -> None:
    last = Verifying()
    assert last.admits(0, 5, ())
    assert last.judge(5, (), (9,)) == 5
    with pytest.raises(MalformedError):
        last.admits(position, 1, ())
    assert last.admits(5, 1, ())


def test_a_launch_goes_on_where_its_guess_was_the_token_drawn_and_nowhere_else() -> None:
    for guess, admitted in ((9, True), (8, False)):
        last = Verifying()
        last.admits(0, 5, ())
        last.judge(5, (), (9,))
        assert last.admits(5, 0, (guess, 7)) is admitted
        assert last.refuted is not admitted


def test_ids_are_hidden_from_whoever_lacks_the_secret_and_differ_by_launch_and_place() -> None:
    ids, at = (7, 0, 2**24 - 1), {"route": 0, "flight": 1, "position": 9}
    mask = Mask(SECRET, SESSION)
    sent = mask.hide(ids, **at)
    assert len(sent) == 12
    assert mask.show(sent, **at) == ids
    assert mask.show(sent[4:], **(at | {"position": 10})) == ids[1:]
    for name in at:
        assert mask.show(sent, **(at | {name: 2})) != ids
    assert Mask(b"\x07" * 32, SESSION).show(sent, **at) != ids
    assert Mask(SECRET, b"\x07" * 32).show(sent, **at) != ids
    assert mask.hide((), **at) == b""
    assert len({mask.hide((5, 5, 5), **at)[each : each + 4] for each in (0, 4, 8)}) == 3
    assert SECRET.hex() not in repr(mask)
    assert sent.hex() == "089e6a86be325d7b4807bbe7"


def test_a_part_of_an_id_is_malformed() -> None:
    mask = Mask(SECRET, SESSION)
    assert mask.show(bytes(8), route=0, flight=1, position=0)
    with pytest.raises(MalformedError):
        mask.show(bytes(7), route=0, flight=1, position=0)
