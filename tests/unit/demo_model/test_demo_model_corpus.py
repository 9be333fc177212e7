"""The corpus is a function of its seed, its answers are right, and its splits share no prompt."""

from __future__ import annotations

import re
from functools import cache
from itertools import islice
from random import Random

import pytest
from tokenizers import Tokenizer

from scripts.demo_model import corpus
from scripts.demo_model.corpus import Example
from scripts.demo_model.reader import Reading, is_sound_story, sentences
from scripts.demo_model.stories import LORE, NAMES, PLACES, Story, Wish, tell, tell_plainly
from scripts.demo_model.tokens import END, build_tokenizer


@cache
def many() -> list[Example]:
    return drawn(5, 25_000)


@cache
def held_out(task: str, size: int) -> list[Example]:
    return corpus.held_out(task, size, 1)


@cache
def known_tokenizer() -> Tokenizer:
    return build_tokenizer(corpus.known_words())


def drawn(seed: int, size: int) -> list[Example]:
    return list(islice(corpus.training(seed), size))


def test_training_examples_are_a_function_of_the_seed() -> None:
    assert drawn(3, 300) == drawn(3, 300)
    assert drawn(3, 300) != drawn(4, 300)


def test_held_out_examples_are_a_function_of_the_seed() -> None:
    assert corpus.held_out("story", 50, 1) == corpus.held_out("story", 50, 1)
    assert corpus.held_out("story", 50, 1) != corpus.held_out("story", 50, 2)


@pytest.mark.parametrize("task", corpus.TASKS)
def test_no_training_prompt_is_held_out(task: str) -> None:
    trained = {example.first.prompt for example in many() if example.task == task}
    asked = {example.first.prompt for example in held_out(task, 200)}
    assert len(asked) == 200
    assert trained
    assert not trained & asked


@pytest.mark.parametrize("task", corpus.TASKS)
def test_no_training_story_sum_or_wish_is_held_out(task: str) -> None:
    trained = {example.essence for example in many() if example.task == task}
    asked = {example.essence for example in held_out(task, 200)}
    assert not (trained & asked) - {""}
    assert not any(corpus.is_held_out(text) for text in trained - {""})
    assert all(corpus.is_held_out(text) for text in asked - {""})


def test_more_held_out_prompts_than_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 600 held-out prompts"):
        corpus.held_out("subtract", 600, 1)


def test_every_task_is_trained() -> None:
    assert {example.task for example in many()} == {*corpus.TASKS, "drill"}
    assert set(corpus.SHARES) == set(corpus.TASKS)


def test_a_drill_asks_for_one_of_its_facts() -> None:
    for example in (example.first for example in many() if example.task == "drill"):
        *facts, start = re.split(r"(?<=\.) ", example.prompt)
        assert start + example.completion in facts


@pytest.mark.parametrize("task", ["add", "subtract"])
def test_sums_are_right(task: str) -> None:
    for example in held_out(task, 200):
        left, sign, right = example.essence.split()
        assert example.first.prompt in (f"{example.essence} =", f"What is {example.essence}?")
        result = int(left) + int(right) if sign == "+" else int(left) - int(right)
        assert example.first.completion == f" {result}."
        assert 0 <= result <= 2 * corpus.LARGEST_ADDEND


@pytest.mark.parametrize(("task", "step"), [("copy", 1), ("reverse", -1)])
def test_words_are_spelled_rightly(task: str, step: int) -> None:
    for example in held_out(task, 200):
        word = example.first.prompt.split('"')[1]
        assert example.first.completion == f' "{word[::step]}".'


def test_an_independent_reader_finds_the_same_answers() -> None:
    for example in (*held_out("story", 300), *held_out("facts", 300)):
        answers = Reading(example.first.prompt).answers
        for turn in (example.first, *example.more):
            assert answers[sentences(turn.prompt)[-1]] == turn.completion.strip()


def test_the_reader_and_the_story_agree_on_what_may_be_asked() -> None:
    for seed in range(300):
        story = tell(Random(seed))
        known = {question.text: question.answer for question in story.questions()}
        assert known == Reading(story.text).answers


def test_plain_stories_have_the_length_asked_for() -> None:
    for seed in range(100):
        story = tell_plainly(Random(seed), 5)
        assert len(story.sentences) == 5
        assert story.questions()


