"""What a client remembers of a session that another one may go on from: its tokens, and who held what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from node.pipeline.buying.job import JobResult
from protocol.identity.ids import BlockSpan
from protocol.session.terms import Continuation

__all__ = ["Earlier"]


@dataclass(frozen=True, slots=True)
class Earlier:
    """A session that is over."""

    session: bytes
    """Its id."""
    tokens: tuple[int, ...]
    """Its whole sequence, prompt first, as far as it came."""
    proven: int
    """Positions that every leg has signed for: with more than these nobody could judge what follows (audit.md, F11)."""
    legs: tuple[tuple[bytes, BlockSpan], ...]
    """Public key and blocks of each leg that served last, in the order of the route."""

    @classmethod
    def of(cls, result: JobResult) -> Self | None:
        """What is left of a job; None where no leg took it, so that nobody holds anything."""
        if not result.acceptances:
            return None
        terms = result.deal.terms
        legs = tuple((terms.legs[each.leg].public_key, each.span) for each in result.tab.book.route)
        tab = result.tab
        return cls(session=tab.id, tokens=tuple(tab.tokens), proven=tab.proven, legs=legs)

    def continued_by(self, prompt: Sequence[int]) -> Continuation | None:
        """How a prompt goes on from it; None where they do not even begin alike.

        The last token of a prompt is computed whatever is held: the first one of the answer comes of it.
        """
        same = 0
        for mine, other in zip(self.tokens[: self.proven], prompt[:-1], strict=False):
            if mine != other:
                break
            same += 1
        return Continuation(session=self.session, positions=same) if same else None
