"""Small disks that can be filled and freed, in memory; they need the right to mount."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

__all__ = ["full", "is_small_disk", "small_disk"]

SIZE_MB = 24
FILLER = "filler"
BLOCK = bytes(64 * 1024)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own at `folder` while the block runs; an ordinary folder where it cannot be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = _run("mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder))
    try:
        yield
    finally:
        if mounted:
            _run("umount", "--lazy", str(folder))


def is_small_disk(folder: Path) -> bool:
    return folder.is_mount()


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Nothing more fits on the small disk at `folder` while the block runs."""
    filler = folder / FILLER
    with filler.open("wb", buffering=0) as file:
        size = len(BLOCK)
        while size:
            try:
                file.write(BLOCK[:size])
            except OSError:
                size //= 2
    try:
        yield
    finally:
        filler.unlink()


def _run(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False
