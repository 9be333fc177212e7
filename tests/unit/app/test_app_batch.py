"""Files of prompts and answers: what is read, what is refused, and what a crash leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.app.buying.batch import Answer, _append, _failed, _plain, answers_in, load_items
from protocol.errors import ConfigurationError


def prompts(folder: Path, *lines: object) -> Path:
    file = folder / "prompts.jsonl"
    file.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines))
    return file


def test_prompts_are_questions_conversations_or_raw_text(tmp_path: Path) -> None:
    file = prompts(
        tmp_path,
        {"prompt": "a", "id": "x", "max_tokens": 3},
        "",
        {"prompt": "b", "system": "be short"},
        {"messages": [{"role": "user", "content": "c"}]},
        {"prompt": "d", "raw": True},
    )
    items = load_items(file)
    assert [(each.number, each.name, each.most) for each in items] == [
        (1, "x", 3),
        (3, "", None),
        (4, "", None),
        (5, "", None),
    ]
    assert items[3].prompt.raw == "d"
    assert [len(each.prompt.messages) for each in items] == [1, 2, 1, 0]


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "[]",
        "{}",
        {"prompt": "a", "messages": []},
        {"prompt": 3},
        {"prompt": " "},
        {"prompt": "a", "max_tokens": 0},
        {"prompt": "a", "max_tokens": True},
        {"prompt": "a", "id": 3},
        {"prompt": "a", "raw": 1},
        {"prompt": "a", "temperature": 1},
        {"messages": [{"role": "system", "content": "a"}]},
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: object) -> None:
    with pytest.raises(ConfigurationError, match="line 2"):
        load_items(prompts(tmp_path, {"prompt": "a"}, line))


def test_a_file_without_prompts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no prompt"):
        load_items(prompts(tmp_path, ""))
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_items(tmp_path / "none")


def answered(folder: Path, *answers: Answer) -> Path:
    file = folder / "answers.jsonl"
    for each in answers:
        _append(file, json.dumps(_plain(each)).encode() + b"\n")
    return file


def test_answers_of_an_earlier_run_count_and_the_last_of_each_does(tmp_path: Path) -> None:
    first, second = load_items(prompts(tmp_path, {"prompt": "a"}, {"prompt": "b"}))
    failed = _failed(first, ConfigurationError("too long"))
    whole = Answer(**{**_plain(failed), "error": None, "answer": "yes"})
    file = answered(tmp_path, failed, whole)
    assert answers_in(file, [first, second]) == {1: whole}
    assert answers_in(tmp_path / "none", [first]) == {}
    with pytest.raises(ConfigurationError, match="another prompt"):
        answers_in(file, load_items(prompts(tmp_path, {"prompt": "other"})))


def test_a_line_that_a_crash_cut_off_is_passed_over_and_replaced(tmp_path: Path) -> None:
    (item,) = load_items(prompts(tmp_path, {"prompt": "a"}))
    answer = _failed(item, ConfigurationError("x"))
    file = answered(tmp_path, answer)
    with file.open("ab") as opened:
        opened.write(b'{"number": 1, "ans')
    assert set(answers_in(file, [item])) == {1}
    _append(file, json.dumps(_plain(answer)).encode() + b"\n")
    assert [json.loads(line)["number"] for line in file.read_text().splitlines()] == [1, 1]
    file.write_bytes(b"nonsense\n" + file.read_bytes())
    with pytest.raises(ConfigurationError, match="line 1"):
        answers_in(file, [item])
