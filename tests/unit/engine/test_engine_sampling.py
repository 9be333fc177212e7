"""Draws are a function of (logits, temperature, seed, position), and follow the softmax."""

from __future__ import annotations

import numpy as np
import pytest

from node.engine.sampling import Sampling, draw, scores


def logits(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_greedy_takes_the_lowest_id_among_equals() -> None:
    assert draw(logits(1, 3, 2, 3), Sampling(0, 7), 5) == 1


def test_a_draw_depends_on_seed_and_position_only() -> None:
    flat = np.zeros(1000, dtype=np.float32)
    drawn = {(seed, at): draw(flat, Sampling(1000, seed), at) for seed in range(5) for at in range(5)}
    assert drawn == {(seed, at): draw(flat, Sampling(1000, seed), at) for seed, at in reversed(list(drawn))}
    assert len(set(drawn.values())) > 20


def test_draws_are_pinned_for_every_platform() -> None:
    """Fixed by clause F3: another implementation, or another numpy, must draw these."""
    ramp = (np.arange(320) % 17).astype(np.float32) / 4
    assert [draw(ramp, Sampling(800, 2**64 - 1), at) for at in range(6)] == [99, 237, 220, 268, 67, 67]


def philox_4x64_10(counter: int, key: tuple[int, int]) -> list[int]:
    """The block function as published (Salmon et al., SC 2011), in plain integers."""
    mask = 2**64 - 1
    c, (k0, k1) = [counter, 0, 0, 0], key
    for _ in range(10):
        high = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(high[1] >> 64) ^ c[1] ^ k0, high[1] & mask, (high[0] >> 64) ^ c[3] ^ k1, high[0] & mask]
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
    return c


def test_the_noise_is_a_gumbel_over_philox() -> None:
    noise = scores(np.zeros(10, dtype=np.float32), Sampling(1000, 42), 9)
    raw = [number for counter in (1, 2, 3) for number in philox_4x64_10(counter, (42, 9))][:10]
    uniform = [((number >> 11) + 0.5) / 2**53 for number in raw]
    assert noise == pytest.approx([-np.log(-np.log(u)) for u in uniform], rel=1e-12)


def test_the_temperature_divides_the_logits() -> None:
    values = logits(1.5, -2.0, 0.25)
    noise = scores(np.zeros(3, dtype=np.float32), Sampling(700, 42), 9)
    assert scores(values, Sampling(700, 42), 9) - noise == pytest.approx(values / 0.7, rel=1e-6)


def test_frequencies_follow_the_softmax_at_the_temperature() -> None:
    values = logits(0.0, 1.0, 2.0)
    sampling = [Sampling(2000, seed) for seed in range(6000)]
    counts = np.bincount([draw(values, each, 3) for each in sampling], minlength=3)
    expected = np.exp([0.0, 0.5, 1.0]) / np.exp([0.0, 0.5, 1.0]).sum() * len(sampling)
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 13.8  # the 0.1 % point at 2 degrees of freedom; the seeds are fixed


@pytest.mark.parametrize(("temperature_milli", "seed"), [(-1, 0), (0, -1), (0, 2**64)])
def test_settings_out_of_range_are_refused(temperature_milli: int, seed: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Sampling(temperature_milli, seed)
