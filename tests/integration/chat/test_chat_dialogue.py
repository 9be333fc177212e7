"""Conversations as ids: a new turn begins with the very ids of those before, whatever text is encoded to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints import BOS, EOS, write_tokenizer

from node.app.models.dialogue import Dialogue
from node.app.models.obtaining import Text
from node.app.models.prompt import ChatMessage
from protocol.errors import ConfigurationError, ModelError

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}<assistant>"
TRIMMED = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</s>{% endfor %}<assistant>"
OLDER_TURNS_CHANGE = "{{ messages | length }}{% for m in messages %}{{ m.content }}</s>{% endfor %}"


def text_of(directory: Path, template: str | None) -> Text:
    write_tokenizer(directory, 320)
    config = json.loads((directory / "tokenizer_config.json").read_text())
    if template is not None:
        config["chat_template"] = template
    return Text((directory / "tokenizer.json").read_bytes(), config=json.dumps(config).encode())


def dialogue(directory: Path, template: str | None = PLAIN, **more: object) -> tuple[Dialogue, Text]:
    text = text_of(directory, template)
    return Dialogue(text, (EOS,), **more), text


def odd_ids(text: Text, word: str) -> list[int]:
    """Ids that decode to a word, other than those that encoding it gives."""
    ids = [each for letter in word for each in text.encode_on(letter)]
    assert text.decode(ids) == word
    assert ids != text.encode_on(word)
    return ids


@pytest.mark.parametrize("template", [PLAIN, None], ids=["template", "none"])
def test_a_turn_begins_with_the_ids_that_were_drawn(tmp_path: Path, template: str | None) -> None:
    talk, text = dialogue(tmp_path, template)
    prompt, first = talk.ask("abc")
    assert prompt.shown == "abc"
    drawn = odd_ids(text, "ab")
    assert talk.answered(first, [*drawn, EOS]) == "ab"
    assert talk.turns == [ChatMessage("user", "abc"), ChatMessage("assistant", "ab")]
    _, second = talk.ask("de")
    assert second[: len(first) + len(drawn)] == [*first, *drawn]
    rest = text.decode(second[len(first) + len(drawn) :])
    assert rest == ("<user>de<assistant>" if template else "\nde")
    assert (second[len(first) + len(drawn)] == EOS) is (template is not None)
    talk.answered(second, odd_ids(text, "ad"))
    _, third = talk.ask("f")
    assert third[: len(second)] == second


def test_what_was_asked_and_not_answered_was_never_asked(tmp_path: Path) -> None:
    talk, text = dialogue(tmp_path)
    _, first = talk.ask("abc")
    assert talk.answered(first, [EOS]) == ""
    assert talk.turns == []
    _, other = talk.ask("xyz")
    assert text.decode(other) == "<user>xyz<assistant>"
    _, again = talk.ask("abc")
    assert again == first


@pytest.mark.parametrize("template", [TRIMMED, OLDER_TURNS_CHANGE])
def test_a_template_that_writes_old_turns_anew_is_encoded_anew(tmp_path: Path, template: str) -> None:
    talk, text = dialogue(tmp_path, template)
    _, first = talk.ask("abc")
    talk.answered(first, text.encode_on(" ab "))
    prompt, second = talk.ask("d")
    assert second == text.prompt_ids(prompt)


def test_it_begins_anew_and_keeps_the_systems_word(tmp_path: Path) -> None:
    talk, text = dialogue(tmp_path, system="be brief")
    _, first = talk.ask("abc")
    assert text.decode(first) == "<system>be brief<user>abc<assistant>"
    talk.answered(first, text.encode_on("x"))
    talk.reset()
    assert talk.turns == [ChatMessage("system", "be brief")]
    _, again = talk.ask("abc")
    assert again == first


def test_turns_from_before_go_first(tmp_path: Path) -> None:
    before = [ChatMessage("system", "old"), ChatMessage("user", "ab"), ChatMessage("assistant", "cd")]
    talk, text = dialogue(tmp_path, turns=before, system="new")
    _, ids = talk.ask("e")
    assert text.decode(ids) == "<system>new<user>ab<assistant>cd<user>e<assistant>"
    kept, _ = dialogue(tmp_path, turns=before)
    assert kept.turns == before


def test_a_model_without_template_goes_on_from_the_text(tmp_path: Path) -> None:
    before = [ChatMessage("user", "ab"), ChatMessage("assistant", "cd")]
    talk, text = dialogue(tmp_path, None, turns=before)
    _, ids = talk.ask("e")
    assert text.decode(ids) == "abcd\ne"
    assert BOS not in ids
    told, _ = dialogue(tmp_path, None, system="be brief")
    with pytest.raises(ModelError, match="no chat template"):
        told.ask("e")
    with pytest.raises(ConfigurationError, match="empty"):
        talk.ask("  ")
