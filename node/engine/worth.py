"""What a model is worth in one precision: questions that it answers, a text that it reads, how far it is from fp32.

Answers are chosen, not written: of four, the one that the model finds likeliest by the byte. So no question depends on
luck in drawing, and a small model has a score, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from node.ports import Activations, StepInput, StepOutput
from protocol.errors import ModelError
from protocol.units import MICRO

if TYPE_CHECKING:
    from node.engine.engine import Engine

__all__ = ["KEPT", "Encode", "Question", "Worth", "worth_of"]

KEPT = 96
"""Positions of the text whose probabilities are compared with fp32's: each takes 4 bytes a token of the vocabulary."""
MOST_TEXT = 512
"""Tokens of the text that are read."""
_LOGITS = 64
"""Rows whose logits are in memory at once."""
_SESSION = b"worth"
_Z = 1.96

Encode = Callable[[str, bool], Sequence[int]]
"""Token ids of a text, with or without what begins every sequence."""
Measured = tuple["Worth", Activations]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and answers of which the first one is right."""

    ask: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """Of one model in one precision."""

    questions: int
    """That were asked."""
    right: int
    """Of them."""
    low_ppm: int
    """Lower end of the share that is right, in millionths: 95 % by Wilson's interval."""
    high_ppm: int
    """Upper end."""
    text_tokens: int
    """Of the text that was read."""
    perplexity_milli: int
    """Of the text, in thousandths; of a token."""
    divergence_micronats: int | None
    """Mean Kullback-Leibler divergence of the text's next tokens from fp32's, in millionths of a nat; null for fp32."""
    agreement_ppm: int | None
    """Share of the text's positions at which fp32's likeliest token is the likeliest here, too."""

    @property
    def accuracy(self) -> float:
        """Share of questions."""
        return self.right / self.questions


def worth_of(
    engine: Engine, encode: Encode, questions: Sequence[Question], text: str, exact: Activations | None
) -> Measured:
    """Ask and read, with a whole model.

    Args:
        exact: what this returned besides for fp32; None for fp32 itself.

    Returns:
        The worth, and log probabilities of `KEPT` positions of the text.
    """
    right = sum(_chosen(engine, encode, each) == 0 for each in questions)
    begin = list(encode(text, True))[: min(MOST_TEXT, engine.facts.max_context, engine.kv_capacity)]
    kept: list[Activations] = []
    nats = 0.0
    every = max(1, len(begin) // KEPT)
    for at, logs in _read(engine, begin):
        nats -= sum(float(row[begin[at + n + 1]]) for n, row in enumerate(logs) if at + n + 1 < len(begin))
        kept.extend(row for n, row in enumerate(logs) if (at + n) % every == 0 and len(kept) < KEPT)
    probabilities = np.stack(kept)
    low, high = _wilson(right, len(questions))
    divergence, agreement = (None, None) if exact is None else _apart(exact, probabilities)
    return Worth(
        questions=len(questions),
        right=right,
        low_ppm=low,
        high_ppm=high,
        text_tokens=len(begin),
        perplexity_milli=round(1000 * math.exp(min(50.0, nats / max(1, len(begin) - 1)))),
        divergence_micronats=divergence,
        agreement_ppm=agreement,
    ), probabilities


def _chosen(engine: Engine, encode: Encode, question: Question) -> int:
    """Which answer is likeliest by the byte."""
    asked = list(encode(question.ask, True))
    answers = [list(encode(choice, False)) for choice in question.choices]
    found = []
    for choice, answer, logs in zip(question.choices, answers, _answered(engine, asked, answers), strict=True):
        nats = sum(float(row[token]) for row, token in zip(logs, answer, strict=True))
        found.append(nats / max(1, len(choice.encode())))
    return int(np.argmax(found))


def _answered(engine: Engine, asked: Sequence[int], answers: Sequence[Sequence[int]]) -> Iterator[Activations]:
    """For each answer the log probabilities at its tokens: all in one pass where they fit."""
    whole = [(*asked, *answer)[: engine.facts.max_context] for answer in answers]
    if any(len(ids) != len(asked) + len(answer) for ids, answer in zip(whole, answers, strict=True)):
        raise ModelError("the model's context is too short for questions", hint="a model for answers has hundreds")
    together = engine.max_rows // max(map(len, whole))
    for at in range(0, len(whole), max(1, together)):
        part = whole[at : at + max(1, together)]
        for ids, rows in zip(part, _rows(engine, part), strict=True):
            yield _logs(engine.span.logits(np.ascontiguousarray(rows[len(asked) - 1 : len(ids) - 1])))


def _rows(engine: Engine, sequences: Sequence[Sequence[int]]) -> list[Activations]:
    items = []
    for number, ids in enumerate(sequences):
        name = b"%s %d" % (_SESSION, number)
        engine.open(name, max_tokens=len(ids))
        items.append(StepInput(session=name, position=0, length=len(ids), data=ids, draws=0))
    try:
        outputs = engine.forward(items)
    finally:
        for item in items:
            engine.close(item.session)
    found = []
    for output in outputs:
        if not isinstance(output, StepOutput):
            raise output
        found.append(output.hidden)
    return found


def _read(engine: Engine, ids: Sequence[int]) -> Iterator[tuple[int, Activations]]:
    """Log probabilities of what follows each position, some rows at a time."""
    engine.open(_SESSION, max_tokens=len(ids))
    try:
        for start in range(0, len(ids), engine.max_rows):
            data = tuple(ids[start : start + engine.max_rows])
            item = StepInput(session=_SESSION, position=start, length=len(data), data=data, draws=0)
            (output,) = engine.forward([item])
            if not isinstance(output, StepOutput):
                raise output
            for at in range(start, start + len(data), _LOGITS):
                rows = output.hidden[at - start : at - start + _LOGITS]
                yield at, _logs(engine.span.logits(np.ascontiguousarray(rows)))
    finally:
        engine.close(_SESSION)


def _logs(logits: Activations) -> Activations:
    raised = logits - logits.max(1, keepdims=True)
    found: Activations = raised - np.log(np.exp(raised).sum(1, keepdims=True))
    return found


def _apart(exact: Activations, other: Activations) -> tuple[int, int]:
    weights = np.exp(exact.astype(np.float64))
    nats = (weights * (exact.astype(np.float64) - other)).sum(1)
    same = exact.argmax(1) == other.argmax(1)
    return max(0, round(float(nats.mean()) * MICRO)), round(float(same.mean()) * MICRO)


def _wilson(right: int, asked: int) -> tuple[int, int]:
    share, z = right / asked, _Z
    middle = (share + z * z / (2 * asked)) / (1 + z * z / asked)
    half = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked)) / (1 + z * z / asked)
    return max(0, round((middle - half) * MICRO)), min(MICRO, round((middle + half) * MICRO))
