"""Questions and a text that no model was trained on, and a model's tokenizer to put them to it."""

from __future__ import annotations

import json
from pathlib import Path

from node.app.models.tokenizer_limits import load_tokenizer
from node.engine.worth import Encode, Question
from node.model_directory import read_text_file
from protocol.errors import ConfigurationError, MalformedError, ModelError
from protocol.market.catalog import MAX_FILE_BYTES

__all__ = ["encoder_of", "held_out", "sample_of"]

HELD_OUT = Path(__file__).with_name("held_out.json")
MAX_SAMPLE_BYTES = 1 << 20


def held_out() -> tuple[list[Question], str]:
    """The questions, and the text."""
    kept = json.loads(HELD_OUT.read_text(encoding="utf-8"))
    return [Question(each["ask"], tuple(each["choices"])) for each in kept["questions"]], kept["text"]


def encoder_of(directory: Path) -> Encode:
    """A model's tokenizer. Raises ModelError where it has none that works."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{directory} has no tokenizer.json: nothing can be asked", hint="download it, too")
    try:
        tokenizer = load_tokenizer(read_text_file(path, MAX_FILE_BYTES))
    except MalformedError as error:
        raise ModelError(error.message, hint="download tokenizer.json again") from None
    return lambda text, begins: tokenizer.encode(text, add_special_tokens=begins).ids


def sample_of(file: Path | None) -> str:
    """A person's own text, or ours: the text, and each question with its right answer. Raises ConfigurationError."""
    if file is None:
        questions, text = held_out()
        return "\n".join([*(each.ask + each.choices[0] for each in questions), text])
    try:
        with file.open("rb") as opened:
            found = opened.read(MAX_SAMPLE_BYTES).decode(errors="ignore")
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", hint="give a text file") from None
    if not found.strip():
        raise ConfigurationError(f"{file} is empty", hint="give some pages of what the model will be asked")
    return found
