"""What is done to logits before a token is drawn, in double precision (docs/spec/audit.md, clause F8)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from protocol.errors import RefusedError
from protocol.session.shaping import NOTHING_BEFORE, LookBack, Shaping
from protocol.session.shaping_bounds import MAX_BIAS_MILLI, MAX_PENALTY_MILLI, NO_REPETITION_MILLI

__all__ = ["Shaper"]

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
Scores = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class Shaper:
    """Terms' shaping, made ready for many draws.

    Args:
        allowed: which tokens may come after an answer that is held to a grammar; None where nobody here can say.
    """

    def __init__(self, shaping: Shaping, allowed: Callable[[LookBack], Mask] | None = None) -> None:
        self._held = shaping.grammar is not None
        self._allowed = allowed
        self._repetition = shaping.repetition_milli
        self._frequency = shaping.frequency - MAX_PENALTY_MILLI
        self._presence = shaping.presence - MAX_PENALTY_MILLI
        self._counts = shaping.counts
        self.looks_back = shaping.looks_back
        """Whether it depends on the tokens before."""
        self._biased = np.array([each.token for each in shaping.biases], dtype=np.int64)
        self._lifts = np.array([each.lift - MAX_BIAS_MILLI for each in shaping.biases], dtype=np.float64) / 1000

    @property
    def stretch(self) -> float:
        """By how much more than a logit what is made of it can differ, at most."""
        return max(self._repetition / 1000, 1000 / self._repetition)

    def shape(self, logits: Scores, before: LookBack = NOTHING_BEFORE) -> Scores:
        """What is drawn from in the place of these logits, ``[vocabulary]``.

        Raises RefusedError: the answer cannot be held to its grammar here.
        """
        shaped = logits.copy()
        known = self._biased < len(shaped)
        shaped[self._biased[known]] += self._lifts[known]
        answer = np.array(before.answer, dtype=np.int64)
        if self._repetition != NO_REPETITION_MILLI:
            ids = np.union1d(before.prompt, answer)
            ids = ids[ids < len(shaped)]
            values = shaped[ids]
            shaped[ids] = np.where(values > 0, values * 1000 / self._repetition, values * self._repetition / 1000)
        if self._counts and len(answer):
            ids, times = np.unique(answer[answer < len(shaped)], return_counts=True)
            shaped[ids] -= (times * self._frequency + self._presence) / 1000
        if self._held:
            if self._allowed is None:
                raise RefusedError("answers cannot be held to a grammar here", code="grammar")
            shaped[~self._allowed(before)] = -np.inf
        return shaped
