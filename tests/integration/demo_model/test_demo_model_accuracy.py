"""The shipped checkpoint, run with transformers, does on held-out prompts about what its card says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.demo_model.corpus import OTHER_ANSWER, TASKS
from scripts.demo_model.evaluate import complete, evaluate, load
from scripts.demo_model.reader import is_sound_story

MODEL = Path(__file__).parents[3] / "node" / "demo" / "model"
SIZE = 40
SLACK = 0.15
"""How far 40 prompts may fall below the card's figure: about three standard errors at 90 %."""


@pytest.fixture(scope="module")
def loaded() -> Iterator[tuple[Any, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(MODEL)
    torch.set_num_threads(threads)


@pytest.mark.long
def test_held_out_accuracy_reaches_the_card(loaded: tuple[Any, Any]) -> None:
    accuracy = json.loads((MODEL / "accuracy.json").read_text())
    scores = evaluate(*loaded, size=SIZE, seed=3)
    for task in (*TASKS, "overall"):
        assert scores[task].accuracy >= accuracy["scores"][task]["accuracy"] - SLACK, (task, scores)


def test_a_wish_gives_a_sound_story_of_readable_length(loaded: tuple[Any, Any]) -> None:
    prompt = "Write a story about Mia and a red kite in the park."
    (story,) = complete(*loaded, [prompt])
    assert story is not None
    assert is_sound_story(prompt, story)
    assert 40 <= len(loaded[1](story).input_ids) <= 130


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Anna has a red ball. Tom went to the kitchen. Where is Tom?", " Tom is in the kitchen."),
        ("Anna has a red ball.\nTom went to the kitchen.\nWhat color is the ball? ", " The ball is red."),
        ("17 + 25 =", " 42."),
        ("What is 17 + 25?", " 42."),
        ("What is the capital of France?", OTHER_ANSWER),
        ('Reverse "stone":', ' "enots".'),
    ],
)
def test_prompts_of_the_card_are_answered(loaded: tuple[Any, Any], prompt: str, answer: str) -> None:
    assert complete(*loaded, [prompt]) == [answer]


def test_answers_do_not_depend_on_what_they_are_batched_with(loaded: tuple[Any, Any]) -> None:
    prompts = ["5 + 6 =", "Anna has a red ball. Tom went to the kitchen. Where is Tom?", 'Copy "plum":']
    assert complete(*loaded, prompts) == [complete(*loaded, [prompt])[0] for prompt in prompts]
