"""What a last leg has said of the tokens that it drew: no client may say otherwise when a session takes another way.

A leg signs for the log probabilities of a window with its tokens. Those of tokens that stand come back to it with the
client's word where a window is computed again (docs/spec/session.md, clause H5): it holds them against what it said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from node.pipeline.serving.rows import Known
from protocol.errors import MalformedError
from protocol.session.logprobs import check_said
from protocol.session.terms import Plan

__all__ = ["Saying"]


class Saying:
    """Of one session at one leg.

    Args:
        top: of the terms; None where nothing is said of tokens.
    """

    def __init__(self, plan: Plan, top: int | None) -> None:
        self._top = top
        # No more than this can be taken back: a leg computes nothing while so many windows lack their seeds.
        self._said: deque[tuple[int, bytes]] = deque(maxlen=(plan.ahead + 2) * plan.window + 1)
        """By position, of the newest tokens."""

    def drawn(self, position: int, said: Sequence[bytes]) -> None:
        """This was said of the tokens from a position on."""
        self._said.extend(enumerate(said, position))

    def take_up(self, position: int, known: Known, *, joins: bool) -> None:
        """The session goes on with these tokens from a position on.

        Args:
            joins: whether this leg was not on the route before: it cannot know better.

        Raises:
            MalformedError: another thing was said here, or not one for each token.
            DishonestError: it is nothing that can be said of these tokens.
        """
        if len(known.said) != (0 if self._top is None else len(known.tokens)):
            raise MalformedError("not the log probabilities of each token that stands")
        before = dict(self._said)
        for at, (token, each) in enumerate(zip(known.tokens, known.said, strict=False), position):
            check_said(each, token=token, top=self._top)
            if not joins and before.get(at) != each:
                raise MalformedError("other log probabilities are said to stand than were said here")
        self._said.clear()
        self._said.extend((at, each) for at, each in before.items() if at < position)
        self.drawn(position, known.said)
