"""What is given back to the system comes back when it is needed, and what only this process has is kept."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from pathlib import Path

import pytest

from node.heap import give_back

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process's memory")
LIBRARY = ctypes.CDLL(None, use_errno=True)


def of_files_kib() -> int:
    """What this process holds of files."""
    found = re.search(r"RssFile:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def code_of(path: Path) -> tuple[mmap.mmap, ctypes.Array[ctypes.c_char]]:
    """A file's bytes as a linker has a library's code, but still to be written to."""
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return mapped, (ctypes.c_char * len(mapped)).from_buffer(mapped)


def protect(view: ctypes.Array[ctypes.c_char]) -> None:
    read_and_run = mmap.PROT_READ | mmap.PROT_EXEC
    assert LIBRARY.mprotect(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(len(view)), read_and_run) == 0


def test_code_that_stands_in_files_is_given_back_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(b"code" * 1_048_576)
    _mapped, view = code_of(tmp_path / "code")
    protect(view)
    assert view.raw.count(b"code") == 1_048_576
    held = of_files_kib()
    give_back()
    assert of_files_kib() < held - 4096
    assert view.raw.count(b"code") == 1_048_576


def test_code_that_was_changed_here_is_kept(tmp_path: Path) -> None:
    (tmp_path / "code").write_bytes(b"code" * 1_024)
    _mapped, view = code_of(tmp_path / "code")
    view[:4] = b"mine"
    protect(view)
    give_back()
    assert view[:8] == b"minecode"
