"""The demo, stopped by a signal: no process and no folder is left, whenever it comes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STOP_S = 60


def processes_of(folder: Path) -> dict[int, str]:
    """Running processes whose environment names the folder, as that of the demo and of all its children does."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


def wait_for_the_end(processes: dict[int, str]) -> None:
    """Wait until each process has ended."""
    for number, command in processes.items():
        try:
            descriptor = os.pidfd_open(number)
        except ProcessLookupError:
            continue
        ended, _, _ = select.select([descriptor], [], [], STOP_S)
        os.close(descriptor)
        assert ended, command


@contextlib.contextmanager
def demo_until(moment: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo that has told so much."""
    environment = {**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "node", "demo"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stderr is not None
        while moment not in (line := demo.stderr.readline()):
            assert line, "the demo ended before"
        yield demo


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [
        pytest.param("Starting a ledger", signal.SIGTERM, 143, marks=pytest.mark.long),
        ("Asking: ", signal.SIGINT, 130),
    ],
)
def test_a_signal_leaves_nothing_behind(short_folder: Path, moment: str, number: int, status: int) -> None:
    with demo_until(moment, short_folder) as demo:
        demo.send_signal(number)
        _, told = demo.communicate(timeout=STOP_S)
    assert demo.returncode == status, told
    assert "Traceback" not in told
    assert processes_of(short_folder) == {}
    assert list(short_folder.glob("joulemesh-*")) == []


def test_a_demo_that_is_killed_takes_its_processes_along(short_folder: Path) -> None:
    with demo_until("reykjavik", short_folder) as demo:
        children = processes_of(short_folder)
        del children[demo.pid]
        assert len(children) == 6  # a ledger and three nodes, the process that they were forked from, and its helper
        demo.kill()
        wait_for_the_end(children)
    assert processes_of(short_folder) == {}
