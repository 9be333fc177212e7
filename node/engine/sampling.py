"""Which token follows: a function of the logits, a temperature, a seed and a position, and of nothing else.

``argmax(logits / T + Gumbel(seed, position))``, in float64 over fp32 logits, is a draw from the softmax at
temperature T. The noise comes from the counter-based generator Philox 4x64-10 keyed by (seed, position), its counter
starting at 1, four tokens a block; so a draw depends on no earlier draw: neither batching nor drafting can change it,
and an auditor repeats any one of them (docs/spec/audit.md, clause F8). T = 0 is greedy. Among equal scores the
lowest token id wins. Where the likeliest tokens only may be drawn, the others have no score; an auditor, whose logits
differ by rounding, does not say which side of the cut a token at its edge is on (`margin`). Terms may have logits
changed first, by biases and by the tokens before (`node.engine.shaping`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from node.engine.logprobs import likeliest
from node.engine.shaping import Shaper
from node.ports import Activations
from protocol.session.shaping import NOTHING_BEFORE, LookBack
from protocol.session.terms import WHOLE_PPM, SamplingTerms

__all__ = ["Sampling", "draw", "margin", "scores"]

MOST_MARGIN = 1e4
"""Logits; beyond it a token could not have been drawn at all."""


Scores = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a session's tokens are drawn."""

    temperature_milli: int
    """Temperature in thousandths; 0 is greedy."""
    seed: int
    """Below 2**64."""
    top_p_ppm: int = WHOLE_PPM
    """Millionths of the probability that the tokens have together which may be drawn."""
    top_k: int = 0
    """How many tokens may be drawn; 0 for any number."""
    shaper: Shaper | None = None
    """What is done to logits first."""
    logprobs: int | None = None
    """So many of the likeliest tokens are named beside each that is drawn; None for nothing of that."""

    @classmethod
    def of(cls, terms: SamplingTerms) -> Self:
        """As terms say."""
        shaper = None if terms.shaping is None else Shaper(terms.shaping)
        return cls(terms.temperature_milli, terms.seed, terms.top_p_ppm, terms.top_k, shaper, terms.logprobs)

    def __post_init__(self) -> None:
        if self.temperature_milli < 0 or not 0 <= self.seed < 1 << 64:
            raise ValueError(f"{self} is out of range")
        if not 0 <= self.top_p_ppm <= WHOLE_PPM or self.top_k < 0:
            raise ValueError(f"{self} is out of range")

    @property
    def cuts(self) -> bool:
        """Whether some tokens cannot be drawn. The greedy one always can."""
        return self.temperature_milli > 0 and (self.top_p_ppm < WHOLE_PPM or self.top_k > 0)

    @property
    def looks_back(self) -> bool:
        """Whether a draw depends on the tokens before."""
        return self.shaper is not None and self.shaper.looks_back

    @property
    def temperature(self) -> float:
        """What logits are divided by: 1 where the draw is greedy."""
        return self.temperature_milli / 1000 if self.temperature_milli else 1.0


def scores(logits: Activations, sampling: Sampling, position: int, before: LookBack = NOTHING_BEFORE) -> Scores:
    """What the drawn token is the maximum of, ``[vocabulary]``.

    Args:
        logits: fp32, ``[vocabulary]``.
        sampling: temperature and seed.
        position: where the drawn token will stand in the sequence; the prompt's first token stands at 0.
        before: the tokens before it, where they matter.
    """
    return _scores(_shaped(logits, sampling, before), sampling, position)


def _shaped(logits: Activations, sampling: Sampling, before: LookBack) -> Scores:
    exact = logits.astype(np.float64)
    return exact if sampling.shaper is None else sampling.shaper.shape(exact, before)


