"""Many runs: seeds, intervals, pairs, sweeps and calibrations, and what stays on disk when things go wrong."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from plain_markets import market_toml
from small_economy import SMALL

from node.cli.entry import joule
from protocol.errors import ConfigurationError
from simulator import experiments
from simulator.experiments import jobs_of, run_jobs
from simulator.intervals import spread_of, student_quantile
from simulator.scenario import parse_scenario
from simulator.sensitivity import Axis, design, indices
from simulator.store import MANIFEST, write_whole
from simulator.studies import compared, spelled
from simulator.workers import Workers

TINY = SMALL.replace("hours = 340", "hours = 24").replace("providers = 40", "providers = 8")
NEEDS_SALIB = pytest.mark.skipif(importlib.util.find_spec("SALib") is None, reason="the extra `sim` brings SALib")


@pytest.fixture
def scenario_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(joule, ["sim", *(str(each) for each in arguments)], catch_exceptions=False)


def test_a_run_keeps_every_row_and_sums_up(scenario_file: Path) -> None:
    outcome = invoke("run", "tiny.toml", "--seeds", 2, "--json")
    report = json.loads(outcome.stdout)
    assert outcome.stderr == ""
    assert report["count"] == 4
    assert report["runs"]["plain"]["market.price"]["count"] == 2
    folder = scenario_file.parent / report["out"]
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["complete"]
    assert manifest["scenario_hash"] == parse_scenario(TINY).digest
    rows = pq.read_table(folder / "runs" / "plain-seed3.parquet")
    assert rows.column_names == ["t", "entity", "metric", "value"]
    assert len(pq.read_table(folder / "runs.parquet")) == sum(
        each["count"] for run in report["runs"].values() for each in run.values()
    )
    assert "plain" in invoke("run", "tiny.toml", "--seeds", 1, "--force").stdout
    assert invoke("plot", folder, "--metric", "price_micro_per_mtok", "--format", "pdf").stdout.strip().endswith(".pdf")
    assert Path(json.loads(invoke("plot", folder, "--json").stdout)["picture"]).read_text().startswith("<?xml")


def test_a_page_holds_all_results_and_asks_nobody(scenario_file: Path) -> None:
    claim = '[[check]]\nclaim = "tokens cost {value}"\nfigure = "market.price"\nvalue = 0\n'
    scenario_file.write_text(TINY.replace('title = "', 'title = "<script>alert(1)</script> ', 1) + claim)
    folder = json.loads(invoke("check", "tiny.toml", "--seeds", 2, "--json").stdout)["out"]
    page = Path(invoke("report", folder).stdout.strip()).read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page
    assert all(word not in page for word in ("<script", "http://", "https://", "@import", "url("))
    assert ("Claims" in page, "market.price" in page, "[hardware." in page) == (True, True, True)
    assert page.count("data:image/svg+xml") == 1
    folder = json.loads(invoke("run", "tiny.toml", "--seeds", 2, "--json").stdout)["out"]
    other = json.loads(invoke("report", folder, "--out", "whole.html", "--json").stdout)["page"]
    assert Path(other).read_text().count("data:image/svg+xml") > 3
    folder = json.loads(invoke("pair", "tiny.toml", "--seeds", 2, "--json").stdout)["out"]
    assert "Differences, seed by seed" in Path(invoke("report", folder).stdout.strip()).read_text()
    empty = scenario_file.parent / "empty"
    empty.mkdir()
    with pytest.raises(ConfigurationError, match="holds no results"):
        invoke("report", empty)


def test_what_is_there_is_not_computed_again_and_what_was_torn_is(
    scenario_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(invoke("run", "tiny.toml", "--seeds", 2, "--json").stdout)
    computed: list[object] = []
    real = experiments.simulate
    monkeypatch.setattr(experiments, "simulate", lambda settings: computed.append(settings) or real(settings))
    (scenario_file.parent / first["out"] / "runs" / "plain-seed4.parquet").write_bytes(b"torn")
    again = json.loads(invoke("run", "tiny.toml", "--seeds", 2, "--json").stdout)
    assert len(computed) == 1
    assert again["runs"] == first["runs"]


def test_processes_and_order_give_the_same_figures(tmp_path: Path) -> None:
    jobs = jobs_of(parse_scenario(TINY).runs, 2)
    serial, parallel = run_jobs(jobs, tmp_path / "a"), run_jobs(jobs[::-1], tmp_path / "b", workers=Workers(2))
    for name in ("plain", "dear"):
        assert serial.of(name) == dict(sorted(parallel.of(name).items()))


def test_a_dask_cluster_gives_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    jobs = jobs_of(parse_scenario(TINY).runs, 2)
    serial, by_dask = run_jobs(jobs), run_jobs(jobs, tmp_path / "a", workers=Workers(2, "local"))
    assert [(each.name, each.seed, each.figures) for each in serial.done] == [
        (each.name, each.seed, each.figures) for each in by_dask.done
    ]


def test_without_dask_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigurationError, match="Dask is not installed"), Workers(1, "local").executor(1):
        pass


def test_a_run_that_fails_is_listed_and_the_others_go_on(scenario_file: Path) -> None:
    scenario_file.write_text(TINY.replace("energy_scale = 4", "energy_scale = 100").replace("0.2\nshape", "9\nshape"))
    outcome = CliRunner().invoke(joule, ["sim", "run", "tiny.toml", "--seeds", "1"])
    assert isinstance(outcome.exception, ConfigurationError)
    assert "failed: dear, seed 3: an hour's tariff is out of range" in outcome.stderr
    assert "plain" in outcome.stdout
    manifest = json.loads((scenario_file.parent / "tiny-seed3" / MANIFEST).read_text())
    assert [each["name"] for each in manifest["failed"]] == ["dear"]


def test_a_folder_with_something_else_is_left_alone(scenario_file: Path) -> None:
    outcome = CliRunner().invoke(joule, ["sim", "run", "tiny.toml", "--out", str(scenario_file.parent)])
    assert isinstance(outcome.exception, ConfigurationError)
    assert "something else" in str(outcome.exception)


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a" / "b"
    write_whole(path, b"one")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(Exception, match="No space left"):
        write_whole(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    """On a model with a known answer: 2,000 experiments of eight seeds."""
    lots = np.random.Generator(np.random.Philox(9)).normal(3.0, 2.0, (2000, 8))
    held = sum(each.low <= 3.0 <= each.high for each in (spread_of(row.tolist()) for row in lots))
    assert 0.92 <= held / 2000 <= 0.98


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.70620474), (7, 2.36462425), (30, 2.04227246), (1000, 1.96233908)]
)
def test_student_quantiles_are_the_printed_ones(freedom: int, expected: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(expected, rel=1e-7)
    assert math.isinf(spread_of([1.0]).high)


def test_pairs_with_common_draws_are_surer_by_far() -> None:
    toml = market_toml([(1, 360)], [(300, 10)], hours=24, classes="noise = 0.6")
    document = toml + "\n[variant.dear.market]\nmargin = 0.05"
    outcome = run_jobs(jobs_of(parse_scenario(document).runs, 12))
    paired, apart = compared(outcome, "dear", "base", "demand.d0.served")
    assert paired.mean == 0
    assert apart.high - apart.low > 3 * (paired.high - paired.low)


def test_a_check_says_whether_the_claim_holds(scenario_file: Path) -> None:
    claim = '\n[[check]]\nclaim = "dear power costs {value}"\nfigure = "market.price"\nrun = "dear"\n'
    claim += 'against = "plain"\nsign = "%s"'
    scenario_file.write_text(TINY + claim % ">")
    outcome = invoke("check", "tiny.toml", "--seeds", 2)
    assert outcome.exit_code == 0
    assert "holds" in outcome.stdout
    scenario_file.write_text(TINY + claim % "<")
    assert "DOES NOT HOLD" in (failed := invoke("check", "tiny.toml", "--seeds", 2)).stdout
    assert failed.exit_code == 1
    scenario_file.write_text(TINY + claim.replace("market.price", "market.prize") % "<")
    with pytest.raises(ConfigurationError, match=r"market\.prize"):
        invoke("check", "tiny.toml", "--seeds", 1)
    assert "dear against plain" in invoke("pair", "tiny.toml", "--seeds", 2).stdout


def test_a_calibration_finds_the_value_that_gives_what_was_observed(scenario_file: Path) -> None:
    """Posted asks are the floor and a margin: a price of 1.25 over a cost of 1 is a margin of a quarter."""
    key = '[calibrate.m]\nkey = "market.margin"\nlow = 0\nhigh = 1\nfigure = "market.price"\ntarget = {target}'
    toml = market_toml([(1, 360)], [(10, 10)], hours=1)
    scenario_file.write_text(toml + key.format(target=1.25))
    found = json.loads(invoke("calibrate", "tiny.toml", "--seeds", 1, "--json").stdout)["m"]
    assert found["value"] == pytest.approx(0.25, abs=1e-3)
    scenario_file.write_text(toml + key.format(target=3))
    with pytest.raises(ConfigurationError, match="goes from 1 to 2"):
        invoke("calibrate", "tiny.toml", "--seeds", 1)


def test_a_sweep_ranks_what_acts(scenario_file: Path) -> None:
    swept = '[[sweep]]\nkey = "{}"\nlow = 0\nhigh = 1\nsteps = 2\n'
    toml = market_toml([(1, 360)], [(10, 10)], hours=1)
    scenario_file.write_text(
        toml + swept.format("market.margin") + swept.format("agents.ignore_energy").replace("= 1", "= 0.1")
    )
    found = json.loads(invoke("sweep", "tiny.toml", "--seeds", 1, "--json").stdout)
    assert found["count"] == 4
    by_key = {each["key"]: each["first"] for each in found["indices"]}
    assert by_key["market.margin"] > 0.8 > abs(by_key["agents.ignore_energy"])
    assert str(spelled("market.margin", 0.1234567)) == "0.123457"
    assert spelled("run.providers", 3.7) == 4
    with pytest.raises(ConfigurationError, match="not a number"):
        spelled("region.x.shape", 1)


def test_a_latin_hypercube_has_each_line_once() -> None:
    points = design([Axis("a", 0, 1), Axis("b", 10, 20)], "latin-hypercube", 16, 1)
    assert sorted(np.floor(points[:, 0] * 16).astype(int).tolist()) == list(range(16))
    assert sorted(np.floor((points[:, 1] - 10) * 1.6).astype(int).tolist()) == list(range(16))


def test_equal_values_share_a_rank() -> None:
    points = np.arange(5.0)[:, None]
    found = indices([Axis("a", 0, 4)], "grid", points, np.array([9.0, 0, 0, 0, 0]), 1)
    assert found[0].first == pytest.approx(-0.7071, abs=1e-4)


@NEEDS_SALIB
def test_the_sweep_finds_what_is_published_of_ishigamis_function() -> None:
    axes = [Axis(name, -math.pi, math.pi) for name in ("x1", "x2", "x3")]
    points = design(axes, "sobol", 1024, 3)
    values = np.sin(points[:, 0]) + 7 * np.sin(points[:, 1]) ** 2 + 0.1 * points[:, 2] ** 4 * np.sin(points[:, 0])
    found = indices(axes, "sobol", points, values, 3)
    assert [each.first for each in found] == pytest.approx([0.3139, 0.4424, 0.0], abs=0.05)
    assert [each.total for each in found] == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.05)


@NEEDS_SALIB
def test_morris_finds_the_linear_effects() -> None:
    axes = [Axis("a", 0, 1), Axis("b", 0, 1)]
    points = design(axes, "morris", 8, 3)
    found = indices(axes, "morris", points, 3 * points[:, 0] - points[:, 1], 3)
    assert [each.first for each in found] == pytest.approx([3, -1])
