"""The synthetic corpus: examples with checkable answers, a pure function of a seed.

Seven tasks: `story` (a told story, then a question on it), `facts` (bare facts, then a question), `write` (a wish for
a story), `add`, `subtract`, `copy`, `reverse`. An example is a prompt in plain English and the completion that should
follow it. Whether a prompt is held out is decided by its own SHA-256 digest, so the two splits cannot share a prompt
whatever the seeds are. This module knows nothing of tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count
from random import Random
from typing import Literal

from scripts.demo_model.stories import COLORS, LORE, NAMES, PLACES, THINGS, Question, Wish, a_or_an, tell, tell_plainly

Split = Literal["train", "held-out"]

HELD_OUT_OF_256 = 26
"""Prompts whose digest's first byte is below this are held out: about a tenth of each task's prompts."""
LARGEST_ADDEND = 49
"""Numbers to add lie in 0..49, so that 2,500 sums exist, of which the held-out tenth is never trained."""
LARGEST_MINUEND = 69
"""Numbers to subtract from lie in 0..69; no result is negative."""
WORD_LETTERS = (3, 8)
"""Shortest and longest word to copy or reverse."""
PLAIN = 0.3
"""Share of bare facts among the stories asked about, once PLAIN_FIRST examples have passed."""
VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxyz"


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt and what should follow it."""

    prompt: str
    completion: str
    """Starts with a space; the model ends its answer here."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with its completion, and further questions on the same story where training uses them."""

    task: str
    first: Turn
    more: tuple[Turn, ...] = ()


def is_held_out(prompt: str) -> bool:
    """Whether `prompt` belongs to the held-out split: a property of its text alone."""
    return hashlib.sha256(prompt.encode()).digest()[0] < HELD_OUT_OF_256


def make_add(rng: Random) -> Example:
    left, right = rng.randint(0, LARGEST_ADDEND), rng.randint(0, LARGEST_ADDEND)
    return Example("add", Turn(f"{left} + {right} =", f" {left + right}."))


def make_subtract(rng: Random) -> Example:
    whole = rng.randint(0, LARGEST_MINUEND)
    part = rng.randint(0, whole)
    return Example("subtract", Turn(f"{whole} - {part} =", f" {whole - part}."))


def make_word(rng: Random) -> str:
    """A word to spell: half of the time one that can be spoken, else any letters."""
    length = rng.randint(*WORD_LETTERS)
    if rng.random() < 0.5:
        return "".join(rng.choice(VOWELS + CONSONANTS) for _ in range(length))
    start = rng.randint(0, 1)
    return "".join(rng.choice(VOWELS if (start + i) % 2 else CONSONANTS) for i in range(length))


def make_copy(rng: Random) -> Example:
    word = make_word(rng)
    return Example("copy", Turn(f'Copy "{word}":', f' "{word}".'))


def make_reverse(rng: Random) -> Example:
    word = make_word(rng)
    return Example("reverse", Turn(f'Reverse "{word}":', f' "{word[::-1]}".'))


def make_story(rng: Random, plain: float = PLAIN) -> Example:
    """A story and up to four questions on it; with probability `plain` bare facts (task `facts`), not a told one."""
    bare = rng.random() < plain
    story = tell_plainly(rng, rng.randint(2, 7)) if bare else tell(rng)
    questions = story.questions()
    asked = rng.sample(questions, min(4, len(questions)))
    first, *more = asked
    return Example(
        "facts" if bare else "story",
        Turn(f"{story.text} {first.text}", f" {first.answer}"),
        tuple(Turn(f" {question.text}", f" {question.answer}") for question in more),
    )


def make_write(rng: Random) -> Example:
    """A wish for a story; the completion is the story, a question on it and its answer."""
    hero, thing = rng.choice(NAMES), rng.choice(THINGS)
    color = rng.choice(COLORS) if rng.random() < 0.5 else None
    place = rng.choice(PLACES) if rng.random() < 0.5 else None
    story = tell(rng, Wish(hero, thing, color, place))
    question: Question = rng.choice(story.questions())
    named = a_or_an(f"{color} {thing}" if color else thing)
    where = f" in the {place}" if place else ""
    prompt = f"Write a story about {hero} and {named}{where}."
    return Example("write", Turn(prompt, f" {story.text} {question.text} {question.answer}"))


MAKERS: dict[str, Callable[[Random], Example]] = {
    "story": partial(make_story, plain=0.0),
    "facts": partial(make_story, plain=1.0),
    "write": make_write,
    "add": make_add,
    "subtract": make_subtract,
    "copy": make_copy,
    "reverse": make_reverse,
}
TASKS = tuple(MAKERS)
SHARES = {"story": 0.27, "write": 0.13, "add": 0.19, "subtract": 0.19, "copy": 0.08, "reverse": 0.14}
"""How often each task is drawn for training, by examples; `story` stands for `facts` too."""


PLAIN_FIRST = 30_000
"""Over the first so many training examples the share of stories that are bare facts falls from all to PLAIN."""


def training(seed: int) -> Iterator[Example]:
    """Examples without end, tasks drawn by SHARES, the plainest stories first, no held-out prompt among them."""
    rng = Random(f"train {seed}")
    tasks, shares = list(SHARES), list(SHARES.values())
    for index in count():
        task = rng.choices(tasks, shares)[0]
        plain = max(PLAIN, 1 - index / PLAIN_FIRST)
        example = make_story(rng, plain) if task == "story" else MAKERS[task](rng)
        if not is_held_out(example.first.prompt):
            yield example


def held_out(task: str, size: int, seed: int) -> list[Example]:
    """`size` examples of `task` with different prompts, all of them held out.

    Raises ValueError where the task does not have that many held-out prompts (`add` and `subtract`: about 250)."""
    rng = Random(f"held-out {task} {seed}")
    found: dict[str, Example] = {}
    for _ in range(1000 * size):
        example = MAKERS[task](rng)
        if is_held_out(example.first.prompt):
            found.setdefault(example.first.prompt, example)
        if len(found) == size:
            return list(found.values())
    raise ValueError(f"the task {task!r} has fewer than {size} held-out prompts")


def known_words() -> list[str]:
    """Every word that the stories use, sorted: the tokenizer gives each of them one token."""
    rng = Random("known words")
    text = " ".join(" ".join(lines) for lines in LORE.values())
    for _ in range(4000):
        for make in (make_story, make_write):
            example = make(rng)
            turns = (example.first, *example.more)
            text += " " + " ".join(turn.prompt + turn.completion for turn in turns)
    return sorted(set("".join(c if c.isalpha() else " " for c in text).split()) | {"Copy", "Reverse"})
