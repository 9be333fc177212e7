"""What each command of `joule sim` does, from file to report: read, run what is missing, keep, sum up."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from protocol.errors import ConfigurationError
from simulator.experiments import Failed, Job, Outcome, Progress, jobs_of, run_jobs, spreads
from simulator.extras import check_extra
from simulator.intervals import Spread
from simulator.replay.compared import Misfit, load_sites, misfit
from simulator.replay.ledger_log import read_log
from simulator.replay.machines import machines_of_offers, read_receipts
from simulator.replay.writing import Written, write_trace
from simulator.scenario import Scenario, find_scenario, load_scenario
from simulator.sensitivity import Index
from simulator.store import Store, write_whole
from simulator.studies import Checked, Fitted, calibrate, check, differences, sweep_indices, sweep_points
from simulator.validation import check_across
from simulator.workers import Workers

__all__ = [
    "HEADLINE",
    "Report",
    "check_runs",
    "fit",
    "page_of",
    "pair_runs",
    "plot_folder",
    "replay_runs",
    "run_scenario",
    "sweep_scenario",
    "trace_log",
]

HEADLINE = (
    "market.price",
    "market.clearing_price",
    "market.cost",
    "market.energy_share",
    "market.margin",
    "market.use",
    "market.providers",
    "market.unserved",
    "concentration.hhi",
)
"""Figures that are looked at first."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an experiment found."""

    title: str
    seed: int
    """The first."""
    seeds: int
    confidence: float
    scenario_hash: str
    out: str
    """The folder with the results."""
    runs: dict[str, dict[str, Spread]]
    """By run and figure."""
    failed: tuple[Failed, ...]
    count: int
    wall_ms: int
    """Milliseconds from start to end."""

    def as_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """An experiment as it was asked for."""

    scenario: Scenario
    seeds: int
    folder: Path
    workers: Workers
    progress: Progress
    store: Store
    started: float

    @property
    def confidence(self) -> float:
        return self.scenario.plans.experiment.confidence / 1000

    def run(self, jobs: Sequence[Job], *, full: bool = False) -> Outcome:
        return run_jobs(jobs, self.folder, workers=self.workers, full=full, progress=self.progress)

    def all_runs(self, *, full: bool = False) -> Outcome:
        return self.run(jobs_of(self.scenario.runs, self.seeds), full=full)

    def report(self, outcome: Outcome, about: dict[str, Any] | None = None) -> Report:
        """Write the tables, and sum up."""
        names = dict.fromkeys(each.name for each in outcome.done)
        report = Report(
            title=self.scenario.title,
            seed=self.scenario.seed,
            seeds=self.seeds,
            confidence=self.confidence,
            scenario_hash=self.scenario.digest,
            out=str(self.folder),
            runs={name: spreads(outcome, name, self.confidence) for name in names},
            failed=outcome.failed,
            count=len(outcome.done) + len(outcome.failed),
            wall_ms=int((time.monotonic() - self.started) * 1000),
        )
        said = {key: value for key, value in report.as_json().items() if key not in ("runs", "out", "wall_ms")}
        settings = {name: each.digest for name, each in self.scenario.runs.items()}
        self.store.finish(
            [(each.name, each.seed, each.figures) for each in outcome.done],
            {"about": self.scenario.about, **said, "settings": settings, **(about or {})},
        )
        return report


def _asked(
    scenario: str | Path,
    *,
    seed: int | None,
    seeds: int | None,
    processes: int,
    dask: str = "",
    out: Path | None,
    force: bool,
    progress: Progress,
    kind: str,
) -> _Asked:
    started = time.monotonic()
    check_extra()
    source = find_scenario(scenario)
    read = load_scenario(source).with_seed(seed)
    ending = f"-{kind}" if kind else ""
    folder = out if out is not None else Path(f"{source.stem}{ending}-seed{read.seed}")
    store = Store.open(folder, force=force)
    write_whole(folder / "scenario.toml", source.read_bytes())
    count = seeds or read.plans.experiment.seeds
    return _Asked(read, count, folder, Workers(processes, dask), progress, store, started)


def run_scenario(
    scenario: str | Path,
    *,
    seed: int | None = None,
    seeds: int | None = None,
    processes: int = 1,
    dask: str = "",
    out: Path | None = None,
    force: bool = False,
    progress: Progress = lambda _done, _all: None,
) -> Report:
    """Run every variant with every seed, keep all rows, and sum up.

    Args:
        scenario: a file, or the name of an example.
        seed: the first; None: the file's.
        seeds: how many; None: as the file says.
        processes: how many run at once.
        dask: the address of a Dask scheduler whose workers run them, or `local`.
        out: where results are kept; None: a folder named after the scenario, in the working directory.
        force: compute anew what is there.

    Raises:
        ConfigurationError: the file, the seed, the folder or the installation is not as it must be.
        LocalError: the results cannot be written.
    """
    asked = _asked(
        scenario,
        seed=seed,
        seeds=seeds,
        processes=processes,
        dask=dask,
        out=out,
        force=force,
        progress=progress,
        kind="",
    )
    return asked.report(asked.all_runs(full=True))


def pair_runs(scenario: str | Path, **options: Any) -> tuple[Report, dict[str, dict[str, Spread]]]:
    """The differences under [pair.NAME], or between the first run and each other one. Raises as `run_scenario`."""
    asked = _asked(scenario, kind="pair", **options)
    runs = list(asked.scenario.runs)
    pairs = {name: (each.run, each.against) for name, each in asked.scenario.plans.pairs.items()}
    pairs = pairs or {f"{name} against {runs[0]}": (name, runs[0]) for name in runs[1:]}
    if not pairs:
        raise ConfigurationError("the file has one run", hint="add a variant to compare it with")
    outcome = asked.all_runs()
    found = {name: differences(outcome, *both) for name, both in pairs.items()}
    plain = {name: {each: dataclasses.asdict(spread) for each, spread in all_.items()} for name, all_ in found.items()}
    return asked.report(outcome, {"pairs": plain}), found


