"""One transformer block over packed rows: attention over the sessions' own keys, then a gated product.

The same for all families served; what they differ in, an `Architecture` says. It is written for few rows at a time:
one product for queries, keys and values, and as few calls besides as can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Protocol

import torch
from torch.nn.functional import gelu, rms_norm

from node.engine.adapted import Adapted, joined
from node.engine.architecture import Architecture
from node.engine.attending import Attending
from node.engine.attention import Backend, Pass
from node.engine.experts import Experts
from node.engine.matrices import Matrix
from node.engine.rope import turned
from node.engine.stored import Scaled

__all__ = ["Block", "BlockWeights", "Norm"]

Rotary = tuple[torch.Tensor, torch.Tensor]


class BlockWeights(Protocol):
    """The tensors of one block, by their names after the block's prefix."""

    def tensor(self, name: str) -> torch.Tensor:
        """As it is computed with."""

    def product(self, name: str) -> Scaled:
        """A weight ``[out, in]`` that rows are multiplied with."""


class Norm:
    """Rows over the root of their mean square, dimension for dimension times a weight."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        self.weight = weight
        self._epsilon = epsilon

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """Of the last dimension."""
        return rms_norm(rows, self.weight.shape, self.weight, self._epsilon)


class Block:
    """The block of one index.

    Args:
        index: in the whole model, as the store counts.
        window: positions that a row sees, itself included; None for all.
        weights: its own.
    """

    def __init__(
        self, shape: Architecture, index: int, weights: BlockWeights, backend: Backend, *, window: int | None
    ) -> None:
        self.index = index
        self._heads, self._kv_heads, self._head_dim = shape.heads, shape.kv_heads, shape.head_dim
        sinks = weights.tensor("self_attn.sinks") if shape.has_sinks else None
        self._how = Attending(shape.scale, window, shape.score_cap, sinks)
        self._is_gelu = shape.is_gelu

        def product(*names: str, bias: bool) -> Matrix:
            parts = [weights.product(f"{name}.weight") for name in names]
            factors = [each.factors for each in parts if each.factors is not None]
            made = backend.laid_out(
                torch.cat([each.numbers for each in parts]),
                torch.cat([weights.tensor(f"{name}.bias") for name in names]) if bias else None,
                torch.cat(factors) if factors else None,
            )
            low = joined([len(each.numbers) for each in parts], [each.low for each in parts])
            return made if low is None else Adapted(made, low)

        def norm(name: str) -> Norm:
            weight = weights.tensor(f"{name}.weight")
            return Norm(weight + 1 if shape.norms_from_one else weight, shape.epsilon)

        self.enter, self.attended, self.middle, self.fed = (
            None if name is None else norm(name) for name in shape.norms
        )
        self.qkv = product(*(f"self_attn.{each}_proj" for each in "qkv"), bias=shape.qkv_bias)
        self.head_norms = (
            tuple(norm(f"self_attn.{each}_norm") for each in "qk") if shape.head_norms or shape.whole_norms else None
        )
        self._whole_norms = shape.whole_norms
        self.out = product("self_attn.o_proj", bias=shape.out_bias)
        self.experts: Experts | None = None
        if shape.has_experts(index):
            assert shape.mixture is not None
            self.experts = Experts(shape.mixture, weights.tensor, partial(product, bias=shape.mixture.biased))
        else:
            self.gate, self.up, self.down = (
                product(f"mlp.{each}_proj", bias=shape.mlp_bias) for each in ("gate", "up", "down")
            )

    @property
    def is_near(self) -> bool:
        """Whether its rows see a window only."""
        return self._how.window is not None

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All of its products."""
        feed = (self.gate, self.up, self.down) if self.experts is None else self.experts.matrices
        return self.qkv, self.out, *feed

    @property
    def norms(self) -> Iterator[Norm]:
        """All of its norms."""
        every = (self.enter, self.middle, self.attended, self.fed, *(self.head_norms or ()))
        yield from (each for each in every if each is not None)

    def run(self, rows: torch.Tensor, rotary: Rotary, step: Pass) -> torch.Tensor:
        """``[rows, hidden]``, by the keys and values of the pass."""
        count, heads, kv_heads = len(rows), self._heads, self._kv_heads
        flat = self.qkv.of(rows if self.enter is None else self.enter.of(rows))
        qkv = flat.view(count, heads + 2 * kv_heads, self._head_dim)
        both, value = qkv[:, : heads + kv_heads], qkv[:, heads + kv_heads :]
        if self.head_norms is not None:
            queries, keys = self.head_norms
            if self._whole_norms:
                width = heads * self._head_dim
                parts = queries.of(flat[:, :width]), keys.of(flat[:, width : width + kv_heads * self._head_dim])
                both = torch.cat(parts, 1).view(both.shape)
            else:
                both = torch.cat((queries.of(both[:, :heads]), keys.of(both[:, heads:])), 1)
        both = turned(both, rotary)
        seen = step.attend(self.index, both[:, :heads], both[:, heads:], value, self._how)
        rows = _added(self.out, seen.reshape(count, heads * self._head_dim), rows, self.attended)
        inner = rows if self.middle is None else self.middle.of(rows)
        if self.experts is not None:
            return rows + self.experts.of(inner)
        gate = gelu(self.gate.of(inner), approximate="tanh") if self._is_gelu else self.gate.silu_of(inner)
        return _added(self.down, self.up.times(inner, gate), rows, self.fed)


def _added(product: Matrix, inner: torch.Tensor, rows: torch.Tensor, norm: Norm | None) -> torch.Tensor:
    """Rows, and a product that may be normed before it is added to them."""
    return product.plus(inner, rows) if norm is None else rows + norm.of(product.of(inner))
