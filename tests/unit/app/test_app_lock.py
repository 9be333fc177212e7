"""One key, one running node: the second is refused, and told which process holds the key."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from node.app.process.lock import sole_use
from protocol.errors import LocalError
from protocol.identity.ids import Address

KEY, OTHER = Address(b"\x11" * 20), Address(b"\x22" * 20)

HOLDER = """
import sys
from pathlib import Path
from node.app.process.lock import sole_use

with sole_use(Path(sys.argv[1]), bytes.fromhex(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the key until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(folder), KEY.hex()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_with_the_key_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with pytest.raises(LocalError, match=f"process {process.pid}") as caught, sole_use(tmp_path, KEY):
            pass
        assert caught.value.code == "key-in-use"
        assert "stop it" in caught.value.hint
        with sole_use(tmp_path, OTHER):
            pass
        process.kill()
        process.wait()
        with sole_use(tmp_path, KEY):  # whatever became of the one before
            pass


def test_the_key_is_free_again_after_the_block(tmp_path: Path) -> None:
    for _ in range(2):
        with ExitStack() as held:
            held.enter_context(sole_use(tmp_path, KEY))
            with pytest.raises(LocalError, match=f"process {os.getpid()}"):
                held.enter_context(sole_use(tmp_path, KEY))


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text("not a folder")
    with pytest.raises(LocalError, match="cannot write"), sole_use(tmp_path, KEY):
        pass


def test_what_stands_in_the_file_is_not_believed(tmp_path: Path) -> None:
    with sole_use(tmp_path, KEY):
        (path,) = (tmp_path / "locks").iterdir()
        path.write_bytes(b"\xff\x1b[2J" * 20)
        with pytest.raises(LocalError) as caught, sole_use(tmp_path, KEY):
            pass
        assert caught.value.message.isprintable()
        assert "process" not in caught.value.message
