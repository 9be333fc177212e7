"""Runs a scenario file from end to end: read, simulate every variant, write the results."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from simulator.engine import simulate
from simulator.metrics import Records
from simulator.output import check_extra, check_target, complete_folder, tidy, write_manifest, write_tables
from simulator.scenario import Scenario, find_scenario, load_scenario
from simulator.summary import Summary, run_figures

__all__ = ["default_folder", "run_scenario"]

Progress = Callable[[str, float], None]


def run_scenario(
    path: str | Path,
    *,
    seed: int | None = None,
    out: Path | None = None,
    force: bool = False,
    progress: Progress = lambda _name, _share: None,
) -> Summary:
    """Simulate the scenario at `path` (or the example of that name) and write its results to the folder `out`.

    Args:
        seed: replaces the file's.
        out: a folder that must not exist yet; None: named after scenario and seed, in the working directory.
        force: replace earlier results at `out`.
        progress: called with a run's name and the share of it that is done.

    Raises:
        ConfigurationError: the file, the seed, the folder or the installation is not as it must be.
        LocalError: the results cannot be written.
    """
    started = time.monotonic()
    check_extra()
    source = find_scenario(path)
    scenario = load_scenario(source).with_seed(seed)
    target = out if out is not None else default_folder(source, scenario)
    check_target(target, force=force)
    outcomes = {name: simulate(settings, partial(progress, name)) for name, settings in scenario.runs.items()}
    with complete_folder(target, force=force) as folder:
        return _write(folder, target, scenario, outcomes, started)


def default_folder(source: Path, scenario: Scenario) -> Path:
    """Where results go if the user does not say."""
    return Path(f"{source.stem}-seed{scenario.seed}")


def _write(folder: Path, target: Path, scenario: Scenario, outcomes: dict[str, Records], started: float) -> Summary:
    from simulator.picture import draw_picture

    rows = tidy(outcomes)
    write_tables(folder, rows, scenario, outcomes)
    figures = {name: run_figures(records) for name, records in outcomes.items()}
    draw_picture(folder / "picture.png", scenario, outcomes, figures)
    summary = Summary(
        title=scenario.title,
        shows=scenario.shows,
        seed=scenario.seed,
        scenario_hash=scenario.digest,
        outcome_hash=rows.digest,
        rows=len(rows.value),
        out=str(target),
        runs=figures,
        wall_ms=int((time.monotonic() - started) * 1000),
    )
    write_manifest(folder, scenario, summary.as_json())
    return summary
