"""Files and answers as bytes and JSON: bounded, and read strictly."""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from protocol.encoding.strict_json import require_shallow
from protocol.errors import ConfigurationError, MalformedError

__all__ = ["MAX_FILE_BYTES", "parse_json", "read_bounded", "secret_of"]

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Of a feed's answer or a file: a year of quarters in any of the formats."""
MAX_DEPTH = 32


def read_bounded(path: Path, most: int) -> bytes:
    """A file's bytes. Raises ConfigurationError where it cannot be read, or is too long."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", hint="is the path right?") from None
    if len(data) > most:
        raise ConfigurationError(f"{path} has more than {most >> 20} MiB", hint="keep a year of quarters at most in it")
    return data


def secret_of(path: Path | None) -> str:
    """The first line of a file with a token; empty for none. Raises ConfigurationError."""
    if path is None:
        return ""
    try:
        line = read_bounded(path, 64 * 1024).decode().partition("\n")[0].strip()
    except UnicodeDecodeError:
        line = ""
    if not line or not line.isascii() or not line.isprintable():
        raise ConfigurationError(f"{path} does not begin with a token", hint="put the token on its first line")
    return line


def parse_json(data: bytes, whence: str) -> Any:
    """JSON with decimals for fractions. Raises MalformedError, which says that a page for people came instead."""
    head = data[:256].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        raise MalformedError(f"{whence} gave a page for people (HTML), not JSON")
    require_shallow(data, MAX_DEPTH)
    try:
        return json.loads(data.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError, InvalidOperation):
        raise MalformedError(f"{whence} gave no JSON, or not a whole one") from None


def _refuse(spelled: str) -> NoReturn:
    raise MalformedError(f"{spelled} is not a number of any use")
