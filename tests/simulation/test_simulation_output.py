"""Results are complete, described, loadable, and either all there or not at all."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_economy import SMALL

import simulator.picture
from protocol.errors import ConfigurationError, LocalError
from simulator.output import complete_folder
from simulator.run import run_scenario
from simulator.summary import Summary

FILES = ["manifest.json", "metrics.parquet", "picture.png", "providers.parquet"]


@pytest.fixture(scope="module")
def scenario_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def results(scenario_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("results") / "deep" / "small"
    return out, run_scenario(scenario_file, out=out)


def test_a_run_leaves_four_files_and_nothing_beside_them(results: tuple[Path, Summary]) -> None:
    out, summary = results
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert [path.name for path in out.parent.iterdir()] == ["small"]
    assert out.stat().st_mode & 0o777 == 0o777 & ~_umask()
    assert summary.out == str(out)


def test_metrics_are_tidy_and_complete(results: tuple[Path, Summary]) -> None:
    out, summary = results
    table = pq.read_table(out / "metrics.parquet")
    assert table.column_names == ["run_id", "seed", "t", "entity", "metric", "value"]
    assert [str(field.type) for field in table.schema] == [
        "dictionary<values=string, indices=int32, ordered=0>",
        "int64",
        "int32",
        "dictionary<values=string, indices=int32, ordered=0>",
        "dictionary<values=string, indices=int32, ordered=0>",
        "int64",
    ]
    assert table.num_rows == summary.rows
    assert all(column.null_count == 0 for column in table.columns)
    keys = zip(*(table[name].to_pylist() for name in ("run_id", "t", "entity", "metric")), strict=True)
    assert len(set(keys)) == summary.rows, "one row for each run, hour, entity and metric"
    assert set(table["run_id"].to_pylist()) == {"plain", "dear"}
    assert set(table["seed"].to_pylist()) == {3}


def test_totals_by_provider_follow_the_last_hour(results: tuple[Path, Summary]) -> None:
    rows = pq.read_table(results[0] / "metrics.parquet").to_pylist()
    providers = [row for row in rows if row["entity"].startswith("provider/")]
    assert {row["t"] for row in providers} == {340}
    assert {row["t"] for row in rows if row["entity"] == "market"} == set(range(340))
    earned = sum(row["value"] for row in providers if row["metric"] == "revenue_micro")
    assert earned == sum(row["value"] for row in rows if row["metric"] == "paid_micro") > 0


def test_providers_are_described_once_for_each_run(results: tuple[Path, Summary]) -> None:
    table = pq.read_table(results[0] / "providers.parquet")
    assert table.column_names[:4] == ["run_id", "entity", "region", "hardware"]
    assert table.num_rows == 80
    assert set(table["region"].to_pylist()) <= {"north", "west", "east", "south"}
    assert np.min(table["pue_milli"].to_numpy()) >= 1200


def test_the_manifest_says_what_was_run_with_what(results: tuple[Path, Summary]) -> None:
    out, summary = results
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["seed"] == 3
    assert manifest["scenario_hash"] == summary.scenario_hash
    assert manifest["outcome_hash"] == summary.outcome_hash
    assert {"joulemesh", "python", "numpy", "pyarrow", "matplotlib"} <= set(manifest["versions"])
    assert manifest["scenario"]["runs"]["dear"]["market"]["energy_scale"] == 4000
    assert manifest["runs"]["plain"]["tokens"] == summary.runs["plain"].tokens
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert sorted([*manifest["files"], "manifest.json"]) == FILES


def test_the_picture_is_a_picture(results: tuple[Path, Summary]) -> None:
    picture = (results[0] / "picture.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_the_same_seed_gives_the_same_bytes(scenario_file: Path, results: tuple[Path, Summary], tmp_path: Path) -> None:
    again = run_scenario(scenario_file, seed=3, out=tmp_path / "again")
    assert again.outcome_hash == results[1].outcome_hash
    assert (tmp_path / "again" / "metrics.parquet").read_bytes() == (results[0] / "metrics.parquet").read_bytes()
    assert run_scenario(scenario_file, seed=4, out=tmp_path / "other").outcome_hash != again.outcome_hash


def test_earlier_results_are_replaced_only_when_asked(scenario_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run_scenario(scenario_file, out=out)
    with pytest.raises(ConfigurationError, match="exists") as failure:
        run_scenario(scenario_file, out=out)
    assert "--force" in failure.value.hint
    second = run_scenario(scenario_file, seed=8, out=out, force=True)
    assert json.loads((out / "manifest.json").read_text())["outcome_hash"] == second.outcome_hash != first.outcome_hash
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_not_results_is_never_replaced(scenario_file: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for target in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ConfigurationError, match="something else"):
            run_scenario(scenario_file, out=target, force=True)
    with pytest.raises(LocalError, match="cannot write"):
        run_scenario(scenario_file, out=tmp_path / "thesis.tex" / "out")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("name", ["pyarrow", "matplotlib"])
def test_a_missing_extra_is_named_before_anything_runs(
    scenario_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # what an import of a package that is not installed finds
    with pytest.raises(ConfigurationError, match=name) as failure:
        run_scenario(scenario_file, out=tmp_path / "out", progress=lambda *_: pytest.fail("it ran"))
    assert failure.value.hint == "in the checkout: pip install --editable '.[sim]'"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_while_writing_leaves_nothing(
    scenario_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(simulator.picture, "draw_picture", interrupted)
    with pytest.raises(error):
        run_scenario(scenario_file, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_earlier_results_as_they_were(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with complete_folder(out, force=False) as folder:
        (folder / "manifest.json").write_text("first")
    with pytest.raises(KeyboardInterrupt):
        _replace(out, KeyboardInterrupt())
    assert (out / "manifest.json").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_results_that_appeared_meanwhile_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigurationError, match="exists"):
        _write_while_another_does(out)
    assert (out / "manifest.json").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def _replace(out: Path, stopped_by: BaseException) -> None:
    with complete_folder(out, force=True) as folder:
        (folder / "manifest.json").write_text("second")
        raise stopped_by


def _write_while_another_does(out: Path) -> None:
    with complete_folder(out, force=False) as folder:
        (folder / "manifest.json").write_text("mine")
        out.mkdir()
        (out / "manifest.json").write_text("theirs")


INTERRUPTIBLE = """
import pathlib, signal, sys
from simulator.run import run_scenario

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it

def pause(*_):
    print("day", flush=True)
    sys.stdin.readline()  # until the signal comes

run_scenario(sys.argv[1], out=pathlib.Path(sys.argv[2]), progress=pause)
"""


def test_ctrl_c_in_a_running_process_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "results" / "out"
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "energy-share", str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "day\n"
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=30) != 0
    assert not target.parent.exists()


def _umask() -> int:
    from simulator.output import _umask

    return _umask()
