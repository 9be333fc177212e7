"""A weight that is laid out for speed multiplies as the weight does, whoever else's rows are in the pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, silu

from node.engine.matrices import PACKED_FROM, Matrix, Packed, Plain, laid_out

WIDTHS = [(48, 64), (435, 192), (192, 512), (512, 320)]
"""Out and in; in the last two weights are large enough to be packed."""
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 0.05}


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.fixture(params=[(widths, bias) for widths in WIDTHS for bias in (False, True)], ids=str)
def made(request: pytest.FixtureRequest) -> tuple[Matrix, torch.Tensor, torch.Tensor | None]:
    (out, width), biased = request.param
    weight, bias = drawn(out, width) / width**0.5, drawn(out) if biased else None
    return laid_out(weight, bias), weight, bias


def test_products_are_those_of_the_weight(made: tuple[Matrix, torch.Tensor, torch.Tensor | None]) -> None:
    matrix, weight, bias = made
    for count in (1, 2, 5, 17, 40):
        rows, other = drawn(count, weight.shape[1]), drawn(count, weight.shape[0])
        whole = linear(rows, weight, bias)
        for found, expected in (
            (matrix.of(rows), whole),
            (matrix.silu_of(rows), silu(whole)),
            (matrix.times(rows, other), whole * other),
            (matrix.plus(rows, other), whole + other),
        ):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(matrix.weight, weight)
    assert matrix.numbers == weight.numel() + (0 if bias is None else bias.numel())
    assert matrix.nbytes == 4 * matrix.numbers


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_row_is_about_the_same_beside_any_others(dtype: torch.dtype) -> None:
    matrix, rows = laid_out(drawn(512, 320, dtype=dtype)), drawn(65, 320, dtype=dtype)
    whole = matrix.of(rows)
    for count in (1, 3, 4, 16, 64):
        torch.testing.assert_close(matrix.of(rows[:count]), whole[:count], rtol=TOLERANCES[dtype], atol=1e-4)


def test_a_weight_may_be_changed(made: tuple[Matrix, torch.Tensor, torch.Tensor | None]) -> None:
    matrix, weight, bias = made
    matrix.weight = matrix.weight * 2
    rows = drawn(3, weight.shape[1])
    torch.testing.assert_close(matrix.of(rows), linear(rows, weight * 2, bias), rtol=1e-5, atol=1e-5)


def test_small_weights_and_processors_without_the_kernels_keep_them_as_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = drawn(PACKED_FROM // 64, 64)
    assert isinstance(laid_out(large[:-1]), Plain)
    monkeypatch.setattr("node.engine.matrices._packs", lambda _: False)
    assert isinstance(laid_out(large), Plain)
    monkeypatch.setattr("node.engine.matrices._packs", lambda _: True)
    assert isinstance(laid_out(large), Packed)
