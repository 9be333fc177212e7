"""A product with what an adapter adds to it: two thin products beside the weight, which stays as it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import linear, silu

from node.engine.matrices import Matrix

__all__ = ["Adapted", "Low", "joined"]


class Low(NamedTuple):
    """What is added to a weight: ``up @ down``."""

    down: torch.Tensor
    """``[rank, in]``"""
    up: torch.Tensor
    """``[out, rank]``"""


def joined(outputs: Sequence[int], lows: Sequence[Low | None]) -> Low | None:
    """Of products that are made in one, with so many outputs each; None where nothing is added to any."""
    held = [each for each in lows if each is not None]
    if not held:
        return None
    up = held[0].up.new_zeros(sum(outputs), sum(each.up.shape[1] for each in held))
    row = column = 0
    for count, low in zip(outputs, lows, strict=True):
        if low is not None:
            rank = low.up.shape[1]
            up[row : row + count, column : column + rank] = low.up
            column += rank
        row += count
    return Low(torch.cat([each.down for each in held]), up)


class Adapted:
    """A weight, and what is added to it (`matrices.Matrix`)."""

    def __init__(self, base: Matrix, low: Low) -> None:
        self._base, self._low = base, low

    @property
    def weight(self) -> torch.Tensor:
        """See `Matrix`. One that is set has the adapter in it."""
        return self._base.weight + self._low.up @ self._low.down

    @weight.setter
    def weight(self, weight: torch.Tensor) -> None:
        self._base.weight = weight
        self._low = Low(self._low.down, torch.zeros_like(self._low.up))

    @property
    def numbers(self) -> int:
        """See `Matrix`."""
        return self._base.numbers + sum(each.numel() for each in self._low)

    @property
    def nbytes(self) -> int:
        """See `Matrix`."""
        return self._base.nbytes + sum(each.nbytes for each in self._low)

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return self._base.plus(rows, linear(linear(rows, self._low.down), self._low.up))

    def silu_of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return silu(self.of(rows))

    def times(self, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return self.of(rows) * factor

    def plus(self, rows: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return self._base.plus(rows, linear(linear(rows, self._low.down), self._low.up).add_(addend))
