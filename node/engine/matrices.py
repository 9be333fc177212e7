"""Products of rows with weights, as this processor does them fastest.

Weights whose numbers fit sixteen bits are held in these and multiplied in fp32 (`halved`). Any other is laid out once,
when it is loaded, in the order in which oneDNN's kernels read it: for a few rows, which is what answers of several
sessions are, that is two to three times as fast as torch's own product, and for one row 1.7 times. What follows a
product (bias, activation, another factor, what a block adds to) is done while the result is still in registers. A row's
result does not depend on how many others are beside it.
"""

from __future__ import annotations

from functools import cache
from typing import Protocol

import torch
from torch.nn.functional import linear, silu

from node.engine.halved import halved

__all__ = ["Matrix", "Packed", "Plain", "laid_out"]

PACKED_FROM = 1 << 16
"""Weights with fewer numbers are not worth what a call of the packed kernels costs beside a plain one."""
ROWS = 32
"""Rows that the layout is made for. It serves all numbers of them: those from 8 to 512 give the same one."""


class Matrix(Protocol):
    """A weight ``[out, in]`` with its bias, where it has one; rows are ``[rows, in]``."""

    @property
    def weight(self) -> torch.Tensor:
        """As it was given, ``[out, in]``."""

    @weight.setter
    def weight(self, weight: torch.Tensor) -> None: ...

    @property
    def numbers(self) -> int:
        """In weight and bias."""

    @property
    def nbytes(self) -> int:
        """Of weight and bias."""

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """``rows @ weight.T + bias``."""

    def silu_of(self, rows: torch.Tensor) -> torch.Tensor:
        """``silu`` of the product."""

    def times(self, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """The product, each number times one of `factor`."""

    def plus(self, rows: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
        """The product and `addend`."""


class Plain:
    """A weight as it is, multiplied by torch."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    @property
    def numbers(self) -> int:
        """See `Matrix`."""
        return self.weight.numel() + (0 if self.bias is None else self.bias.numel())

    @property
    def nbytes(self) -> int:
        """See `Matrix`."""
        return self.numbers * self.weight.element_size()

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return linear(rows, self.weight, self.bias)

    def silu_of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return silu(self.of(rows))

    def times(self, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return self.of(rows) * factor

    def plus(self, rows: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return self.of(rows) + addend


class Packed:
    """A weight in oneDNN's layout."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias
        self._multiply = torch.ops.mkldnn._linear_pointwise.default
        self._combine = torch.ops.mkldnn._linear_pointwise.binary

    @property
    def weight(self) -> torch.Tensor:
        """See `Matrix`."""
        dense: torch.Tensor = self._packed.to_dense()
        return dense

    @weight.setter
    def weight(self, weight: torch.Tensor) -> None:
        self._packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)

    @property
    def numbers(self) -> int:
        """See `Matrix`."""
        return self._packed.numel() + (0 if self.bias is None else self.bias.numel())

    @property
    def nbytes(self) -> int:
        """See `Matrix`."""
        return self.numbers * self._packed.element_size()

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        product: torch.Tensor = self._multiply(rows, self._packed, self.bias, "none", [], "")
        return product

    def silu_of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        product: torch.Tensor = self._multiply(rows, self._packed, self.bias, "swish", [], "")
        return product

    def times(self, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        product: torch.Tensor = self._combine(rows, factor, self._packed, self.bias, "mul")
        return product

    def plus(self, rows: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        product: torch.Tensor = self._combine(rows, addend, self._packed, self.bias, "add")
        return product


def laid_out(weight: torch.Tensor, bias: torch.Tensor | None = None, factors: torch.Tensor | None = None) -> Matrix:
    """The weight, each row times its factor where there are any, as it is multiplied fastest on this processor.

    What was given may go.
    """
    if weight.numel() >= PACKED_FROM and (made := halved(weight, factors, bias)) is not None:
        return made
    whole = weight if factors is None else weight * factors.unsqueeze(1)
    if weight.numel() >= PACKED_FROM and _packs(weight.dtype):
        return Packed(whole, bias)
    return Plain(whole, bias)


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor have kernels for packed weights that can be relied upon."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    weight, rows = (torch.linspace(-1, 1, size).reshape(-1, 64).to(dtype) for size in (64 * 48, 64 * 3))
    try:
        if dtype is torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        packed, plain = Packed(weight, None), Plain(weight, None)
        pairs = [(each.of(rows), each.plus(rows, plain.of(rows)), each.silu_of(rows)) for each in (packed, plain)]
    except (RuntimeError, AttributeError):
        return False
    return all(torch.allclose(one, other, rtol=0.02, atol=0.1) for one, other in zip(*pairs, strict=True))
