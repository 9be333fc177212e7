"""The synthetic corpus: examples with checkable answers, a pure function of a seed.

Eight tasks: `story` (a told story, then a question about it), `facts` (the same with bare facts), `write` (a wish for
a story), `add`, `subtract`, `copy`, `reverse`, and `other` (anything else, which is answered by saying what can be
asked). An example is a prompt in plain English and the completion that should follow it. Whether an example is held
out is decided by the SHA-256 digest of its story, sum, wish or word, or else of its prompt, so the two splits cannot
share any whatever the seeds are. This module knows nothing of tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Literal

from scripts.demo_model.stories import (
    COLORS,
    LORE,
    MOVES,
    NAMES,
    PLACES,
    THINGS,
    Story,
    Wish,
    a_or_an,
    tell,
    tell_plainly,
)

Split = Literal["train", "held-out"]

HELD_OUT_OF_256 = 26
"""Texts (see Example.essence) whose digest begins with a byte below this are held out: a tenth of each kind."""
LARGEST_ADDEND = 49
"""Numbers to add lie in 0..49, so that 2,500 sums exist, of which the held-out tenth is never trained."""
LARGEST_MINUEND = 69
"""Numbers to subtract from lie in 0..69; no result is negative."""
WORD_LETTERS = (3, 8)
"""Shortest and longest word to copy or reverse."""
MOST_QUESTIONS = 7
"""Questions asked on one story in training: each is another chance to learn how to find a fact."""
WITH_NEW_WORDS = 0.12
"""Share of stories in which some names are made up, so that the model learns to take any word for one."""
CHATTER = (
    *("the", "a", "is", "of", "what", "who", "where", "why", "how", "do", "you", "me", "can", "please", "about", "I"),
    *("hello", "write", "tell", "name", "my", "are", "in", "and", "to", "it", "time", "good", "day", "poem", "explain"),
)
"""Common words, beside made-up ones, of prompts that are no task."""
OTHER_ANSWER = " I can write a story, answer questions about one, add, subtract, copy and reverse."
USUAL_PLOT = 0.7
"""Share of the stories to write that follow the usual plot of their thing: so greedy decoding, too, tells different
stories about different things."""
WISHES = ("Write a story", "Tell me a story")
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
    essence: str = ""
    """What the prompt is about, where it can be asked about in several ways: the story, sum, wish or word."""

    @property
    def is_held_out(self) -> bool:
        """Whether this example belongs to the held-out split: a property of its text alone."""
        return is_held_out(self.essence or self.first.prompt)


def is_held_out(text: str) -> bool:
    """Whether `text`, the essence of an example or its prompt, is held out."""
    return hashlib.sha256(text.encode()).digest()[0] < HELD_OUT_OF_256


def make_add(rng: Random) -> Example:
    left, right = rng.randint(0, LARGEST_ADDEND), rng.randint(0, LARGEST_ADDEND)
    return make_sum(rng, "add", f"{left} + {right}", left + right)


def make_subtract(rng: Random) -> Example:
    whole = rng.randint(0, LARGEST_MINUEND)
    part = rng.randint(0, whole)
    return make_sum(rng, "subtract", f"{whole} - {part}", whole - part)


def make_sum(rng: Random, task: str, terms: str, result: int) -> Example:
    prompt = f"What is {terms}?" if rng.random() < 0.2 else f"{terms} ="
    return Example(task, Turn(prompt, f" {result}."), essence=terms)


def make_word(rng: Random) -> str:
    """A word to spell: half of the time one that can be spoken, else any letters."""
    length = rng.randint(*WORD_LETTERS)
    if rng.random() < 0.5:
        return "".join(rng.choice(VOWELS + CONSONANTS) for _ in range(length))
    start = rng.randint(0, 1)
    return "".join(rng.choice(VOWELS if (start + i) % 2 else CONSONANTS) for i in range(length))


def make_copy(rng: Random) -> Example:
    word = make_word(rng)
    return Example("copy", Turn(f'Copy "{word}":', f' "{word}".'), essence=word)


def make_reverse(rng: Random) -> Example:
    word = make_word(rng)
    return Example("reverse", Turn(f'Reverse "{word}":', f' "{word[::-1]}".'), essence=word)


def make_story(rng: Random, new: float = WITH_NEW_WORDS) -> Example:
    """A told story and up to MOST_QUESTIONS questions on it; with probability `new` some names are made up."""
    return ask(rng, "story", tell(rng), new)


def make_facts(rng: Random, new: float = WITH_NEW_WORDS) -> Example:
    """Two to seven bare facts in place of a told story."""
    return ask(rng, "facts", tell_plainly(rng, rng.randint(2, 7)), new)


def ask(rng: Random, task: str, story: Story, new: float) -> Example:
    questions = story.questions()
    asked = rng.sample(questions, min(MOST_QUESTIONS, len(questions)))
    words = new_words(rng, story) if rng.random() < new else {}
    text = reword(story.text, words)
    first, *more = (
        Turn(" " + reword(question.text, words), reword(f" {question.answer}", words)) for question in asked
    )
    return Example(task, Turn(f"{text}{first.prompt}", first.completion), tuple(more), essence=text)


def new_words(rng: Random, story: Story) -> dict[str, str]:
    """Made-up words for one to three of the names of people, things and places in `story`."""
    places = {place for place in (*story.person_at.values(), *story.lies_in.values()) if place}
    words = sorted({*story.person_at, *story.color, *places})
    made = {word: make_word(rng) for word in rng.sample(words, min(len(words), rng.randint(1, 3)))}
    return {word: new.capitalize() if word in NAMES else new for word, new in made.items()}


def reword(text: str, new: dict[str, str]) -> str:
    """`text` with its words replaced as `new` says."""
    return re.sub(r"\w+", lambda match: new.get(match.group(), match.group()), text)


def make_drill(rng: Random) -> Example:
    """Facts, then the beginnings of the same facts in any order: pure practice in looking things up."""
    size, kind = rng.randint(2, 5), rng.randrange(4)
    facts = []
    for who, thing, place in zip(
        rng.sample(NAMES, size), rng.sample(THINGS, size), rng.sample(PLACES, size), strict=True
    ):
        starts = (who, f"{who} {rng.choice(MOVES)} to the", f"The {thing} is in the", f"The {thing} is")
        facts.append((starts[kind], rng.choice(COLORS) if kind == 3 else place))
    queries = [rng.choice(facts) for _ in range(3 * size)]
    first, *more = (Turn(f" {start}", f" {end}.") for start, end in queries)
    text = " ".join(f"{start} {end}." for start, end in facts)
    return Example("drill", Turn(text + first.prompt, first.completion), tuple(more))


def make_other(rng: Random) -> Example:
    """A few words that make no task, some of them known, and what the model says to that."""
    words = [make_word(rng) if rng.random() < 0.6 else rng.choice(CHATTER) for _ in range(rng.randint(1, 9))]
    text = " ".join(words)
    text = text.capitalize() if rng.random() < 0.8 else text
    return Example("other", Turn(text + rng.choice(("?", ".", "!", "")), OTHER_ANSWER))


def make_write(rng: Random, new: float = WITH_NEW_WORDS, free: float = 0.0) -> Example:
    """A wish for a story; the completion is the story, a question on it and its answer.

    With probability `new` some names are made up, with probability `free` nothing particular is wished for."""
    wish = Wish(
        rng.choice(NAMES),
        rng.choice(THINGS),
        rng.choice(COLORS) if rng.random() < 0.5 else "",
        rng.choice(PLACES) if rng.random() < 0.5 else "",
    )
    plot = Random(f"plot {wish.thing}") if rng.random() < USUAL_PLOT else rng
    story = tell(plot, wish)
    question = plot.choice(story.questions())
    words = new_words(rng, story) if rng.random() < new else {}
    about = describe(wish, words, named=rng.random() < 0.85)
    about = "" if rng.random() < free else f" about {about}"
    completion = reword(f" {story.text} {question.text} {question.answer}", words)
    return Example("write", Turn(f"{rng.choice(WISHES)}{about}.", completion), essence=about or story.text)


def describe(wish: Wish, words: dict[str, str], *, named: bool) -> str:
    """The wish in English, reworded by `words`; the hero goes unsaid where not `named`."""
    thing = words.get(wish.thing, wish.thing)
    hero = f"{words.get(wish.hero, wish.hero)} and " if named else ""
    where = f" in the {words.get(wish.place, wish.place)}" if wish.place else ""
    return hero + a_or_an(f"{wish.color} {thing}" if wish.color else thing) + where


MAKERS: dict[str, Callable[[Random], Example]] = {
    "story": make_story,
    "facts": make_facts,
    "write": make_write,
    "add": make_add,
    "subtract": make_subtract,
    "copy": make_copy,
    "reverse": make_reverse,
    "other": make_other,
}
TASKS = tuple(MAKERS)
SHARES = {
    "story": 0.09,
    "facts": 0.06,
    "write": 0.05,
    "add": 0.35,
    "subtract": 0.35,
    "copy": 0.03,
    "reverse": 0.04,
    "other": 0.03,
}
"""How often each task is drawn for training, by examples: sums are short, and take many examples to learn."""


FREE = 0.05
"""Share of the wishes that wish for nothing particular."""
DRILLS_ONLY, DRILLS_LAST = 12_000, 0.03
"""How many drills training begins with, before anything else, and the share of drills in the end.

