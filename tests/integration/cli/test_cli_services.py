"""A service under signals, as an operator sends them."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Joule = Callable[..., Any]


class Service:
    """A ledger with its settings in a file."""

    def __init__(self, home: Path) -> None:
        self.file = home / "ledger.toml"
        self.write()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "node", "ledger", "run", "--config", str(self.file), "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, text: str = "") -> None:
        self.file.write_text(text)

    def event(self, name: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            told: dict[str, Any] = json.loads(line)
            if told["event"] == name:
                return told
        raise AssertionError(f"it ended before it said {name!r}: {self.process.communicate()}")


@pytest.fixture
def service(home: Path, joule: Joule) -> Iterator[Service]:
    assert joule("key", "new", "--light").status == 0
    running = Service(home)
    try:
        running.event("ledger ready")
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            running.process.kill()
        running.process.communicate()


def test_a_hangup_reads_the_settings_again_and_a_stop_is_told(service: Service) -> None:
    service.write("[local]\nlog_level = 'debug'\n[ledger]\ngrace_s = 7\n")
    service.process.send_signal(signal.SIGHUP)
    assert service.event("settings changed")["settings"] == ["log_level"]
    assert service.event("restart needed")["settings"] == ["grace_s"]
    service.write("[ledger]\ngrase_s = 7\n")
    service.process.send_signal(signal.SIGHUP)
    refused = service.event("settings refused")
    assert "grase_s" in refused["reason"]
    assert "grace_s" in refused["hint"]
    service.process.send_signal(signal.SIGTERM)
    assert service.event("stopping")["level"] == "info"
    service.event("stopped")
    assert service.process.wait(timeout=60) == 0


def test_a_terminal_that_is_closed_does_not_end_a_service(home: Path, joule: Joule) -> None:
    assert joule("key", "new", "--light").status == 0
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "node", "ledger", "run", "--port", "0"]
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True) as process:
        os.close(theirs)
        shown = b""
        while b"ledger is ready" not in shown:
            shown += os.read(mine, 4096)
        os.close(mine)
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert b"Traceback" not in process.communicate()[1]
