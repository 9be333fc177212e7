"""Commands in forked processes: they run as any others, and a machine that cannot fork says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from node.demo.forked import Forked


@pytest.mark.asyncio
async def test_a_command_says_what_it_says_in_a_terminal(tmp_path: Path) -> None:
    process = await Forked.start(["key", "list", "--json"], {"JOULE_HOME": str(tmp_path)})
    assert await process.communicate() == (b"[]\n", b"")
    assert (process.returncode, await process.wait()) == (0, 0)
    with pytest.raises(ProcessLookupError):
        process.terminate()


@pytest.mark.asyncio
async def test_a_wrong_command_ends_with_its_own_status(tmp_path: Path) -> None:
    process = await Forked.start(["no-such-command"], {"JOULE_HOME": str(tmp_path)})
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"no-such-command" in err


@pytest.mark.asyncio
async def test_one_that_is_killed_ends_by_the_signal(tmp_path: Path) -> None:
    process = await Forked.start(["ledger", "run", "--json"], {"JOULE_HOME": str(tmp_path)})
    assert process.returncode is None
    process.kill()
    assert await process.wait() == process.returncode == -signal.SIGKILL


def test_where_no_process_can_be_started_a_person_is_told_what_to_look_at(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 110)
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "node", "demo"],
        env={**os.environ, "TMPDIR": str(folder), "JOULE_HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "could not be started" in done.stderr
    assert "TMPDIR" in done.stderr


def test_what_lies_in_the_folder_is_not_imported(tmp_path: Path) -> None:
    """``python -c``, by which Python starts the process that others are forked from, would import it."""
    for name in ("signal.py", "selectors.py", "attr.py"):
        (tmp_path / name).write_text("raise SystemExit('planted')")
    script = tmp_path / "bin" / "start.py"
    script.parent.mkdir()
    script.write_text(
        "from node.demo.forked import _forks, fork\n"
        "if __name__ == '__main__':\n"
        "    _forks.set_forkserver_preload(['attr'])\n"
        "    process = fork(int)\n"
        "    process.join()\n"
        "    print(process.exitcode)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")
