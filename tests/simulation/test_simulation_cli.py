"""`joule sim`, through click and as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_economy import SMALL

from protocol.errors import ConfigurationError
from simulator.cli import sim
from simulator.scenario import bundled_names, find_scenario, load_scenario


@pytest.fixture
def scenario_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def test_run_prints_tables_and_where_the_results_are(
    scenario_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = CliRunner().invoke(sim, ["run", "small.toml"], catch_exceptions=False)
    assert outcome.exit_code == 0
    assert outcome.stderr == ""
    assert "Nothing in particular." not in outcome.stdout, "what the file claims, the run did not show"
    assert "small-seed3" in outcome.stdout
    for word in ("plain", "dear", "north", "lawful", "$/Mtok"):
        assert word in outcome.stdout
    assert (tmp_path / "small-seed3" / "picture.png").is_file()


def test_run_prints_json_for_programs(scenario_file: Path, tmp_path: Path) -> None:
    arguments = ["run", str(scenario_file), "--seed", "5", "--out", str(tmp_path / "out"), "--json"]
    outcome = CliRunner().invoke(sim, arguments, catch_exceptions=False)
    summary = json.loads(outcome.stdout)
    assert summary["seed"] == 5
    assert summary["runs"]["plain"]["regions"].keys() == {"north", "west", "east", "south"}
    assert summary["scenario_hash"] == load_scenario(scenario_file).digest


def test_examples_are_listed_and_found_by_name() -> None:
    listed = CliRunner().invoke(sim, ["examples", "--json"], catch_exceptions=False)
    assert sorted(json.loads(listed.stdout)) == bundled_names() == ["energy-share", "residency"]
    assert find_scenario("residency").name == "residency.toml"
    assert "residency: How much" in CliRunner().invoke(sim, ["examples"], catch_exceptions=False).stdout


def test_errors_are_left_to_the_command_line_that_reports_them(scenario_file: Path) -> None:
    outcome = CliRunner().invoke(sim, ["run", str(scenario_file), "--out", str(scenario_file.parent)])
    assert isinstance(outcome.exception, ConfigurationError)
    assert CliRunner().invoke(sim, ["run", str(scenario_file), "--seed", "-1"]).exit_code == 2


def test_a_process_reports_an_error_in_two_lines_and_a_status(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text(SMALL.replace("patience_days", "patience_dais"))
    outcome = subprocess.run(
        [sys.executable, "-m", "simulator", "run", str(bad)], capture_output=True, text=True, check=False, timeout=60
    )
    assert outcome.returncode == 1
    assert outcome.stdout == ""
    assert outcome.stderr.splitlines() == [
        "error: bad.toml: unknown key market.patience_dais",
        "hint: did you mean 'patience_days'?",
    ]