def _scores(exact: Scores, sampling: Sampling, position: int) -> Scores:
    if sampling.temperature_milli == 0:
        return exact
    key = np.array([sampling.seed, position], dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw(len(exact))
    # The middle of one of 2**53 equal steps: never 0 and never 1, so both logarithms are finite.
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    drawn = exact * 1000 / sampling.temperature_milli - np.log(-np.log(uniform))
    return np.where(_kept(exact, sampling), drawn, -np.inf) if sampling.cuts else drawn


def _kept(exact: Scores, sampling: Sampling) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which tokens may be drawn, ``[vocabulary]``: the likeliest first, of equal ones the lowest id."""
    if sampling.top_p_ppm == WHOLE_PPM:
        some = np.zeros(len(exact), dtype=np.bool_)
        some[likeliest(exact, sampling.top_k)] = True
        return some
    order = np.argsort(-exact, kind="stable")
    mass = _masses(exact[order], sampling)
    first = mass[:-1] * WHOLE_PPM < sampling.top_p_ppm * mass[-1]
    first[0] = True
    if sampling.top_k:
        first[sampling.top_k :] = False
    kept = np.zeros(len(exact), dtype=np.bool_)
    kept[order[first]] = True
    return kept


def _masses(falling: Scores, sampling: Sampling) -> Scores:
    """What the tokens before each one weigh together, ``[vocabulary + 1]``; the last is all of them."""
    weights = np.exp((falling - falling[0]) * 1000 / sampling.temperature_milli)
    return np.concatenate([[0.0], np.cumsum(weights)])


def margin(
    logits: Activations, sampling: Sampling, position: int, token: int, before: LookBack = NOTHING_BEFORE
) -> float:
    """By how much logits would have to differ from these for another token to be drawn, as a difference of two of them.

    0 where it is the one that these draw. Without a cut that is what its score lacks, times the temperature. With one
    it is the least d for which the token may be among those that can be drawn, and lacks no more than d of any that
    then certainly is, if the logits are within d / 2 of these (docs/spec/audit.md, clause F7). Where logits are changed
    first it is that of what they become, divided by how much further apart these can be.
    """
    found = _margin(_shaped(logits, sampling, before), replace(sampling, shaper=None), position, token)
    return found if sampling.shaper is None else found / sampling.shaper.stretch


def _margin(exact: Scores, sampling: Sampling, position: int, token: int) -> float:
    if not sampling.cuts:
        values = _scores(exact, sampling, position)
        return float(values.max() - values[token]) * sampling.temperature
    if int(np.argmax(_scores(exact, sampling, position))) == token:
        return 0.0
    edge = _Edge(exact, sampling, position, token)
    high = 1e-6
    while not edge.may_be_drawn(high):
        high *= 2
        if high > MOST_MARGIN:
            return MOST_MARGIN
    low = high / 2
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if edge.may_be_drawn(middle) else (middle, high)
    return high


class _Edge:
    """One draw with a cut, and a token that these logits do not draw."""

    def __init__(self, exact: Scores, sampling: Sampling, position: int, token: int) -> None:
        order = np.argsort(-exact, kind="stable")
        whole = Sampling(sampling.temperature_milli, sampling.seed)
        self._sampling = sampling
        self._falling = exact[order]
        self._rising = -self._falling
        self._scores = _scores(exact, whole, position)[order]
        self._masses = _masses(self._falling, sampling)
        self._token = int(np.flatnonzero(order == token)[0])

    def may_be_drawn(self, d: float) -> bool:
        """Whether logits within d / 2 of these could draw it."""
        mine = self._falling[self._token]
        above = int(np.searchsorted(self._rising, -(mine + d), side="left"))
        if not bool(self._is_kept(np.array([above]), self._masses[[above]], -d)[0]):
            return False
        # Those that are certainly kept: even if all that may stand before them do, and weigh more.
        before = np.searchsorted(self._rising, -(self._falling - d), side="right")
        mass = self._masses[before] - np.diff(self._masses)
        certain = self._scores[self._is_kept(before - 1, mass, d)]
        lacks = float(certain.max(initial=-np.inf)) - self._scores[self._token]
        return bool(lacks * self._sampling.temperature <= d)

    def _is_kept(
        self, before: np.ndarray[tuple[int, ...], np.dtype[np.int64]], mass: Scores, d: float
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Whether tokens may be drawn that so many stand before, with so much mass that weighs exp(d / T) more."""
        sampling, total = self._sampling, self._masses[-1]
        heavier = mass * np.exp(np.clip(d / sampling.temperature, -700.0, 700.0))
        kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
        kept = (before <= 0) | (heavier * WHOLE_PPM < sampling.top_p_ppm * (heavier + total - mass))
        if sampling.top_p_ppm == WHOLE_PPM:
            kept = np.ones(len(mass), dtype=np.bool_)
        if sampling.top_k:
            kept &= before < sampling.top_k
        return kept


def draw(logits: Activations, sampling: Sampling, position: int, before: LookBack = NOTHING_BEFORE) -> int:
    """The token id that follows; arguments as for `scores`."""
    return int(np.argmax(scores(logits, sampling, position, before)))