def test_where_a_person_is_stays_open_after_they_put_a_thing_somewhere() -> None:
    story = Story()
    story.move(Random(1), "Tom", "barn")
    story.own("Tom", "map", "red")
    assert "Where is Tom?" in {question.text for question in story.questions()}
    story.put(Random(1), "Tom", "map", "cave")
    texts = {question.text for question in story.questions()}
    assert "Where is the map?" in texts
    assert not {"Where is Tom?", "Who has the map?"} & texts


def test_a_story_tells_what_was_wished_for() -> None:
    text = tell(Random(1), Wish("Mia", "kite", "red", "park")).text
    assert "Mia was in the park." in text
    assert "found a red kite." in text


def test_lore_states_no_fact_that_is_asked_for() -> None:
    for line in (line for lines in LORE.values() for line in lines):
        words = {word.strip(".,") for word in line.split()}
        assert not words & {*NAMES, *PLACES, *corpus.COLORS}
        assert not Reading(line).answers


def test_made_up_names_replace_known_ones_everywhere() -> None:
    story = tell(Random(1), Wish("Mia", "kite", "red", "park"))
    words = corpus.new_words(Random(2), story)
    assert 1 <= len(words) <= 3
    text = corpus.reword(story.text, words)
    for old, new in words.items():
        assert old not in text.replace(".", "").replace(",", "").split()
        assert new in text
        assert new[0].isupper() == (old in NAMES)
    assert corpus.reword(story.text, {}) == story.text


def test_free_wishes_are_trained_but_never_asked() -> None:
    free = {f"{wish}." for wish in corpus.WISHES}
    assert free <= {example.first.prompt for example in many()}
    assert not free & {example.first.prompt for example in held_out("write", 500)}


def test_what_is_no_task_is_answered_by_naming_the_tasks() -> None:
    assert {example.first.completion for example in corpus.held_out("other", 50, 1)} == {corpus.OTHER_ANSWER}


def test_stories_to_write_are_sound() -> None:
    for example in held_out("write", 300):
        assert is_sound_story(example.first.prompt, example.first.completion)


def test_an_unsound_story_is_told_apart() -> None:
    prompt = "Write a story about Tom and a red hat in the tower."
    good = (
        "One cold evening, Tom was in the tower. He found a red hat. The hat was much too big. Soon Tom met Mia. Mia "
        "liked it very much. Tom gave the hat to Mia. Mia ran to the park. Who has the hat? Mia has the hat."
    )
    assert is_sound_story(prompt, good)
    assert not is_sound_story(prompt, good.replace("Mia has the hat", "Tom has the hat"))
    assert not is_sound_story(prompt, good.replace("red hat", "blue hat"))
    assert not is_sound_story(prompt, good.replace("in the tower", "in the cave"))
    assert not is_sound_story(prompt.replace("Tom", "Leo"), good)
    assert not is_sound_story(prompt, "Who has the hat? Mia has the hat.")
    assert not is_sound_story("2 + 2 =", good)
    assert is_sound_story("Tell me a story about a hat.", good)
    assert is_sound_story("Tell me a story.", good)
    assert not is_sound_story("Tell me a story about a drum.", good)


def test_tokenizer_gives_words_one_token_and_spells_the_rest() -> None:
    tokenizer = known_tokenizer()
    assert len(tokenizer.encode("Where is the kite?").ids) == 5
    assert tokenizer.encode('Copy "kite":').tokens == ["ĠCopy", 'Ġ"', *"kite", '":']
    assert tokenizer.encode("12 + 7 =").tokens == ["Ġ", "1", "2", "Ġ+", "Ġ", "7", "Ġ="]
    assert tokenizer.encode("  Where\n is  Tom?\n").ids == tokenizer.encode("Where is Tom?").ids
    assert tokenizer.token_to_id(END) == 0


@pytest.mark.parametrize("text", [" Where is Tom?", " Żółw 🐢 said: hm?!", ' "enots".', " 42."])
def test_tokens_decode_to_the_text(text: str) -> None:
    tokenizer = known_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_a_story_knows_no_word_that_the_tokenizer_spells() -> None:
    tokenizer = known_tokenizer()
    for seed in range(200):
        example = corpus.make_story(Random(seed), new=0.0)
        tokens = tokenizer.encode(example.first.prompt).tokens
        assert not [token for token in tokens if len(token) == 1 and token.isalpha()]
