"""Examples to training batches: several examples side by side in each row, none of which sees another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from scripts.demo_model.corpus import Example
from scripts.demo_model.tokens import END_ID

PROMPT_WEIGHT = 0.01
"""Loss weight of a prompt's tokens: reading stories teaches too, but most of their words are chance."""
COMPLETION_WEIGHTS = {
    "story": 2.5,
    "facts": 2.5,
    "write": 0.2,
    "add": 2.0,
    "subtract": 2.0,
    "copy": 2.0,
    "reverse": 2.0,
    "other": 0.2,
    "drill": 1.0,
}
"""Loss weight of a completion's tokens. Stories that the model writes are part chance; sums are short and hard."""
WAITING = 48
"""Examples held back while a row is filled, from which the one that fits best is taken."""


@dataclass(frozen=True, slots=True)
class Batch:
    """All tensors are [rows, length] but `mask`."""

    tokens: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    """[rows, 1, length, length]: whether a token (third axis) may look at another (last axis)."""


def encode_example(tokenizer: Tokenizer, example: Example) -> tuple[list[int], list[float]]:
    """Token ids of all turns, each closed by END, and the loss weight of each of them."""
    ids: list[int] = []
    weights: list[float] = []
    for turn in (example.first, *example.more):
        prompt = tokenizer.encode(turn.prompt).ids
        completion = [*tokenizer.encode(turn.completion).ids, END_ID]
        ids += prompt + completion
        weights += [PROMPT_WEIGHT] * len(prompt) + [COMPLETION_WEIGHTS[example.task]] * len(completion)
    return ids, weights


def batches(tokenizer: Tokenizer, examples: Iterable[Example], rows: int, length: int) -> Iterator[Batch]:
    """Batches of `rows` rows of `length` tokens; an example of more than `length` tokens is left out."""
    source = (encoded for encoded in (encode_example(tokenizer, e) for e in examples) if len(encoded[0]) <= length)
    waiting = [next(source) for _ in range(WAITING)]
    while True:
        batch = Batch(
            tokens=torch.zeros(rows, length, dtype=torch.long),
            targets=torch.zeros(rows, length, dtype=torch.long),
            weights=torch.zeros(rows, length),
            positions=torch.arange(length).repeat(rows, 1),
            mask=torch.ones(rows, 1, length, length, dtype=torch.bool).tril(),
        )
        for row in range(rows):
            start = 0
            while True:
                room = length - start
                index = next((i for i, (ids, _) in enumerate(waiting) if len(ids) <= room), None)
                if index is None:
                    break
                ids, weights = waiting.pop(index)
                waiting.append(next(source))
                _place(batch, row, start, ids, weights)
                start += len(ids)
        yield batch


def _place(batch: Batch, row: int, start: int, ids: list[int], weights: list[float]) -> None:
    stop = start + len(ids)
    batch.tokens[row, start:stop] = torch.tensor(ids)
    batch.targets[row, start : stop - 1] = torch.tensor(ids[1:])
    batch.weights[row, start : stop - 1] = torch.tensor(weights[1:])
    batch.positions[row, start:stop] = torch.arange(len(ids))
    batch.mask[row, 0, start:, :start] = False