Only drills form the habit of looking a name up; mixed with the tasks from the start, they took many times longer."""
DRILLS_FALL = 10_000
"""Training examples in which the share of drills falls from all to DRILLS_LAST."""
FACTS_FIRST = 100_000
"""Until so many training examples fewer and fewer stories are replaced by bare facts."""


def training(seed: int) -> Iterator[Example]:
    """Examples without end, tasks drawn by SHARES, drills and bare facts first, none of them held out."""
    rng = Random(f"train {seed}")
    tasks, shares = list(SHARES), list(SHARES.values())
    for index in count():
        task = rng.choices(tasks, shares)[0]
        if rng.random() < max(DRILLS_LAST, 1 - (index - DRILLS_ONLY) / DRILLS_FALL):
            example = make_drill(rng)
        elif task == "story" and rng.random() < 1 - index / FACTS_FIRST:
            example = make_facts(rng)
        elif task == "write":
            example = make_write(rng, free=FREE)
        else:
            example = MAKERS[task](rng)
        if not example.is_held_out:
            yield example


def held_out(task: str, size: int, seed: int) -> list[Example]:
    """`size` examples of `task` with different prompts, all of them held out.

    Raises ValueError where the task does not have that many held-out prompts (`add` and `subtract`: some hundreds)."""
    rng = Random(f"held-out {task} {seed}")
    found: dict[str, Example] = {}
    for _ in range(200 * size):
        example = MAKERS[task](rng)
        if example.is_held_out:
            found.setdefault(example.first.prompt, example)
        if len(found) == size:
            return list(found.values())
    raise ValueError(f"the task {task!r} has fewer than {size} held-out prompts")


def known_words() -> list[str]:
    """Every word that the stories use, sorted: the tokenizer gives each of them one token."""
    rng = Random("known words")
    text = " ".join(" ".join(lines) for lines in LORE.values())
    for _ in range(4000):
        for example in (make_story(rng, new=0.0), make_write(rng, new=0.0)):
            turns = (example.first, *example.more)
            text += " " + " ".join(turn.prompt + turn.completion for turn in turns)
    return sorted(
        set("".join(c if c.isalpha() else " " for c in text).split())
        | {"Copy", "Reverse", *OTHER_ANSWER.strip(" .").replace(",", "").split()}
    )
