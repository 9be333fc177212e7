"""Whose rows form the next forward pass: integers only; it knows no job, no engine and no clock.

Short turns (a decode step, or a few drafted tokens) go before long ones (prompt chunks), each kind first come first
served. A long turn is cut to the room that is left; what remains keeps its place. So a long prompt never holds up
decoding sessions, and many decoding sessions never hold up a prompt: while one waits, it gets a share of every pass.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["SHORT_ROWS", "Scheduler", "Turn"]

SHORT_ROWS = 8
"""Turns up to this length run whole, before longer ones: a decode step, or a few drafted tokens to verify."""


class Turn(NamedTuple):
    """So many rows of one session run in the next pass."""

    session: bytes
    rows: int


class Scheduler:
    """The sessions that have rows ready, in order of arrival.

    Args:
        max_rows: most rows in one pass, at least 1.
    """

    def __init__(self, max_rows: int) -> None:
        if max_rows < 1:
            raise ValueError(f"{max_rows} rows a pass are too few")
        self._most = max_rows
        self._share = max_rows // 4  # of each pass, for long turns while any waits
        self._short_rows = min(SHORT_ROWS, max_rows - self._share)
        self._ready: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def ready(self, session: bytes, rows: int) -> None:
        """How many rows of a session could run now, in all; 0 for none. One that waits already keeps its place."""
        if rows > 0:
            self._ready[session] = rows
        else:
            self._ready.pop(session, None)

    def next_pass(self) -> list[Turn]:
        """The turns of the next pass, which no longer wait but for the rest of one cut; empty when nothing waits."""
        short = [Turn(*each) for each in self._ready.items() if each[1] <= self._short_rows]
        long = [Turn(*each) for each in self._ready.items() if each[1] > self._short_rows]
        room = self._most
        kept = self._share if long else 0
        turns = []
        for turn in short:
            if turn.rows > room - kept:
                break
            room -= turn.rows
            del self._ready[turn.session]
            turns.append(turn)
        for turn in long:
            rows = min(turn.rows, room)
            if rows == 0:
                break
            room -= rows
            if rows < turn.rows:
                self._ready[turn.session] -= rows
            else:
                del self._ready[turn.session]
            turns.append(Turn(turn.session, rows))
        return turns