def check_runs(scenario: str | Path, **options: Any) -> tuple[Report, list[Checked]]:
    """Whether the claims under [[check]] hold. Raises as `run_scenario`."""
    asked = _asked(scenario, kind="check", **options)
    if not asked.scenario.plans.checks:
        raise ConfigurationError("the file claims nothing", hint="add [[check]] with claim, figure, sign and value")
    outcome = asked.all_runs()
    checked = check(asked.scenario.plans.checks, asked.scenario, outcome, asked.confidence)
    return asked.report(outcome, {"checks": [dataclasses.asdict(each) for each in checked]}), checked


def sweep_scenario(scenario: str | Path, figure: str, **options: Any) -> tuple[Report, list[Index]]:
    """Run all points of a sweep, and say what each key does to a figure. Raises as `run_scenario`."""
    asked = _asked(scenario, kind="sweep", **options)
    axes, points, swept = sweep_points(asked.scenario, asked.scenario.plans.sweep)
    outcome = asked.run(jobs_of({each.name: each.settings for each in swept}, asked.seeds))
    tried = {each.name: {key: float(value) for key, value in each.changes.items()} for each in swept}
    report = asked.report(outcome, {"points": tried})
    return report, sweep_indices(asked.scenario, axes, points, outcome, figure) if not outcome.failed else []


def fit(scenario: str | Path, **options: Any) -> dict[str, Fitted]:
    """The values under [calibrate.NAME]. Raises as `run_scenario`, and where a target is out of reach."""
    asked = _asked(scenario, kind="calibrate", **options)
    wanted = asked.scenario.plans.calibrate
    if not wanted:
        raise ConfigurationError("the file has nothing to calibrate", hint="add [calibrate.NAME]")
    fitted = {name: calibrate(asked.scenario, each, asked.seeds, asked.run) for name, each in wanted.items()}
    asked.store.finish([], {"fitted": {name: dataclasses.asdict(each) for name, each in fitted.items()}})
    return fitted


def trace_log(
    log: Path, out: Path, *, receipts: Path | None, offers: Path | None, model: str, by_cost: bool = False
) -> Written:
    """Turn an exported log into a trace and a scenario, with what receipts and offers say of machines.

    Raises:
        ConfigurationError: the log, a receipt or an offer does not hold, or there is nothing to replay.
        LocalError: the folder cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out} exists and is not empty", hint="choose another --out")
    paid = read_log(log)
    proven = {} if receipts is None else read_receipts(receipts, paid.verifier_key)
    offered = {} if offers is None else dict(machines_of_offers(offers))
    return write_trace(paid, out, receipts=proven, machines=offered, model=model, by_cost=by_cost)


def replay_runs(scenario: str | Path, **options: Any) -> tuple[Report, list[Misfit]]:
    """Replay a trace, run it by both engines, and hold these against it. Raises as `run_scenario`."""
    asked = _asked(scenario, kind="replay", **options)
    first = next(iter(asked.scenario.runs.values()))
    if first.trace is None:
        raise ConfigurationError("the file has no trace", hint="`joule sim trace` writes one that has")
    runs = {}
    for fidelity in ("replay", "fluid", "event"):
        runs[fidelity] = dataclasses.replace(first, run=dataclasses.replace(first.run, fidelity=fidelity))
        check_across(runs[fidelity])
    asked = dataclasses.replace(asked, scenario=dataclasses.replace(asked.scenario, runs=runs))
    outcome = asked.all_runs(full=True)
    found = []
    for each in outcome.done:
        if each.name != "replay" and each.seed in outcome.of("replay"):
            totals, real = (load_sites(asked.store.path(name, each.seed)) for name in (each.name, "replay"))
            found.append(misfit(each.name, each.seed, totals, real, 1 - each.figures["market.unserved"]))
    return asked.report(outcome, {"errors": [dataclasses.asdict(each) for each in found]}), found


def page_of(folder: Path, out: Path | None) -> Path:
    """Write the results in a folder as one HTML page; where it is. Raises ConfigurationError or LocalError."""
    check_extra("pyarrow", "matplotlib")
    from simulator.report_page import write_page

    _check_results(folder)
    path = folder / "report.html" if out is None else out
    write_page(folder, path, HEADLINE)
    return path


def _check_results(folder: Path) -> None:
    if not (folder / "runs.parquet").is_file():
        raise ConfigurationError(f"{folder} holds no results", hint="run an experiment with --out there first")


def plot_folder(folder: Path, kind: str, figures: Sequence[str], metric: str | None, entity: str) -> Path:
    """Draw the results in a folder; where the picture is. Raises ConfigurationError."""
    check_extra("pyarrow", "matplotlib")
    from simulator.picture import draw_courses, draw_figures, load_outcome

    _check_results(folder)
    manifest, outcome = load_outcome(folder)
    title, confidence = str(manifest.get("title", folder.name)), float(manifest.get("confidence", 0.95))
    if metric:
        path = folder / f"{entity.replace('/', '-')}-{metric}.{kind}"
        draw_courses(path, title, folder, entity, metric)
        return path
    known = dict.fromkeys(name for each in outcome.done for name in each.figures)
    wanted = list(figures) or [name for name in HEADLINE if name in known]
    for name in wanted:
        if name not in known:
            raise ConfigurationError(f"there is no figure {name!r}", hint="there are " + ", ".join(sorted(known)[:12]))
    path = folder / f"figures.{kind}"
    draw_figures(path, title, outcome, wanted, confidence)
    return path
