"""Reading a model directory that a stranger made: bounded, plain files, and errors that say what to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from protocol.encoding.strict_json import require_shallow
from protocol.errors import MalformedError, ModelError

__all__ = [
    "DOWNLOAD_AGAIN",
    "json_object",
    "parse_json",
    "read_json",
    "read_text_file",
    "require_own_file",
    "unreadable",
]

MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 32
"""Brackets that are open at once."""

DOWNLOAD_AGAIN = "download the model again; only complete Hugging Face directories with safetensors weights are read"


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A file that holds one JSON object. Raises ModelError."""
    return json_object(path.name, read_text_file(path, limit))


def json_object(name: str, data: bytes) -> dict[str, Any]:
    """One JSON object in a file's bytes. Raises ModelError that names the file."""
    try:
        value = parse_json(data)
    except ValueError:
        raise ModelError(f"{name} is not valid JSON", hint=DOWNLOAD_AGAIN) from None
    if not isinstance(value, dict):
        raise ModelError(f"{name} is not a JSON object", hint=DOWNLOAD_AGAIN)
    return value


def parse_json(data: bytes) -> Any:
    """What JSON in UTF-8 says. Raises ValueError, also for what is nested too deeply for the stack."""
    try:
        require_shallow(data, MAX_DEPTH)
    except MalformedError as error:
        raise ValueError(error.message) from None
    return json.loads(data.decode())


def read_text_file(path: Path, limit: int) -> bytes:
    """A file's content, never more than `limit` bytes of it. Raises ModelError."""
    require_own_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(data) > limit:
        raise ModelError(f"{path.name} has more than {limit} bytes", hint=DOWNLOAD_AGAIN)
    return data


def require_own_file(path: Path) -> None:
    """Refuse a text file that is a link to something else; links into a Hugging Face cache are common, and fine.

    These files are handed out to anyone who asks: a link in a downloaded directory must not give away a file of ours.

    Raises ModelError.
    """
    if not path.is_file():
        raise ModelError(f"the model is half-downloaded: {path.name} is missing", hint=DOWNLOAD_AGAIN)
    if not path.is_symlink():
        return
    target = path.resolve()
    in_cache = target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", target.name)
    if target.name != path.name and not in_cache:
        raise ModelError(f"{path} is a link to {target}", hint="put a copy of the model's own file in its place")


def unreadable(path: Path, error: OSError) -> ModelError:
    """The error for a file that the system does not let us read."""
    return ModelError(f"cannot read {path}: {error.strerror}", hint="check who may read it")
