"""Tokens that are guessed ahead: how their ids are hidden on the way, what is under way, and which of them stand.

The first leg guesses, the last one verifies. Rows of guessed tokens go round the ring before anybody knows whether the
guesses are right; the last leg draws after each row as it would without them, keeps the longest prefix of rows whose
tokens are those that it drew, and forgets the rest. So guesses change how fast tokens come, never which
(docs/spec/session.md, clause H9).

Ids of guesses pass through the middle legs masked: those see activations only, drafted ahead or not.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.errors import MalformedError

__all__ = ["ID_BYTES", "Guessing", "Launch", "Mask", "Verifying"]

_MASK = b"joulemesh drafts\n"
ID_BYTES = 4
"""Of a guessed token's id."""


@dataclass(frozen=True, slots=True)
class Mask:
    """Hides ids of one session's guesses from whoever lacks the secret. Each id is hidden by itself."""

    secret: bytes = field(repr=False)
    """32 bytes that the client gives to the first and to the last leg."""
    session: bytes

    def hide(self, ids: Sequence[int], *, route: int, flight: int, position: int) -> bytes:
        """As they travel: 32 bits each, little-endian, under a stream that only both ends can make.

        Args:
            route: reroutes in force, so that a new first leg begins with numbers of its own.
            flight: of the launch that they are in; on one route no two have the same.
            position: of the first of them.
        """
        return self._masked(struct.pack(f"<{len(ids)}I", *ids), route, flight, position)

    def show(self, data: bytes, *, route: int, flight: int, position: int) -> tuple[int, ...]:
        """What `hide` hid. Raises MalformedError for what is no number of ids."""
        if len(data) % ID_BYTES:
            raise MalformedError(f"{len(data)} bytes of drafts are not a number of token ids")
        return struct.unpack(f"<{len(data) // ID_BYTES}I", self._masked(data, route, flight, position))

    def _masked(self, data: bytes, route: int, flight: int, position: int) -> bytes:
        launch = hashlib.shake_256(_MASK + self.secret + self.session + bytes([route]) + flight.to_bytes(4, "big"))
        parts = []
        for at in range(0, len(data), ID_BYTES):
            own = launch.copy()
            own.update((position + at // ID_BYTES).to_bytes(4, "big"))
            word = int.from_bytes(data[at : at + ID_BYTES], "big") ^ int.from_bytes(own.digest(ID_BYTES), "big")
            parts.append(word.to_bytes(ID_BYTES, "big"))
        return b"".join(parts)


class Launch(NamedTuple):
    """What the first leg sends on its way next."""

    position: int
    """Of the first row."""
    given: int
    """Rows at the beginning whose tokens are certain."""
    guesses: tuple[int, ...]
    """Ids of the rows after them."""

    @property
    def length(self) -> int:
        """Rows."""
        return self.given + len(self.guesses)


@dataclass(slots=True)
class Guessing:
    """The first leg's side of one session: what is certain, and what is under way.

    It counts; the tokens that are certain are kept by whoever uses it.
    """

    depth: int
    """Guessed tokens in one launch, at most."""
    flights: int
    """Launches with guesses under way at once, at most."""
    certain: int = 0
    """Tokens that will not be taken back: at positions 0 to this less one."""
    launched: int = 0
    """Positions whose rows are on their way, or came back."""

    _guesses: deque[int] = field(default_factory=deque)
    """Of positions `certain` to `launched` less one."""
    _ends: deque[int] = field(default_factory=deque)
    """One past the last row of each launch that is not back."""

    @property
    def guesses(self) -> tuple[int, ...]:
        """Tokens that are under way and not certain yet: those after the certain ones."""
        return tuple(self._guesses)

    @property
    def under_way(self) -> int:
        """Launches that are not back."""
        return len(self._ends)

    def room(self, depth: int, flights: int) -> int:
        """Guesses that may be launched now by a choice of depth and flights, within the terms'; 0 for none."""
        return min(depth, self.depth) if len(self._ends) < min(flights, self.flights) else 0

    @property
    def must_launch(self) -> bool:
        """Whether a certain token waits: it is launched with or without guesses."""
        return self.certain > self.launched

    def launch(self, guesses: Sequence[int]) -> Launch:
        """The next rows: the certain tokens that were not launched yet, and so many guesses after them."""
        given = max(0, self.certain - self.launched)
        launch = Launch(self.launched, given, tuple(guesses))
        self._guesses.extend(guesses)
        self.launched += launch.length
        self._ends.append(self.launched)
        return launch

    def give(self, count: int) -> None:
        """So many more tokens are certain without having been guessed: the prompt's."""
        if self._guesses:
            raise MalformedError("tokens are given in the middle of guesses", code="out-of-order")
        self.certain += count

    def take(self, position: int, token: int) -> bool:
        """A token came back from the last leg. Whether it refutes what was guessed, so that all is begun anew from it.

        Raises MalformedError for another position than the next.
        """
        if position != self.certain:
            raise MalformedError(f"a token at {position} where {self.certain} is next", code="out-of-order")
        self.certain += 1
        while self._ends and self._ends[0] < self.certain:
            self._ends.popleft()
        if not self._guesses:
            return False
        if self._guesses.popleft() == token:
            return False
        self._guesses.clear()
        self._ends.clear()
        self.launched = position
        return True


@dataclass(slots=True)
class Verifying:
    """The last leg's side of one session: which rows stand."""

    due: int = 0
    """Rows below stand; the next that counts is this one."""
    drawn: int | None = None
    """The token at `due`, where this leg drew it; None where it is given."""
    refuted: bool = False
    """A guess was wrong: what comes is dropped until the first leg begins anew at `due`."""

    def admits(self, position: int, given: int, guesses: Sequence[int]) -> bool:
        """Whether rows that came are worth running; those that follow from a wrong guess are not.

        Args:
            given: rows at the beginning whose tokens are certain.
            guesses: ids of the others.

        Raises:
            MalformedError: rows that leave a gap, or take back what stands.
        """
        if position < self.due or (position > self.due and not self.refuted):
            raise MalformedError(f"rows at {position} where {self.due} is next", code="out-of-order")
        if position > self.due:
            return False
        if not given and (not guesses or guesses[0] != self.drawn):
            self.refuted = True
            return False
        self.refuted = False
        return True

    def judge(self, given: int, guesses: Sequence[int], drawn: Sequence[int]) -> int:
        """How many rows stand, counted from `due`, of those that were admitted and have run.

        Args:
            drawn: the token after each of the last rows, down to the last given row, or to the last of all.
        """
        rows = given + len(guesses)
        before = rows - len(drawn)  # rows after which nothing was drawn: of the prompt
        stand = max(given, 1)
        while stand < rows and drawn[stand - 1 - before] == guesses[stand - given]:
            stand += 1
        self.due += stand
        self.drawn = drawn[stand - 1 - before] if drawn else None
        self.refuted = stand < rows
        return stand
