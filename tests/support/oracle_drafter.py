"""A drafter that knows the answer, and is right as often as it is told to be: by seed and position, so always alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from node.ports import GREEDY, DraftAsk
from protocol.session.terms import SamplingTerms

Following = Callable[[Sequence[int]], int]
"""The token that follows a sequence."""


def chance(seed: int, position: int) -> float:
    """A number in [0, 1) that follows from a seed and a position alone."""
    digest = hashlib.sha256(f"{seed} {position}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


class OracleDrafter:
    """Right with probability `right`; else it says the right token and one.

    Args:
        following: what the model says.
        instant: whether it is asked on the spot, or in the worker.
    """

    def __init__(self, following: Following, right: float, *, seed: int = 1, instant: bool = True) -> None:
        self.instant = instant
        self.right = right
        self.asked = 0
        self.sequences: dict[bytes, list[int]] = {}
        self._following = following
        self._seed = seed

    def begin(self, session: bytes, *, max_tokens: int, prompt: int = 0, sampling: SamplingTerms = GREEDY) -> None:
        self.sequences[session] = []

    def extend(self, session: bytes, tokens: Sequence[int]) -> None:
        if session in self.sequences:
            self.sequences[session].extend(tokens)

    def propose(self, asks: Sequence[DraftAsk]) -> list[tuple[int, ...]]:
        self.asked += 1
        return [self._one(ask) for ask in asks]

    def end(self, session: bytes) -> None:
        self.sequences.pop(session, None)

    def _one(self, ask: DraftAsk) -> tuple[int, ...]:
        tokens = [*self.sequences[ask.session], *ask.guesses]
        found = []
        for _ in range(ask.wanted):
            token = self._following(tokens)
            if chance(self._seed, len(tokens)) >= self.right:
                token += 1
            found.append(token)
            tokens.append(token)
        return tuple(found)
