"""A home for keys and state that is not the user's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from node.cli.entry import status_of


class Outcome(NamedTuple):
    """What one command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of the commands that a test runs; a passphrase is at hand."""
    for name in ("JOULE_KEY", "JOULE_LEDGER", "JOULE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JOULE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JOULE_PASSPHRASE", "correct horse")
    return tmp_path / "home"


@pytest.fixture
def joule(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run one `joule` command in this process."""

    def run(*arguments: str) -> Outcome:
        status = status_of(list(arguments))
        return Outcome(status, *capsys.readouterr())

    return run
