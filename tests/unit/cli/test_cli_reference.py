"""The generated pages of the reference are those that the code gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "script",
    [
        "gen_cli_reference.py",
        "gen_diagrams.py",
        "gen_json_reference.py",
        "gen_messages.py",
        "gen_page_messages.py",
        "gen_scenario_reference.py",
    ],
)
def test_the_reference_is_up_to_date(script: str) -> None:
    outcome = subprocess.run(
        [sys.executable, f"scripts/{script}", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "", "")
