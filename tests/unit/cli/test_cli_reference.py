"""The generated pages of the reference are those that the code gives."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


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
def test_the_reference_is_up_to_date(
    script: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [script, "--check"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / script), run_name="__main__")
    assert (ended.value.code, *capfd.readouterr()) == (0, "", "")
