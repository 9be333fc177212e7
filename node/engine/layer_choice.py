"""Which layers of a model make the best draft for it.

Layers are left out one by one, each time the one whose loss costs the least agreement with the whole model. Nothing is
trained, and the first layer always stays. What is compared is the likeliest next token after each position of a sample:
where both agree, a draft is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from node.engine.engine import Engine
from node.engine.kv import PAGE_TOKENS
from node.engine.span import Span
from node.ports import StepInput, StepOutput
from protocol.units import MICRO

__all__ = ["LayerChoice", "choose_layers", "evenly"]

_SESSION = b"sample"
_LOGITS = 64
"""Rows whose logits are in memory at once."""
_Tokens = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """Some layers of a model, as a draft for it."""

    layers: tuple[int, ...]
    """Ascending."""
    agreement_ppm: int
    """Share of the sample's positions at which they find the same token likeliest as the whole model, in millionths."""


def choose_layers(span: Span, sample: Sequence[int], kept: int) -> LayerChoice:
    """Leave layers of a whole model out until so many are left.

    Args:
        sample: token ids of a text as the model will be asked for.
    """
    whole = _likeliest(span, sample)
    best = LayerChoice(tuple(span.blocks), MICRO)
    while len(best.layers) > kept:
        found = []
        for left_out in best.layers[1:]:
            layers = tuple(each for each in best.layers if each != left_out)
            same = _likeliest(span.of_layers(layers), sample) == whole
            found.append(LayerChoice(layers, round(float(same.mean()) * MICRO)))
        best = max(found, key=lambda each: each.agreement_ppm)  # of equal ones that without the earliest layer
    return best


def evenly(span: Span, sample: Sequence[int], kept: int) -> LayerChoice:
    """As many layers, the first and the last among them and the others evenly between."""
    blocks = len(span.blocks)
    layers = (0,) if kept == 1 else tuple(each * (blocks - 1) // (kept - 1) for each in range(kept))
    same = _likeliest(span.of_layers(layers), sample) == _likeliest(span, sample)
    return LayerChoice(layers, round(float(same.mean()) * MICRO))


def _likeliest(span: Span, sample: Sequence[int]) -> _Tokens:
    engine = Engine(span, kv_tokens=len(sample) + PAGE_TOKENS)
    engine.open(_SESSION, max_tokens=len(sample))
    found: list[_Tokens] = []
    for start in range(0, len(sample), engine.max_rows):
        data = tuple(sample[start : start + engine.max_rows])
        item = StepInput(session=_SESSION, position=start, length=len(data), data=data, draws=0)
        (output,) = engine.forward([item])
        if not isinstance(output, StepOutput):
            raise output
        for at in range(0, len(data), _LOGITS):
            found.append(span.logits(np.ascontiguousarray(output.hidden[at : at + _LOGITS])).argmax(1))
    return np.concatenate(found)
