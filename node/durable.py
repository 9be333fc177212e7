"""Files that are there whole or not at all, whatever crashes and whoever else writes them at the same time.

Each is for its owner's eyes (mode 0600). A crash at the wrong moment leaves the old file and a hidden draft beside it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["create_file", "replace_file"]


def replace_file(path: Path, content: bytes) -> None:
    """Write a file, over an old one where there is one. It is on disk when this returns. Raises OSError."""
    with _draft(path, content) as draft:
        draft.replace(path)
    _flush_folder(path.parent)


def create_file(path: Path, content: bytes) -> bool:
    """Write a file that is not there yet; False, and nothing written, where the name is taken. Raises OSError."""
    with _draft(path, content) as draft:
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
    _flush_folder(path.parent)
    return True


@contextmanager
def _draft(path: Path, content: bytes) -> Iterator[Path]:
    """The content on disk, under a name that nobody else uses."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
