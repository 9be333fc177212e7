"""Weights in sixteen bits, multiplied in fp32: half the memory to read, and not one bit of a weight is lost.

FBGEMM widens a weight to fp32 as it reads it, and adds up products in fp32. So where the numbers of a matrix fit IEEE
half precision, each row over a factor of its own, the result differs from that of fp32 weights by the order of sums
alone. They fit where a checkpoint holds bf16 or fp16 numbers, and where it holds whole numbers with a scale for each
row. Whether they do is looked at number by number; a matrix of which one does not is multiplied as fp32.

Without AVX-512 the order of sums depends on how many rows are left over when they are taken three at a time. A row's
product must not depend on whose other rows are in the pass, so there it is filled up to threes.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch.nn.functional import linear, pad, silu

__all__ = ["Halved", "halved"]

TRIED = 64
"""Rows of a weight that are looked at before all are."""
COUNTS = 40
"""Rows up to which it is tried whether a row's product depends on how many others there are."""
TOP = 15
"""A row's largest number is below 2**15: as far up as there is room for sums of two, so that small ones stay whole."""


class Halved:
    """A weight in half precision, each row times a factor (`matrices.Matrix`).

    Args:
        numbers: ``[out, in]`` in fp32, as they fit half precision.
        factors: ``[out]``.
        bias: ``[out]``, where there is one.
        together: of how many rows a pass is a multiple here, by rows of zeros where it is not.
    """

    def __init__(
        self, numbers: torch.Tensor, factors: torch.Tensor, bias: torch.Tensor | None, together: int = 1
    ) -> None:
        self.bias = bias
        self._multiply = torch.ops.quantized.linear_dynamic_fp16.default
        self._together = together
        self._hold(numbers, factors)

    def _hold(self, numbers: torch.Tensor, factors: torch.Tensor) -> None:
        self._count, self._factors = numbers.numel(), factors
        self._packed: Any = torch.ops.quantized.linear_prepack_fp16(numbers, None)

    @property
    def weight(self) -> torch.Tensor:
        """See `Matrix`. One that is set is rounded to half precision where it does not fit."""
        numbers: torch.Tensor = torch.ops.quantized.linear_unpack_fp16(self._packed)[0]
        return numbers * self._factors.unsqueeze(1)

    @weight.setter
    def weight(self, weight: torch.Tensor) -> None:
        factors = _factors(weight)
        self._hold(weight / factors.unsqueeze(1), factors)

    @property
    def numbers(self) -> int:
        """See `Matrix`."""
        return self._count + (0 if self.bias is None else self.bias.numel())

    @property
    def nbytes(self) -> int:
        """See `Matrix`."""
        return 2 * self._count + self._factors.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        product = self._product(rows)
        return product.mul_(self._factors) if self.bias is None else torch.addcmul(self.bias, product, self._factors)

    def silu_of(self, rows: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return silu(self.of(rows), inplace=True)

    def times(self, rows: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        return self.of(rows).mul_(factor)

    def plus(self, rows: torch.Tensor, addend: torch.Tensor) -> torch.Tensor:
        """See `Matrix`."""
        sums = torch.addcmul(addend, self._product(rows), self._factors)
        return sums if self.bias is None else sums.add_(self.bias)

    def _product(self, rows: torch.Tensor) -> torch.Tensor:
        lacking = -len(rows) % self._together
        product: torch.Tensor = self._multiply(pad(rows, (0, 0, 0, lacking)) if lacking else rows, self._packed)
        return product[: len(rows)]


def halved(weight: torch.Tensor, factors: torch.Tensor | None, bias: torch.Tensor | None) -> Halved | None:
    """An fp32 weight, each row times its factor where there are any; None where not all of it fits, or kernels lack."""
    if weight.dtype is not torch.float32 or not (together := _together()):
        return None
    scales = _factors(weight)
    if not _fits(weight[:TRIED] / scales[:TRIED].unsqueeze(1), weight[:TRIED]):
        return None
    numbers = weight / scales.unsqueeze(1)
    if not _fits(numbers, weight):
        return None
    return Halved(numbers, scales if factors is None else scales * factors, bias, together)


def _fits(numbers: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether half precision holds a weight's numbers over powers of two: they are exact unless they vanish."""
    return torch.equal(numbers.half().float(), numbers) and bool(numbers.count_nonzero() == weight.count_nonzero())


def _factors(weight: torch.Tensor) -> torch.Tensor:
    """Powers of two that bring each row's largest number to the upper end of half precision."""
    largest = weight.abs().amax(1)
    exponents = torch.frexp(largest).exponent - TOP
    return torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponents), torch.ones_like(largest))


@cache
def _together() -> int:
    """How many rows this processor has to take at a time for a row's product never to depend on the others.

    0 where this build of torch or this processor lacks the kernels, or they do not do what is said above.
    """
    weight = torch.linspace(-1, 1, 64 * 48).bfloat16().float().view(48, 64)
    rows = torch.linspace(-3, 3, 64 * COUNTS).view(COUNTS, 64)
    try:
        found = next((each for each in (1, 3) if _alike(Halved(weight, torch.ones(48), None, each), rows)), 0)
        product = Halved(weight, torch.ones(48), None, found or 1).of(rows)
    except (RuntimeError, AttributeError):
        return 0
    # Rows that were rounded to sixteen bits on the way would be off by a thousand times as much.
    return found if torch.allclose(product, linear(rows, weight), rtol=1e-5, atol=1e-5) else 0


def _alike(matrix: Halved, rows: torch.Tensor) -> bool:
    """Whether each row's product is the same alone and in a pass of any size."""
    alone = torch.cat([matrix.of(row) for row in torch.unbind(rows.unsqueeze(1))])
    return all(torch.equal(matrix.of(rows[:count]), alone[:count]) for count in range(1, len(rows) + 1))
