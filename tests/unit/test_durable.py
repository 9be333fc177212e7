"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node.durable import create_file, replace_file

CONTENTS = [bytes([number]) * 50_000 for number in range(24)]
WRITERS: list[Callable[[Path, bytes], object]] = [replace_file, create_file]


def test_a_file_is_replaced_whole_by_many_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: replace_file(path, content), CONTENTS))
    assert path.read_bytes() in CONTENTS
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_is_created_by_one_of_many_writers(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda content: create_file(path, content), CONTENTS))
    assert won.count(True) == 1
    assert path.read_bytes() == CONTENTS[won.index(True)]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("write", WRITERS)
def test_it_is_for_its_owner_alone(tmp_path: Path, write: Callable[[Path, bytes], object]) -> None:
    write(tmp_path / "file", b"secret")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("write", WRITERS)
def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], object]
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "other").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "file", b"new")
    with pytest.raises(OSError, match="No space left"):
        replace_file(tmp_path / "other", b"new")
    assert (tmp_path / "other").read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
