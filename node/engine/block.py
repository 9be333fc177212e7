"""One transformer block over packed rows: attention over the sessions' own keys, then a gated product.

The same for all families served; what they differ in, an `Architecture` says. It is written for few rows at a time:
one product for queries, keys and values, and as few calls besides as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.nn.functional import rms_norm

from node.engine.architecture import Architecture
from node.engine.attention import Backend, Pass
from node.engine.matrices import Matrix
from node.engine.rope import turned

__all__ = ["Block", "Norm", "Take"]

Take = Callable[[str], torch.Tensor]
"""A tensor of the block, by its name after the block's prefix."""
Rotary = tuple[torch.Tensor, torch.Tensor]


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
        take: its weights.
    """

    def __init__(self, shape: Architecture, index: int, take: Take, backend: Backend, *, window: int | None) -> None:
        self.index = index
        self._heads, self._kv_heads, self._head_dim = shape.heads, shape.kv_heads, shape.head_dim
        self._scale = shape.head_dim**-0.5
        self._window = window

        def product(*names: str, bias: bool) -> Matrix:
            weight = torch.cat([take(f"{name}.weight") for name in names])
            return backend.laid_out(weight, torch.cat([take(f"{name}.bias") for name in names]) if bias else None)

        self.enter = Norm(take("input_layernorm.weight"), shape.epsilon)
        self.qkv = product(*(f"self_attn.{each}_proj" for each in "qkv"), bias=shape.qkv_bias)
        self.head_norms = (
            tuple(Norm(take(f"self_attn.{each}_norm.weight"), shape.epsilon) for each in "qk")
            if shape.head_norms
            else None
        )
        self.out = product("self_attn.o_proj", bias=shape.out_bias)
        self.middle = Norm(take("post_attention_layernorm.weight"), shape.epsilon)
        self.gate, self.up, self.down = (
            product(f"mlp.{each}_proj", bias=shape.mlp_bias) for each in ("gate", "up", "down")
        )

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """All of its products."""
        return self.qkv, self.out, self.gate, self.up, self.down

    @property
    def norms(self) -> Iterator[Norm]:
        """All of its norms."""
        yield from (self.enter, self.middle, *(self.head_norms or ()))

    def run(self, rows: torch.Tensor, rotary: Rotary, step: Pass) -> torch.Tensor:
        """``[rows, hidden]``, by the keys and values of the pass."""
        count, heads, kv_heads = len(rows), self._heads, self._kv_heads
        qkv = self.qkv.of(self.enter.of(rows)).view(count, heads + 2 * kv_heads, self._head_dim)
        both, value = qkv[:, : heads + kv_heads], qkv[:, heads + kv_heads :]
        if self.head_norms is not None:
            queries, keys = self.head_norms
            both = torch.cat((queries.of(both[:, :heads]), keys.of(both[:, heads:])), 1)
        both = turned(both, rotary)
        seen = step.attend(self.index, both[:, :heads], both[:, heads:], value, self._scale, self._window)
        rows = self.out.plus(seen.reshape(count, heads * self._head_dim), rows)
        inner = self.middle.of(rows)
        return self.down.plus(self.up.times(inner, self.gate.silu_of(inner)), rows)
