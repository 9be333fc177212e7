"""Which token follows: a function of the logits, a temperature, a seed and a position, and of nothing else.

``argmax(logits / T + Gumbel(seed, position))``, in float64 over fp32 logits, is a draw from the softmax at
temperature T. The noise comes from the counter-based generator Philox 4x64-10 keyed by (seed, position), its counter
starting at 1, four tokens a block; so a draw depends on no earlier draw: neither batching nor drafting can change it,
and an auditor repeats any one of them (docs/spec/audit.md, clause F8). T = 0 is greedy. Among equal scores the
lowest token id wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from node.ports import Activations

__all__ = ["Sampling", "draw", "scores"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a session's tokens are drawn."""

    temperature_milli: int
    """Temperature in thousandths; 0 is greedy."""
    seed: int
    """Below 2**64."""

    def __post_init__(self) -> None:
        if self.temperature_milli < 0 or not 0 <= self.seed < 1 << 64:
            raise ValueError(f"{self} is out of range")

    @property
    def temperature(self) -> float:
        """What logits are divided by: 1 where the draw is greedy."""
        return self.temperature_milli / 1000 if self.temperature_milli else 1.0


def scores(logits: Activations, sampling: Sampling, position: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """What the drawn token is the maximum of, ``[vocabulary]``.

    Args:
        logits: fp32, ``[vocabulary]``.
        sampling: temperature and seed.
        position: where the drawn token will stand in the sequence; the prompt's first token stands at 0.
    """
    exact = logits.astype(np.float64)
    if sampling.temperature_milli == 0:
        return exact
    key = np.array([sampling.seed, position], dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw(len(exact))
    # The middle of one of 2**53 equal steps: never 0 and never 1, so both logarithms are finite.
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return exact * 1000 / sampling.temperature_milli - np.log(-np.log(uniform))


def draw(logits: Activations, sampling: Sampling, position: int) -> int:
    """The token id that follows; arguments as for `scores`."""
    return int(np.argmax(scores(logits, sampling, position)))
