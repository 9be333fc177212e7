"""`joule model`, and what `joule run` refuses before it asks anybody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from node import demo
from node.app.models.prompt import MAX_PROMPT_BYTES
from node.model_directory import MANIFEST_FILE, read_manifest

DEMO = Path(demo.__file__).parent / "model"
Joule = Callable[..., Any]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the demo model."""
    return shutil.copytree(DEMO, tmp_path / "model")


def test_a_manifest_is_written_once_and_keeps_its_licence(joule: Joule, model: Path) -> None:
    written = joule("model", "manifest", str(model), "--license", "Apache-2.0", "--json").json
    assert (written["written"], written["license"], written["files"]) == (True, "Apache-2.0", 5)
    assert (model / MANIFEST_FILE).stat().st_mode & 0o444 == 0o444
    assert joule("model", "manifest", str(model), "--json").json["written"] is False
    assert read_manifest(model).license == "Apache-2.0"
    refused = joule("model", "manifest", str(model), "--license", "MIT", "--json")
    assert (refused.status, refused.json["code"]) == (1, "model")
    assert "--replace" in refused.json["hint"]
    assert joule("model", "manifest", str(model), "--license", "MIT", "--replace").status == 0
    assert read_manifest(model).license == "MIT"
    (model / MANIFEST_FILE).write_text("{}")
    assert joule("model", "manifest", str(model)).status == 1
    assert joule("model", "manifest", str(model), "--replace").status == 0


@pytest.mark.parametrize("spdx", ["", " ", "a\nb", "Ma\u00dfe", "x" * 97, "\x1b[2J"])
def test_a_licence_that_is_no_expression_is_refused(joule: Joule, model: Path, spdx: str) -> None:
    assert joule("model", "manifest", str(model), "--license", spdx).status == 2
    assert not (model / MANIFEST_FILE).exists()


def test_show_tells_what_is_here_and_what_is_not(joule: Joule, model: Path) -> None:
    found = joule("model", "show", str(model), "--json").json
    assert found["manifest_file"] is False
    assert {each["state"] for each in found["files"]} == {"here"}
    assert set(found["roots"]) == {"fp32", "bf16"}
    joule("model", "manifest", str(model))
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").write_text("{}")
    kept = joule("model", "show", str(model), "--json").json
    assert (kept["manifest_file"], kept["roots"]) == (True, found["roots"])
    states = {each["name"]: each["state"] for each in kept["files"]}
    assert (states["tokenizer.json"], states["tokenizer_config.json"]) == ("missing", "differs")
    sizes = [each["size"] for each in kept["needs"]]
    whole = (model / "model.safetensors").stat().st_size
    assert 0.99 * whole < sum(sizes) < whole
    assert sizes[0] > sizes[1] < sizes[5]
    assert "model.safetensors" in joule("model", "show", str(model)).out


def test_show_of_no_model_says_so(joule: Joule, tmp_path: Path) -> None:
    outcome = joule("model", "show", str(tmp_path / "none"), "--json")
    assert (outcome.status, outcome.json["code"]) == (1, "model")


def test_the_doctor_says_which_device_computes(joule: Joule) -> None:
    findings = {each["what"]: each["detail"] for each in joule("doctor", "--json").json}
    assert findings["computes on"].startswith("CPU: ")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--messages", "x.json", "Hello"),
        ("--messages", "x.json", "--system", "Be brief."),
        ("--messages", "x.json", "--raw"),
        ("Hello", "--raw", "--system", "Be brief."),
    ],
)
def test_flags_that_contradict_are_wrong_usage(joule: Joule, arguments: tuple[str, ...]) -> None:
    assert joule("run", *arguments).status == 2


@pytest.mark.parametrize("arguments", [("",), (" \n",), ("", "--raw"), ("Hello", "--system", ""), ("\udcff",)])
def test_a_prompt_that_asks_nothing_is_refused_before_a_key_is_needed(joule: Joule, arguments: tuple[str, ...]) -> None:
    outcome = joule("run", *arguments, "--json")
    assert (outcome.status, outcome.json["code"]) == (1, "prompt")
    assert outcome.json["hint"]


FILES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b'[{"role": "user", "content": "\xff"}]', "not JSON"),
    "no list": (b'{"role": "user", "content": "a"}', "not a list"),
    "empty": (b"[]", "not a list"),
    "deep": (b"[" * 99_999, "not JSON"),
    "no role": (b'[{"content": "a"}]', "message 1 is not a role and a content"),
    "more": (b'[{"role": "user", "content": "a", "name": "b"}]', "message 1 is not a role and a content"),
    "number": (b'[{"role": "user", "content": 5}]', "message 1: role and content are not both text"),
    "parts": (b'[{"role": "user", "content": [{"type": "text"}]}]', "not both text"),
    "role": (b'[{"role": "tool", "content": "a"}]', "message 1 has the role 'tool'"),
    "late system": (b'[{"role":"user","content":"a"},{"role":"system","content":"b"}]', "message 2 is the system's"),
    "blank": (b'[{"role":"user","content":" "},{"role":"user","content":"b"}]', r"message 1 (user) is empty"),
    "no question": (b'[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]', "is the assistant's"),
    "half a pair": (b'[{"role": "user", "content": "\\ud800"}]', "not valid Unicode"),
    "large": (b'[{"role": "user", "content": "' + b"a" * MAX_PROMPT_BYTES + b'"}]', "more than 4194304 bytes"),
    "many": (json.dumps([{"role": "user", "content": "a"}] * 4097).encode(), "4097 messages"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_conversation_that_is_none_is_refused_before_a_key_is_needed(joule: Joule, tmp_path: Path, name: str) -> None:
    content, says = FILES[name]
    file = tmp_path / "messages.json"
    file.write_bytes(content)
    outcome = joule("run", "--messages", str(file), "--json")
    assert (outcome.status, outcome.json["code"]) == (1, "prompt")
    assert says in outcome.json["message"]
    assert outcome.json["hint"]


def test_a_conversation_is_read_from_a_file_or_standard_input(
    joule: Joule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "messages.json"
    assert joule("run", "--messages", str(file), "--json").json["code"] == "prompt"
    file.write_text('[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 17 + 25?"}]')
    assert joule("run", "--messages", str(file), "--json").json["code"] == "no-key"  # the next thing that is missing
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(file.read_bytes())))
    assert joule("run", "--messages", "-", "--json").json["code"] == "no-key"
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"\xff")))
    assert "not valid Unicode" in joule("run", "-", "--json").json["message"]
