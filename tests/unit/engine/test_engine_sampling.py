"""Draws are a function of (logits, temperature, seed, position), and follow the softmax."""

from __future__ import annotations

import numpy as np
import pytest

from node.engine.sampling import Sampling, draw, margin, scores


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


def test_only_the_likeliest_tokens_are_drawn() -> None:
    """Of 50, 30, 15 and 5 percent."""
    values = np.log(np.array([0.15, 0.5, 0.05, 0.3])).astype(np.float32)

    def drawn(top_p_ppm: int, top_k: int) -> set[int]:
        return {draw(values, Sampling(1000, seed, top_p_ppm, top_k), 3) for seed in range(300)}

    assert drawn(0, 0) == drawn(499_000, 0) == drawn(1_000_000, 1) == {1}
    assert drawn(501_000, 0) == drawn(1_000_000, 2) == {1, 3}
    assert drawn(810_000, 0) == drawn(999_000, 3) == {0, 1, 3}
    assert drawn(1_000_000, 0) == {0, 1, 2, 3}
    equal = np.zeros(4, dtype=np.float32)
    assert {draw(equal, Sampling(1000, seed, top_k=2), 3) for seed in range(100)} == {0, 1}


def test_a_cut_changes_nothing_among_those_that_are_kept() -> None:
    """The noise is each token's own: where the one that is drawn is kept, it is drawn with the cut, too."""
    generator = np.random.default_rng(2)
    for seed in range(50):
        values = generator.normal(size=100).astype(np.float32) * 3
        free, cut = Sampling(900, seed), Sampling(900, seed, 800_000, 20)
        if np.isfinite(scores(values, cut, 5)[draw(values, free, 5)]):
            assert draw(values, cut, 5) == draw(values, free, 5)


@pytest.mark.parametrize("cut", [(900_000, 0), (1_000_000, 5), (700_000, 8), (0, 0)])
def test_rounding_does_not_convict_at_the_edge_of_a_cut(cut: tuple[int, int]) -> None:
    """Whoever draws from logits within e of the auditor's draws a token whose margin is at most 2 e."""
    generator = np.random.default_rng(7)
    moved = 0
    for seed in range(400):
        e = 0.02 if seed % 2 else 0.5
        sampling = Sampling(800, seed, *cut)
        mine = (generator.normal(size=60) * 2).astype(np.float32)
        theirs = mine + generator.uniform(-e, e, size=60).astype(np.float32)
        token = draw(theirs, sampling, 9)
        moved += token != draw(mine, sampling, 9)
        assert margin(mine, sampling, 9, token) <= 2 * e * 1.0001
    assert moved > 10, "and that is no empty claim"


def test_a_token_that_no_rounding_draws_is_far_off() -> None:
    values = np.array([5.0, 4.9, 0.0, -3.0], dtype=np.float32)
    cut = Sampling(1000, 1, 500_000)
    assert draw(values, cut, 2) == 0
    assert margin(values, cut, 2, 0) == 0
    assert 0.05 < margin(values, cut, 2, 1) < 1
    assert margin(values, cut, 2, 3) > 5
    assert margin(values, Sampling(1000, 1, top_k=1), 2, 2) > 4.5
