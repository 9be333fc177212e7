"""A ring in simulated time: legs with a pass time, hops between them, and an oracle that guesses right now and then.

It runs the real rules of both ends (`protocol.drafting.drafts`) and the real choice of pace
(`protocol.drafting.speculation`).
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass

from protocol.drafting.drafts import Guessing, Launch, Verifying
from protocol.drafting.speculation import NONE, Pace, Pacer

WRONG = 1 << 20


def chance(seed: int, position: int) -> float:
    """A number in [0, 1) that follows from a seed and a position alone."""
    digest = hashlib.sha256(f"{seed} {position}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def truth(position: int) -> int:
    """The token that stands at a position."""
    return position % 997


@dataclass(frozen=True)
class Ring:
    """What a trip consists of, in seconds."""

    legs: int = 3
    hop_s: float = 0.0125
    pass_s: float = 0.01
    row_s: float = 0.0
    """That each row beyond the first adds to a pass."""
    guess_s: float = 0.0
    """That the making of one guess takes."""
    unseen_s: float = 0.0
    """That guesses in a launch hold it up by, and nobody measures."""

    def pass_of(self, rows: int) -> float:
        return self.pass_s + self.row_s * (rows - 1)


class Simulation:
    """One session that generates.

    Args:
        right: how often a guess is right.
        pace: what to do; asked at each launch.
    """

    def __init__(self, ring: Ring, right: float, pacer: Pacer | None, *, most: Pace, seed: int = 1) -> None:
        self._ring = ring
        self._right = right
        self._pacer = pacer
        self._first = Guessing(most.depth, most.flights)
        self._last = Verifying()
        self._first.give(1)
        self._last.drawn = truth(0)
        self._free = [0.0] * ring.legs
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._seed = seed
        self.now = 0.0
        self.tokens = 0
        self.rows = 0
        self._pace = NONE
        self._anew = True
        self._chosen = 0, 0.0
        self._right_in_a_row = 0
        self._sent: list[tuple[int, int, float]] = []
        self._back_s: float | None = None

    def run(self, tokens: int) -> float:
        """Tokens a second, over so many of them."""
        self._at(0.0, self._look)
        while self.tokens < tokens:
            self.now, _, call = heapq.heappop(self._events)
            call()
        return self.tokens / self.now

    def _at(self, when: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, len(self._events) + self.rows * 1000, call))

    def _look(self) -> None:
        """The first leg's engine is free: what is launched now?"""
        first = self._first
        if self._free[0] > self.now:
            return
        if self._anew and first.must_launch:
            self._anew = False
            if self._pacer is not None:
                if self._chosen != (0, 0.0):
                    self._pacer.came(self.tokens - self._chosen[0], self.now - self._chosen[1])
                self._chosen = self.tokens, self.now
                self._pace = self._pacer.next_pace()
        guesses = first.room(*self._pace)
        if not first.must_launch and not guesses:
            return
        if not first.under_way and not first.must_launch:
            return
        begin = max(first.launched, first.certain)
        made = [truth(p) if chance(self._seed, p) < self._right else WRONG for p in range(begin, begin + guesses)]
        made_s = self._ring.guess_s * len(made)
        launch = first.launch(made)
        if made and self._pacer is not None:
            self._pacer.guesses.note(len(made), made_s)
        self.rows += launch.length
        took = made_s + self._ring.pass_of(launch.length)
        self._free[0] = self.now + took
        if self._pacer is not None:
            self._pacer.passes.note(launch.length, took)
        unseen_s = self._ring.unseen_s if made else 0.0
        self._free[0] += unseen_s
        self._sent.append((launch.position + launch.length, launch.length, self.now + unseen_s))
        self._at(self._free[0], self._look)
        arrives = self._free[0]
        for leg in range(1, self._ring.legs):
            begins = max(arrives + self._ring.hop_s, self._free[leg])
            self._free[leg] = arrives = begins + self._ring.pass_of(launch.length)
        self._at(arrives, lambda: self._verify(launch))

    def _verify(self, launch: Launch) -> None:
        last = self._last
        if not last.admits(launch.position, launch.given, launch.guesses):
            return
        drawn = [truth(p + 1) for p in range(launch.position, launch.position + launch.length)]
        stand = last.judge(launch.given, launch.guesses, drawn)
        tokens = [(launch.position + 1 + at, drawn[at]) for at in range(stand)]
        self._at(self.now + self._ring.hop_s, lambda: self._take(tokens))

    def _take(self, tokens: list[tuple[int, int]]) -> None:
        for position, token in tokens:
            guessed = bool(self._first.guesses)
            refuted = self._first.take(position, token)
            assert token == truth(position)
            self.tokens += 1
            if guessed and self._pacer is not None:
                self._pacer.worth.note(self._right_in_a_row, not refuted)
            self._right_in_a_row = self._right_in_a_row + 1 if guessed and not refuted else 0
            self._anew |= refuted or not self._first.under_way
        self._note_trip(tokens[-1][0], refuted)
        self._look()

    def _note_trip(self, upto: int, refuted: bool) -> None:
        back = [each for each in self._sent if each[0] <= upto] or self._sent[:1]
        if self._pacer is not None and back:
            self._pacer.trips.note(back[0][1], self.now - back[0][2])
        self._sent = [] if refuted else [each for each in self._sent if each[0] > upto]
