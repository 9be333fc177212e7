"""A weight that is laid out for speed multiplies as the weight does, whoever else's rows are in the pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, silu

from node.engine.halved import Halved
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


def widened(dtype: torch.dtype) -> torch.Tensor:
    """Numbers of sixteen bits over many magnitudes, and a row of zeros."""
    weight = (drawn(512, 320) * torch.logspace(-9, 3, 512).unsqueeze(1)).to(dtype).float()
    weight[7] = 0
    return weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("biased", [False, True])
def test_weights_of_sixteen_bits_are_held_in_sixteen_and_multiplied_in_fp32(dtype: torch.dtype, biased: bool) -> None:
    weight, bias = widened(dtype), drawn(512) if biased else None
    matrix = laid_out(weight, bias)
    assert isinstance(matrix, Halved)
    assert torch.equal(matrix.weight, weight)
    assert matrix.numbers == 512 * 320 + 512 * biased
    assert matrix.nbytes == 2 * 512 * 320 + 4 * 512 * (1 + biased)
    whole = matrix.of(rows := drawn(40, 320))
    other = drawn(40, 512)
    exact = linear(rows.double(), weight.double(), None if bias is None else bias.double())
    for found, expected in (
        (whole, exact),
        (matrix.silu_of(rows), silu(exact)),
        (matrix.times(rows, other), exact * other),
        (matrix.plus(rows, other), exact + other),
    ):
        assert float((found.double() - expected).norm() / expected.norm()) < 2e-6
    for count in range(1, 40):
        assert torch.equal(matrix.of(rows[:count]), whole[:count])


def test_whole_numbers_meet_their_scale_after_the_sum() -> None:
    numbers, scales = torch.randint(-127, 128, (512, 320)).float(), drawn(512).abs() / 100
    matrix, plain = laid_out(numbers, None, scales), numbers * scales.unsqueeze(1)
    assert isinstance(matrix, Halved)
    assert isinstance(laid_out(plain), Packed)
    rows = drawn(5, 320)
    torch.testing.assert_close(matrix.of(rows), linear(rows, plain), rtol=1e-5, atol=1e-4)
    small = laid_out(numbers[:4], None, scales[:4])
    torch.testing.assert_close(small.of(rows), linear(rows, plain[:4]), rtol=1e-5, atol=1e-4)


def test_one_number_that_does_not_fit_keeps_a_weight_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = drawn(512, 320).bfloat16().float()
    for value in (1 + 2**-13, 1e-12):
        odd = weight.clone()
        odd[300, 5] = value
        assert isinstance(laid_out(odd), Packed)
    odd[300, 5:7] = torch.tensor([1e30, 1e-30])  # the small one would vanish
    odd[300, 7:] = 0
    assert isinstance(laid_out(odd), Packed)
    odd[300, 5] = torch.inf
    assert not isinstance(laid_out(odd), Halved)
    monkeypatch.setattr("node.engine.halved._together", lambda: 0)
    assert isinstance(laid_out(weight), Packed)
