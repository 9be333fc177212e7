"""Some consecutive blocks of a model, with the embedding before the first and the norm and head after the last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import embedding

from node.engine.architecture import Architecture
from node.engine.attention import Backend, Store
from node.engine.block import Block, Norm
from node.engine.kv import Batch, Move
from node.engine.matrices import Matrix
from node.model_directory import ModelFacts
from node.ports import Activations
from protocol.models.activations import ActivationType
from protocol.models.precisions import PRECISIONS

__all__ = ["DTYPES", "Span"]

_TORCH = {ActivationType.FP32: torch.float32, ActivationType.BF16: torch.bfloat16}
DTYPES = {name: _TORCH[each.activations] for name, each in PRECISIONS.items()}
"""Precision, as a model manifest names it, and torch's name for what is computed in."""


class Span:
    """The blocks ``[start, end)``, ready to run.

    Args:
        facts: of the whole model.
        shape: of its blocks.
        blocks: these, one after the other.
        dtype: of weights and activations.
        backend: what computes.
        embedding: ``[vocabulary, hidden_size]``, where the span is the first; `dtype` or a narrower one.
        norm: the final norm, in fp32, where it is the last.
        head: ``[vocabulary, hidden_size]`` in fp32, where it is the last.
    """

    def __init__(
        self,
        facts: ModelFacts,
        shape: Architecture,
        blocks: Sequence[Block],
        *,
        dtype: torch.dtype,
        backend: Backend,
        embedding: torch.Tensor | None,
        norm: Norm | None,
        head: Matrix | None,
    ) -> None:
        self.facts = facts
        self.blocks = range(blocks[0].index, blocks[-1].index + 1)
        self.dtype = dtype
        self.layers = list(blocks)
        """In order."""
        self._shape = shape
        self._backend = backend
        self._embedding = embedding
        self._norm = norm
        self._head = head

    def of_layers(self, layers: Sequence[int]) -> Span:
        """A whole model without some of its layers, the first of which stays: the same weights, not a copy."""
        return Span(
            self.facts,
            self._shape,
            [self.layers[each] for each in layers],
            dtype=self.dtype,
            backend=self._backend,
            embedding=self._embedding,
            norm=self._norm,
            head=self._head,
        )

    @property
    def size(self) -> tuple[int, int]:
        """Parameters that a pass goes through, and the bytes of their weights; of the embedding only rows are read."""
        matrices = [each for block in self.layers for each in block.matrices]
        norms = [each.weight for block in self.layers for each in block.norms]
        if self._head is not None:
            matrices.append(self._head)
        if self._norm is not None:
            norms.append(self._norm.weight)
        numbers = sum(each.numbers for each in matrices) + sum(each.numel() for each in norms)
        return numbers, sum(each.nbytes for each in matrices) + sum(each.nbytes for each in norms)

    @property
    def position_bytes(self) -> int:
        """Of the keys and values of one position through all of these blocks."""
        return 2 * self._shape.kv_heads * self._shape.head_dim * len(self.blocks) * self.dtype.itemsize

    @property
    def is_first(self) -> bool:
        """Whether token ids, not activations, enter."""
        return self._embedding is not None

    @property
    def is_last(self) -> bool:
        """Whether logits can be had."""
        return self._head is not None

    def new_store(self, tokens: int) -> Store:
        """A KV store for these blocks. Raises ConfigurationError where there is no memory."""
        kv_heads, head_dim = self._shape.kv_heads, self._shape.head_dim
        return self._backend.new_store(
            self.blocks, tokens=tokens, kv_heads=kv_heads, head_dim=head_dim, dtype=self.dtype
        )

    def move(self, store: Store, move: Move) -> None:
        """Copy keys and values within a store."""
        with torch.inference_mode():
            self._backend.move(store, move)

    def forward(
        self, batch: Batch, packed: Activations | Sequence[int], store: Store, blocks: range | None = None
    ) -> Activations:
        """Run the packed rows of a batch through some of the blocks, all of them by default.

        Token ids (where block 0 is the first of them) or fp32 rows in; the last block's output, fp32, out.
        """
        through = self.blocks if blocks is None else blocks
        with torch.inference_mode():
            step = self._backend.begin(batch, store)
            rows = self._enter(packed, through)
            rotary = self._shape.rope.at(step.positions, rows.dtype)
            near = self._shape.near_rope
            turns = rotary if near is None else near.at(step.positions, rows.dtype)
            for block in self.layers[through.start - self.blocks.start : through.stop - self.blocks.start]:
                rows = block.run(rows, turns if block.is_near else rotary, step)
            return self._backend.give_out(rows)

    def logits(self, rows: Activations) -> Activations:
        """fp32 logits ``[rows, vocabulary]`` after each row of the last block's output.

        Norm and head run in fp32 whatever the span's precision is: logits rounded to bf16 have exact ties.
        """
        if self._norm is None or self._head is None:
            raise ValueError("only the last span of a model has a head")
        with torch.inference_mode():
            final = self._norm.of(self._backend.take_in(torch.from_numpy(rows)))
            logits, cap = self._head.of(final), self._shape.logit_cap
            return self._backend.give_out(logits if cap is None else torch.tanh(logits / cap) * cap)

    def embedded(self, ids: Sequence[int]) -> Activations:
        """fp32 rows ``[len(ids), hidden_size]``, as they enter the model's first block."""
        if self._embedding is None:
            raise ValueError("only the first span of a model has an embedding")
        with torch.inference_mode():
            return self._backend.give_out(self._embed(ids, self._embedding))

    def _embed(self, ids: Activations | Sequence[int], table: torch.Tensor) -> torch.Tensor:
        entered = embedding(self._backend.take_in(torch.tensor(ids, dtype=torch.long)), table).to(self.dtype)
        scale = self._shape.embedding_scale
        return entered if scale == 1 else entered * torch.tensor(scale, dtype=entered.dtype)

    def _enter(self, packed: Activations | Sequence[int], through: range) -> torch.Tensor:
        if self._embedding is not None and through.start == 0:
            return self._embed(packed, self._embedding)
        return self._backend.take_in(torch.as_tensor(packed, dtype=self.dtype))
