"""Guesses from the text of each sequence alone (`node.ports.Drafter`): no model, no worker, microseconds."""

from __future__ import annotations

from collections.abc import Sequence

from node.ports import GREEDY, DraftAsk
from protocol.drafting.lookup import Lookup
from protocol.session.terms import SamplingTerms

__all__ = ["LookupDrafter"]


class LookupDrafter:
    """Proposes what followed the last time that the same tokens stood in the same sequence."""

    instant = True

    def __init__(self) -> None:
        self._sequences: dict[bytes, Lookup] = {}

    def begin(self, session: bytes, *, max_tokens: int, prompt: int = 0, sampling: SamplingTerms = GREEDY) -> None:
        """See `Drafter`. Its memory follows the sequences that are open, each bounded."""
        self._sequences[session] = Lookup()

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        """See `Drafter`."""
        if (sequence := self._sequences.get(session)) is not None:
            sequence.extend(tokens)

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        """See `Drafter`."""
        found = [self._sequences.get(ask.session) for ask in asks]
        return [
            () if sequence is None else sequence.propose(ask.guesses, ask.wanted)
            for sequence, ask in zip(found, asks, strict=True)
        ]

    def end(self, session: bytes) -> None:
        """See `Drafter`."""
        self._sequences.pop(session, None)
