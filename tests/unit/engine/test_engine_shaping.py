"""What is done to logits before a draw: as transformers and the definition of OpenAI's penalties have it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from node.engine.sampling import Sampling, draw, margin
from node.engine.shaping import Shaper
from protocol.session.shaping import Shaping, look_back, shaping_of
from protocol.session.terms import SamplingTerms

VOCABULARY = 60
PINNED = [
    *("-0x1.1d41d44cccccdp-1", "-0x1.24924a0000000p-2", "-0x1.24924a0000000p-3", "0x1.a56a56a56a56ap-1"),
    *("0x1.24924a0000000p-3", "-0x1.8edb6db600000p+6", "0x1.51951989d89d9p-2", "0x1.44144bd0bd0b8p-5"),
]
DRAWN = [182, 100, 118, 232, 237, 304, 133, 44]
IDS = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=40)


def shaping(**settings: object) -> Shaping:
    usual = {"repetition_milli": 1000, "frequency_milli": 0, "presence_milli": 0, "biases": ()}
    made = shaping_of(**(usual | settings))  # type: ignore[arg-type]
    assert made is not None
    return made


def logits(seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=VOCABULARY) * 4).astype(np.float32)


def shaped(values: np.ndarray, how: Shaping, prompt: list[int], answer: list[int]) -> np.ndarray:
    return Shaper(how).shape(values.astype(np.float64), look_back(how, prompt).with_more(answer))


@settings(max_examples=at_length(40), deadline=None)
@given(st.integers(0, 99), IDS, IDS, st.integers(100, 10_000), st.dictionaries(st.integers(0, 59), st.integers(-9, 9)))
def test_bias_and_repetition_are_those_of_transformers(seed, prompt, answer, repetition, biases) -> None:
    """A bias first, then the penalty, over the tokens of prompt and answer; in single precision there."""
    from transformers import RepetitionPenaltyLogitsProcessor, SequenceBiasLogitsProcessor

    biases = {token: 500 * half for token, half in biases.items() if half}
    values, ids = logits(seed), torch.tensor([prompt + answer])
    expected = torch.from_numpy(values)[None]
    if biases:
        bias = SequenceBiasLogitsProcessor({(token,): milli / 1000 for token, milli in biases.items()})
        expected = bias(ids, expected)
    expected = RepetitionPenaltyLogitsProcessor(repetition / 1000)(ids, expected)
    if repetition == 1000 and not biases:
        return
    how = shaping(repetition_milli=repetition, biases=tuple(biases.items()))
    assert shaped(values, how, prompt, answer) == pytest.approx(expected[0].numpy(), rel=1e-5, abs=1e-5)


@settings(max_examples=at_length(20), deadline=None)
@given(st.integers(0, 99), IDS, IDS, st.integers(-2000, 2000), st.integers(1, 2000))
def test_frequency_and_presence_count_the_answer(seed, prompt, answer, frequency, presence) -> None:
    """As OpenAI defines them: mu[j] - c[j] * frequency - (c[j] > 0) * presence, where c counts what was sampled."""
    values = logits(seed)
    expected = [
        mu - answer.count(j) * frequency / 1000 - (answer.count(j) > 0) * presence / 1000
        for j, mu in enumerate(values.tolist())
    ]
    how = shaping(frequency_milli=frequency, presence_milli=presence)
    assert shaped(values, how, prompt, answer) == pytest.approx(expected, abs=1e-9)


def test_what_is_computed_is_pinned_for_every_platform() -> None:
    how = shaping(repetition_milli=1300, frequency_milli=700, presence_milli=-300, biases=((3, 2500), (5, -100_000)))
    values = (np.arange(8, dtype=np.float32) - 3) / 7
    found = shaped(values, how, [0, 6, 6], [3, 3, 7])
    assert [each.hex() for each in found.tolist()] == PINNED
    sampling = Sampling.of(SamplingTerms(temperature_milli=900, seed=5, shaping=how))
    ramp = (np.arange(320) % 17).astype(np.float32) / 4
    drawn: list[int] = []
    for at in range(8):
        drawn.append(draw(ramp, sampling, 3 + at, look_back(how, [0, 6, 6]).with_more(drawn)))
    assert drawn == DRAWN


def test_a_part_of_the_prompt_may_be_the_beginning_of_the_answer() -> None:
    how, values = shaping(frequency_milli=500), logits(1)
    whole = shaped(values, how, [1, 2], [3, 4, 3, 5])
    broken_off = shaped(values, how.replace(answered=3), [1, 2, 3, 4, 3], [5])
    assert whole.tolist() == broken_off.tolist()
    assert whole.tolist() != shaped(values, how, [1, 2, 3, 4, 3], [5]).tolist()


def test_ids_that_the_model_does_not_have_change_nothing() -> None:
    how, values = shaping(repetition_milli=2000, presence_milli=5, biases=((VOCABULARY, 4000),)), logits(2)
    assert shaped(values, how, [VOCABULARY, 2**24 - 1], []).tolist() == values.astype(np.float64).tolist()


@pytest.mark.parametrize("cut", [(1_000_000, 0), (800_000, 12)])
def test_rounding_convicts_nobody_where_logits_are_stretched(cut: tuple[int, int]) -> None:
    """Whoever draws from logits within e of the auditor's draws a token whose margin is at most 2 e."""
    generator, moved = np.random.default_rng(7), 0
    how = shaping(repetition_milli=4000, frequency_milli=400)
    before = look_back(how, [*range(0, 60, 2)]).with_more([1, 1, 5, 7])
    for seed in range(200):
        terms = SamplingTerms(temperature_milli=800, seed=seed, top_p_ppm=cut[0], top_k=cut[1], shaping=how)
        sampling = Sampling.of(terms)
        mine = (generator.normal(size=VOCABULARY) * 2).astype(np.float32)
        theirs = mine + generator.uniform(-0.3, 0.3, size=VOCABULARY).astype(np.float32)
        token = draw(theirs, sampling, 9, before)
        moved += token != draw(mine, sampling, 9, before)
        assert margin(mine, sampling, 9, token, before) <= 0.6 * 1.0001
    assert moved > 5, "and that is no empty claim"


def test_a_draw_that_passes_over_the_penalty_is_far_off() -> None:
    values = np.array([6.0, 5.0, 0.0], dtype=np.float32)
    sampling = Sampling.of(SamplingTerms(temperature_milli=0, seed=0, shaping=shaping(presence_milli=2000)))
    before = look_back(None, []).with_more([0])
    assert draw(values, sampling, 4) == 0
    assert draw(values, sampling, 4, before) == 1
    assert margin(values, sampling, 4, 0, before) == 1.0
