"""Draws that look back, by a real model: as transformers generates, guesses or not, and as an auditor draws again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from engine_ring import ok

from node.engine.audit import Window, replay
from node.engine.drafter import ModelDrafter
from node.engine.engine import Engine
from node.ports import DraftAsk, StepInput
from protocol.session.shaping import Shaping, look_back, shaping_of
from protocol.session.terms import SamplingTerms

PROMPT = [5, 9, 200, 31, 9, 77]
COUNT = 24
BIASES = ((12, 1500), (300, -100_000))


def shaping(**settings: int) -> Shaping:
    usual = {"repetition_milli": 1000, "frequency_milli": 0, "presence_milli": 0}
    made = shaping_of(**(usual | settings), biases=BIASES)
    assert made is not None
    return made


def by_transformers(directory: Path, repetition: float) -> list[int]:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    ids = torch.tensor([PROMPT])
    model.generation_config.eos_token_id = None
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=COUNT,
        pad_token_id=0,
        repetition_penalty=repetition,
        sequence_bias={(token,): milli / 1000 for token, milli in BIASES},
    )
    return [int(i) for i in out[0, len(PROMPT) :]]


def served(directory: Path, sampling: SamplingTerms, guesses: int = 0, right: list[int] | None = None) -> list[int]:
    """An answer, with so many guesses in each pass where the right ones are given; every third of them is wrong."""
    engine = Engine.load(directory, 0, 4, kv_tokens=512)
    engine.open(b"s", max_tokens=128, sampling=sampling)
    seen, tokens, fed = look_back(sampling.shaping, PROMPT), list(PROMPT), 0
    while len(tokens) < len(PROMPT) + COUNT:
        known = len(tokens)
        sure = (right or [])[known - len(PROMPT) :][: guesses if fed else 0]
        data = [*tokens[fed:], *[(each + (at % 3 == 2)) % 320 for at, each in enumerate(sure)]]
        before = seen.with_more(tokens[len(PROMPT) :])
        item = StepInput(session=b"s", position=fed, length=len(data), data=data, draws=1 + len(sure), before=before)
        drawn = ok(engine.forward([item])[0]).tokens
        agreed = 1 + next(
            (at for at, each in enumerate(sure) if data[len(data) - len(sure) + at] != drawn[at]), len(sure)
        )
        tokens.extend(drawn[:agreed])
        fed = len(tokens) - 1
    return tokens[len(PROMPT) :][:COUNT]


def test_a_repetition_penalty_and_biases_are_those_of_generate(checkpoint) -> None:
    directory: Path = checkpoint("llama")
    sampling = SamplingTerms(temperature_milli=0, seed=0, shaping=shaping(repetition_milli=1400))
    assert served(directory, sampling) == by_transformers(directory, 1.4)


def test_guesses_change_nothing_and_an_auditor_draws_the_same(checkpoint) -> None:
    directory: Path = checkpoint("llama")
    how = shaping(repetition_milli=1200, frequency_milli=800, presence_milli=300)
    sampling = SamplingTerms(temperature_milli=900, seed=3, top_k=40, shaping=how)
    tokens = served(directory, sampling)
    assert tokens == served(directory, sampling, guesses=4, right=tokens)
    whole, start = [*PROMPT, *tokens], len(PROMPT) - 1
    windows = [Window(0, start, bytes(32)), Window(start, len(whole) - 1, bytes(32))]
    again = replay(directory, [4], whole, windows, sampling=sampling, prompt=len(PROMPT))[1][0]
    assert [each.token for each in again.drawn] == tokens
    assert {each.margin for each in again.drawn} == {0.0}
    plain = served(directory, sampling.replace(shaping=None))
    lied = replay(directory, [4], [*PROMPT, *plain], windows, sampling=sampling, prompt=len(PROMPT))[1][0]
    assert max(each.margin or 0.0 for each in lied.drawn) > 0.01


def test_a_drafter_draws_as_the_model_will(checkpoint) -> None:
    directory: Path = checkpoint("llama")
    sampling = SamplingTerms(temperature_milli=800, seed=4, shaping=shaping(frequency_milli=1500))
    drafter = ModelDrafter(Engine.load(directory, 0, 4, kv_tokens=512))
    drafter.begin(b"s", max_tokens=128, prompt=len(PROMPT), sampling=sampling)
    drafter.extend(b"s", PROMPT)
    assert list(drafter.propose([DraftAsk(b"s", (), 10)])[0]) == served(directory, sampling)[:10]


@pytest.mark.parametrize("settings", [{"repetition_milli": 1100}, {"presence_milli": -500}])
def test_what_looks_back_says_so(settings: dict[str, int]) -> None:
    assert shaping(**settings).looks_back
    assert not shaping().looks_back
