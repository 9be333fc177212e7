"""What the last leg's draws look back on: what its client tells it of the prompt, and the answer so far; and what it
drew itself, which no client may say otherwise when the session takes another way.

A client that tells another thing than the terms name is refused, so that nobody can have an honest leg draw otherwise
than an auditor will (docs/spec/session.md, clause N8).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protocol.errors import MalformedError
from protocol.session.frames import Told
from protocol.session.shaping import LookBack, Shaping, told_of
from protocol.session.terms import Plan

__all__ = ["LookingBack"]


class LookingBack:
    """Of one session at a leg that may draw.

    Args:
        shaping: of the terms; None where draws look at nothing.
        draws: whether this leg holds the model's last block.
    """

    def __init__(self, plan: Plan, shaping: Shaping | None, *, draws: bool) -> None:
        self.active = draws and shaping is not None and shaping.looks_back
        """Whether there is anything to look back on."""
        self._draws = draws
        self._plan = plan
        self._shaping = shaping
        self._told = bytearray()
        self._prompt: LookBack | None = None
        self._answer: list[int] = []
        self._since = 0
        """Where the tokens begin that are known here, in an answer that nothing looks back on."""
        self._told_answer = False
        """Whether the client has said all of the answer that came before this leg."""
        if shaping is None or shaping.told is None:
            self._prompt = told_of(shaping, b"")

    @property
    def ready(self) -> bool:
        """Whether the prompt is known, as far as draws look back on it."""
        return not self.active or self._prompt is not None

    def take(self, frame: Told, ids: bytes, *, serves: bool) -> None:
        """What the client tells. Raises MalformedError for what is not due, or not what the terms name.

        Args:
            serves: whether this leg is on the route: then it knows what it drew, and is told no other answer.
        """
        if not self.active or len(ids) % 4 or not ids or (frame.answer and serves):
            raise MalformedError("ids that nobody has to know")
        if frame.answer:
            if self._told_answer:
                self._answer.clear()
            self._told_answer = frame.last
            self._answer.extend(np.frombuffer(ids, dtype="<u4").tolist())
            if len(self._answer) > self._plan.most:
                raise MalformedError("more tokens than were ordered")
            return
        self._told += ids
        if self._prompt is not None or len(self._told) > 8 * self._plan.prompt:
            raise MalformedError("more is said of the prompt than there is to know")
        if frame.last:
            self._prompt = told_of(self._shaping, bytes(self._told))
            self._told.clear()

    def before(self, position: int) -> LookBack | None:
        """What a draw of the token at a position looks back on."""
        if not self.active or self._prompt is None:
            return None
        return self._prompt.with_more(self._answer[: position - self._plan.prompt])

    def drawn(self, position: int, tokens: Sequence[int]) -> None:
        """These tokens stand from a position on; those that are known already are passed over."""
        if not self._draws:
            return
        index = max(0, position - self._plan.prompt)
        if not self._answer and not self.active:
            self._since = index
        self._answer.extend(tokens[max(0, self._since + len(self._answer) - index) :])

    def take_up(self, position: int, known: Sequence[int], *, joins: bool) -> None:
        """The answer goes on from a position, where the client knows some tokens after it.

        Args:
            joins: whether this leg was not on the route before: then others have drawn them.

        Raises MalformedError: others were drawn here, or fewer, which this leg would now sign for, or draws look back
        on what is not known.
        """
        stood = max(0, position - self._plan.prompt)
        end = self._since + len(self._answer)
        first, last = max(stood, self._since), min(stood + len(known), end)
        drawn = self._answer[first - self._since : max(first, last) - self._since]
        more = not joins and stood + len(known) > max(stood, end)
        if drawn != list(known[first - stood : max(first, last) - stood]) or more or (self.active and stood > end):
            raise MalformedError("other tokens are said to stand than were drawn")
        before = self._answer[: stood - self._since] if self._since <= stood <= end else []
        self._since, self._answer = stood - len(before), [*before, *known]
