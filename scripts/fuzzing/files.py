"""Inputs as files: one folder in memory for each process, gone with it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["in_file", "in_folder"]


@functools.cache
def _folder(_process: int) -> Path:
    shared = Path("/dev/shm")  # noqa: S108 - a million files are not for a disk
    made = Path(tempfile.mkdtemp(prefix="joulemesh-fuzz-", dir=shared if shared.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@contextlib.contextmanager
def in_file(data: bytes, name: str = "input") -> Iterator[Path]:
    """A file with this content, which only its owner can read."""
    path = _folder(os.getpid()) / name
    path.write_bytes(data)
    path.chmod(0o600)
    yield path


@contextlib.contextmanager
def in_folder(kind: str, others: Mapping[str, bytes], name: str, data: bytes) -> Iterator[Path]:
    """A folder of its own for each `kind`, that holds `others` and one file with this content."""
    folder = _folder(os.getpid()) / kind
    if not folder.exists():
        folder.mkdir()
        for other, content in others.items():
            (folder / other).write_bytes(content)
    (folder / name).write_bytes(data)
    yield folder
