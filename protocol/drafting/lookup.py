"""Guesses from the text itself: what followed the last time that the same few tokens stood there (prompt lookup).

It costs a few dictionary look-ups a token, and nothing where the text does not repeat itself.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

__all__ = ["MAX_GRAMS", "Lookup"]

ORDERS = (4, 3, 2)
"""How many tokens are looked up, the most telling first."""
MAX_GRAMS = 32_768
"""Places remembered of each order in one sequence; those not seen for longest are forgotten first."""
BITS = 32


class Lookup:
    """One sequence of token ids, and where its runs of a few tokens stood last."""

    def __init__(self) -> None:
        self._tokens = array("I")
        self._after: tuple[dict[int, int], ...] = tuple({} for _ in ORDERS)
        """By order: from a run, as one number, to the position after its latest occurrence that something followed."""

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """So many more tokens stand in the sequence."""
        own = self._tokens
        for token in tokens:
            at = len(own)
            run = 0
            for width in range(1, min(at, ORDERS[0]) + 1):
                run |= own[at - width] << BITS * (width - 1)
                if width in ORDERS:
                    self._remember(self._after[ORDERS.index(width)], run, at)
            own.append(token)

    @staticmethod
    def _remember(after: dict[int, int], run: int, at: int) -> None:
        after.pop(run, None)  # what is put in anew is the last to be forgotten
        after[run] = at
        if len(after) > MAX_GRAMS:
            del after[next(iter(after))]

    def propose(self, guesses: Sequence[int], count: int) -> tuple[int, ...]:
        """Up to `count` ids that may follow the sequence and then `guesses`; none where nothing like it stood there."""
        kept = len(self._tokens)
        tail = [*self._tokens[max(0, kept - ORDERS[0]) :], *guesses]
        found = self._find(tail[-ORDERS[0] :])
        if found is None:
            return ()
        beyond = [*guesses]  # what is guessed may go on from its own beginning: the text repeats itself
        proposed = []
        for at in range(found, found + count):
            token = self._tokens[at] if at < kept else beyond[at - kept]
            proposed.append(token)
            beyond.append(token)
        return tuple(proposed)

    def _find(self, tail: Sequence[int]) -> int | None:
        for after, width in zip(self._after, ORDERS, strict=True):
            if len(tail) >= width:
                run = 0
                for token in tail[-width:]:
                    run = run << BITS | token
                if (at := after.get(run)) is not None:
                    return at
        return None
