"""How far the shaping of draws may go (`protocol.session.shaping`); for whoever reads settings, too."""

from __future__ import annotations

__all__ = [
    "LEAST_REPETITION_MILLI",
    "MAX_BIASES",
    "MAX_BIAS_MILLI",
    "MAX_PENALTY_MILLI",
    "MAX_REPETITION_MILLI",
    "NO_REPETITION_MILLI",
]

MAX_BIASES = 300
MAX_BIAS_MILLI = 100_000
MAX_PENALTY_MILLI = 2_000
NO_REPETITION_MILLI = 1_000
LEAST_REPETITION_MILLI, MAX_REPETITION_MILLI = 100, 10_000
