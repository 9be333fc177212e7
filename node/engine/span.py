"""Some consecutive blocks of a model, with the embedding before the first and the norm and head after the last.

The decoder layers are transformers' own (pinned: their signature is internal API); everything around them is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding, linear

from node.engine.attention import Backend, Store
from node.engine.kv import Batch, Move
from node.model_directory import ModelFacts
from node.ports import Activations

__all__ = ["DTYPES", "LayerShape", "Span"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Precision, as a model manifest names it, and torch's name for it."""


class LayerShape:
    """What the KV store needs to know about the layers."""

    __slots__ = ("head_dim", "kv_heads")

    def __init__(self, config: Any) -> None:
        self.kv_heads = int(config.num_key_value_heads)
        self.head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


class Span:
    """The blocks ``[start, end)``, ready to run.

    Args:
        facts: of the whole model.
        blocks: this span.
        layers: transformers' decoder layers, one a block.
        rotary: its position embedding.
        shape: of keys and values.
        dtype: of weights and activations.
        backend: what computes.
        embedding: ``[vocabulary, hidden_size]``, where the span is the first.
        norm: the final norm, where it is the last.
        head: ``[vocabulary, hidden_size]`` in fp32, where it is the last.
    """

    def __init__(
        self,
        facts: ModelFacts,
        blocks: range,
        layers: Sequence[nn.Module],
        rotary: nn.Module,
        *,
        shape: LayerShape,
        dtype: torch.dtype,
        backend: Backend,
        embedding: torch.Tensor | None,
        norm: nn.Module | None,
        head: torch.Tensor | None,
    ) -> None:
        self.facts = facts
        self.blocks = blocks
        self.dtype = dtype
        self.shape = shape
        self._backend = backend
        self._layers = layers
        self._rotary = rotary
        self._embedding = embedding
        self._norm = norm
        self._head = head

    @property
    def size(self) -> tuple[int, int]:
        """Parameters that a pass goes through, and the bytes of their weights; of the embedding only rows are read."""
        parts: list[torch.Tensor] = [each for layer in self._layers for each in layer.parameters()]
        if self._norm is not None:
            parts += self._norm.parameters()
        if self._head is not None:
            parts.append(self._head)
        return sum(each.numel() for each in parts), sum(each.nbytes for each in parts)

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
        kv_heads, head_dim = self.shape.kv_heads, self.shape.head_dim
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
            hidden = self._enter(packed, through).unsqueeze(0)
            rotary = self._rotary(hidden, step.positions)
            for layer in self._layers[through.start - self.blocks.start : through.stop - self.blocks.start]:
                hidden = layer(
                    hidden,
                    attention_mask=None,
                    position_ids=step.positions,
                    past_key_values=None,
                    position_embeddings=rotary,
                    span=step,
                )
            return self._backend.give_out(hidden[0])

    def logits(self, rows: Activations) -> Activations:
        """fp32 logits ``[rows, vocabulary]`` after each row of the last block's output.

        Norm and head run in fp32 whatever the span's precision is: logits rounded to bf16 have exact ties.
        """
        if self._norm is None or self._head is None:
            raise ValueError("only the last span of a model has a head")
        with torch.inference_mode():
            final = self._norm(self._backend.take_in(torch.from_numpy(rows)))
            return self._backend.give_out(linear(final, self._head))

    def _enter(self, packed: Activations | Sequence[int], through: range) -> torch.Tensor:
        if self._embedding is not None and through.start == 0:
            return embedding(self._backend.take_in(torch.tensor(packed, dtype=torch.long)), self._embedding)
        return self._backend.take_in(torch.as_tensor(packed, dtype=self.dtype))
