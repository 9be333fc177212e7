"""Whose rows form the next forward pass: integers only; it knows no job, no engine and no clock.

Answers come first: a decode step, or a few drafted tokens, of every session that has one ready. What is left of the
pass is for prompts, cut to what the pass has time for (`pace`): so a long prompt delays no answer by more than the
operator's stretch. While a prompt waits it gets a part of every pass: many answers never hold it up for good. Where no
answer is under way there is nobody to wait for, and prompts run in large pieces. Clients share both alike, whatever
the number of their sessions (`fair_queue`).
"""

from __future__ import annotations

from node.pipeline.serving.fair_queue import Customer, FairQueue, Turn
from node.pipeline.serving.pace import Pace

__all__ = ["LIVE_US", "QUANTUM", "SHORT_ROWS", "Customer", "Scheduler", "Turn"]

SHORT_ROWS = 16
"""Rows of an answer up to which they run whole and first: a token, and drafted ones to verify. More are caught up on,
like a prompt.
"""
QUANTUM = 32
"""Prompt rows that a client is given at a time while others wait."""
LIVE_US = 2_000_000
"""An answer whose last step was so long ago is not waited for: its next one is longer on its way than any ring is."""


class Scheduler:
    """The sessions that have rows ready.

    Args:
        max_rows: most rows in one pass, at least 2.
        pace: what passes take here.
    """

    def __init__(self, max_rows: int, pace: Pace) -> None:
        if max_rows < 2:
            raise ValueError(f"{max_rows} rows a pass are too few for an answer and a prompt")
        self._most = max_rows
        self._pace = pace
        self._share = max(1, max_rows // 4)  # of each pass, for prompts while any waits
        self._short_rows = min(SHORT_ROWS, max_rows - self._share)
        self._answers = FairQueue(1, whole=True)
        self._prompts = FairQueue(QUANTUM)
        self._live: dict[bytes, int] = {}
        """Sessions with an answer under way, and when they last had a turn; longest ago first."""
        self._last = (0, 0)
        """Rows of answers and of prompts in the last pass."""

    def __len__(self) -> int:
        return len(self._answers) + len(self._prompts)

    def ready(self, session: bytes, rows: int, customer: Customer, *, answering: bool) -> None:
        """How many rows of a session could run now, in all; 0 for none. One that waits already keeps its place.

        Args:
            answering: its prompt is done, so that somebody waits for each of its rows.
        """
        short = answering and rows <= self._short_rows
        self._answers.put(session, rows if short else 0, customer)
        self._prompts.put(session, 0 if short else rows, customer)
        if not answering:
            self._live.pop(session, None)

    def end(self, session: bytes) -> None:
        """No row of this session will come any more, or not soon: nothing is kept free for it."""
        self._live.pop(session, None)

    def answering(self, now_us: int) -> bool:
        """Whether any answer is under way, so that passes are kept short."""
        while self._live and (first := next(iter(self._live.items())))[1] < now_us - LIVE_US:
            del self._live[first[0]]
        return bool(self._live)

    def waiting(self) -> tuple[int, int]:
        """Sessions that wait: answers, and prompts."""
        return len(self._answers), len(self._prompts)

    def live(self, now_us: int) -> int:
        """Answers that are under way, those that wait included."""
        return len(self._live) if self.answering(now_us) else 0

    def next_pass(self, now_us: int) -> list[Turn]:
        """The turns of the next pass, which no longer wait but for the rest of one cut; empty when nothing waits."""
        answers = self._answers.take(self._most - (self._share if len(self._prompts) else 0))
        for turn in answers:
            self._live.pop(turn.session, None)
            self._live[turn.session] = now_us
        taken = sum(turn.rows for turn in answers)
        prompts = self._prompts.take(min(self._most - taken, self._prompt_rows(now_us)))
        self._last = taken, sum(turn.rows for turn in prompts)
        return [*answers, *prompts]

    def took(self, us: int) -> None:
        """The pass that was made last has run, in so many microseconds."""
        self._pace.took(*self._last, us)

    def _prompt_rows(self, now_us: int) -> int:
        if not self.answering(now_us):
            return self._pace.rows_alone
        beside = self._pace.rows_beside
        return self._most if beside is None else beside
