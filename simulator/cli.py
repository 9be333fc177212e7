"""`joule sim`: the command line of the simulator. Parses, calls, prints."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from protocol.errors import ConfigurationError
from simulator.intervals import Spread
from simulator.picture import FORMATS
from simulator.reports import (
    HEADLINE,
    Report,
    check_runs,
    fit,
    page_of,
    pair_runs,
    plot_folder,
    replay_runs,
    run_scenario,
    sweep_scenario,
    trace_log,
)
from simulator.scenario import bundled_names, find_scenario, load_scenario

__all__ = ["sim"]

Command = Callable[..., None]


def _example(line: str) -> str:
    """The end of a command's help, its line breaks kept."""
    return f"Example:\n\n\b\n  {line}"


def _experiment(command: Command) -> Command:
    """The options that all experiments have."""
    options = [
        click.argument("scenario", metavar="FILE.toml|EXAMPLE"),
        click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="First seed. [default: the file's]"),
        click.option("--seeds", type=click.IntRange(1, 100_000), help="How many seeds. [default: the file's, or 8]"),
        click.option("--processes", type=click.IntRange(1, 1024), default=1, show_default=True, help="At once."),
        click.option("--dask", default="", metavar="ADDRESS", help="By a Dask cluster's workers, or `local` ones."),
        click.option("--out", type=click.Path(path_type=Path), help="Folder for the results; goes on where it was."),
        click.option("--force", is_flag=True, help="Compute anew what is in that folder."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(epilog=_example("joule sim run energy-share"))
def sim() -> None:
    """Simulate the market: years of hours, with the rules of nodes."""


@sim.command(epilog=_example("joule sim run residency --seeds 4 --processes 2 --out results/residency"))
@_experiment
def run(scenario: str, as_json: bool, **options: Any) -> None:
    """Run each variant of a scenario with several seeds; write every figure and its interval."""
    report = run_scenario(scenario, progress=_progress(), **options)
    _print(report, as_json)


@sim.command(epilog=_example("joule sim sweep energy-share --seeds 1 --figure region.iceland.token_share"))
@_experiment
@click.option("--figure", default="market.price", show_default=True, help="What the keys act on.")
def sweep(scenario: str, as_json: bool, figure: str, **options: Any) -> None:
    """Try many values of the keys under [[sweep]]; say what each does to a figure."""
    report, indices = sweep_scenario(scenario, figure, progress=_progress(), **options)
    if as_json:
        found = {**report.as_json(), "indices": [dataclasses.asdict(each) for each in indices]}
        click.echo(json.dumps(_finite(found)))
        return
    click.echo(f"{report.title}: what acts on {figure}\n")
    click.echo(f"{'key':40} {'first':>9} {'total':>9} {'±':>9}")
    for each in indices:
        click.echo(f"{each.key:40} {each.first:9.3f} {each.total:9.3f} {each.error:9.3f}")
    _print_end(report)


@sim.command(epilog=_example("joule sim pair residency --seeds 4"))
@_experiment
def pair(scenario: str, as_json: bool, **options: Any) -> None:
    """Compare runs under [pair.NAME] seed by seed, with the same draws."""
    report, pairs = pair_runs(scenario, progress=_progress(), **options)
    if as_json:
        found = {
            name: {figure: dataclasses.asdict(each) for figure, each in all_.items()} for name, all_ in pairs.items()
        }
        click.echo(json.dumps(_finite({**report.as_json(), "pairs": found})))
        return
    for name, differences in pairs.items():
        click.echo(f"{name}: differences, {report.confidence:.0%} intervals with the same draws\n")
        for figure, spread in differences.items():
            click.echo(f"  {figure:40} {_range(spread)}")
        click.echo("")
    _print_end(report)


@sim.command(epilog=_example("joule sim check residency --seeds 4"))
@_experiment
def check(scenario: str, as_json: bool, **options: Any) -> None:
    """Hold the claims under [[check]] against the runs; status 1 where one does not hold."""
    report, checked = check_runs(scenario, progress=_progress(), **options)
    if as_json:
        click.echo(json.dumps(_finite({**report.as_json(), "checks": [dataclasses.asdict(each) for each in checked]})))
    else:
        for each in checked:
            word = "holds" if each.sure else ("holds for the mean" if each.holds else "DOES NOT HOLD")
            click.echo(f"{word}: {each.claim} [{_range(each.spread)}]")
        _print_end(report)
    if not all(each.holds for each in checked):
        raise SystemExit(1)


@sim.command(epilog=_example("joule sim calibrate heat.toml --seeds 2"))
@_experiment
def calibrate(scenario: str, as_json: bool, **options: Any) -> None:
    """Find the values of keys under [calibrate.NAME] at which figures are what was observed."""
    fitted = fit(scenario, progress=_progress(), **options)
    if as_json:
        click.echo(json.dumps(_finite({name: dataclasses.asdict(each) for name, each in fitted.items()})))
        return
    for name, each in fitted.items():
        click.echo(f"{name}: {each.key} = {each.value:.6g} gives {each.figure} = {each.reached:.6g}")
        click.echo(f"  observed: {each.target:.6g}; {each.runs} runs")


@sim.command(epilog=_example("joule sim trace copy --receipts ~/.local/share/joulemesh/receipts --out happened"))
@click.argument("log", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder for trace and scenario.")
@click.option(
    "--receipts", type=click.Path(path_type=Path), help="Folder of receipts: who served which blocks, on what."
)
@click.option("--offers", type=click.Path(path_type=Path), help="What `joule offers --json` printed.")
@click.option("--model", default="", help="Beginning of the root of the model that is meant, where there are several.")
@click.option("--by-cost", is_flag=True, help="Let asks follow from costs, and say what `calibrate` has to meet.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def trace(
    log: Path, out: Path, receipts: Path | None, offers: Path | None, model: str, by_cost: bool, as_json: bool
) -> None:
    """Turn a ledger's log, as `joule ledger export` wrote it to FOLDER, into a scenario of what happened.

    The log is verified. Sessions become a trace of who asked when for how many tokens, who served them and what that
    was paid; machines, places and tariffs come from receipts and offers, where these are given.
    """
    written = trace_log(log, out, receipts=receipts, offers=offers, model=model, by_cost=by_cost)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(written)))
        return
    click.echo(f"{written.scenario}: {written.sessions} sessions of {written.sites} sites in {written.hours} h")
    if written.described < written.sites:
        click.echo(f"{written.sites - written.described} sites that nothing describes are taken for fast machines")
    if written.unpaid or written.unplaced:
        click.echo(f"left out: {written.unpaid} never paid, {written.unplaced} whose blocks or model are not known")


@sim.command(epilog=_example("joule sim replay happened/scenario.toml --seeds 4 --out results/happened"))
@_experiment
def replay(scenario: str, as_json: bool, **options: Any) -> None:
    """Replay a trace, run the same demand by both engines, and say how far each is from what happened."""
    report, errors = replay_runs(scenario, progress=_progress(), **options)
    if as_json:
        click.echo(json.dumps(_finite({**report.as_json(), "errors": [dataclasses.asdict(each) for each in errors]})))
        return
    real = report.runs["replay"]
    click.echo(f"{report.title}: {_range(real['market.price'])} $ per Mtok, {real['market.tokens'].mean:.0f} tokens\n")
    click.echo(f"{'engine':8} {'seed':>6} {'revenue':>9} {'moved':>8} {'worst site':>11} {'use':>8} {'served':>8}")
    for each in errors:
        click.echo(
            f"{each.fidelity:8} {each.seed:6} {each.revenue:+9.2%} {each.moved:8.2%} {each.worst_revenue:+11.2%} "
            f"{each.use:8.2%} {each.served:8.2%}"
        )
    click.echo("")
    _print_end(report)


@sim.command(epilog=_example("joule sim plot residency-seed1 --format pdf"))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--format", "kind", type=click.Choice(FORMATS), default="svg", show_default=True, help="Of the picture.")
@click.option(
    "--figure", "figures", multiple=True, help="Which ones; may be given again. [default: those of the market]"
)
@click.option("--metric", help="Instead: one metric over time, as in a run's file.")
@click.option("--entity", default="market", show_default=True, help="Whose metric.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def plot(folder: Path, kind: str, figures: tuple[str, ...], metric: str | None, entity: str, as_json: bool) -> None:
    """Draw the results in a folder, with intervals."""
    path = plot_folder(folder, kind, figures, metric, entity)
    click.echo(json.dumps({"picture": str(path)}) if as_json else str(path))


@sim.command(epilog=_example("joule sim report residency-seed1 --out residency.html"))
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file. [default: in FOLDER]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def report(folder: Path, out: Path | None, as_json: bool) -> None:
    """Write the results in a folder as one HTML page, pictures inside, that asks nobody for anything."""
    path = page_of(folder, out)
    click.echo(json.dumps({"page": str(path)}) if as_json else str(path))


@sim.command(epilog=_example("joule sim examples"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def examples(as_json: bool) -> None:
    """List the examples that come with the simulator, and what each one asks."""
    about = {name: load_scenario(find_scenario(name)).about for name in bundled_names()}
    if as_json:
        click.echo(json.dumps(about))
        return
    for name, question in about.items():
        click.echo(f"{name}: {question}")


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_finite(report.as_json())))
        return
    click.echo(f"{report.title} (scenario {report.scenario_hash[:12]}, {report.seeds} seeds from {report.seed})")
    click.echo(f"mean [{report.confidence:.0%} interval] (5 to 95 % of single runs)\n")
    for name, found in report.runs.items():
        click.echo(name)
        for figure, spread in found.items():
            if figure in HEADLINE or (
                figure.startswith(("demand.", "region.")) and figure.endswith((".price", "_share"))
            ):
                click.echo(f"  {figure:40} {_range(spread)}")
        click.echo("")
    _print_end(report)


def _print_end(report: Report) -> None:
    for each in report.failed:
        click.echo(f"failed: {each.name}, seed {each.seed}: {each.reason}", err=True)
    click.echo(f"{report.count} runs in {report.out}, {report.wall_ms / 1000:.1f} s")
    if report.failed:
        raise ConfigurationError(f"{len(report.failed)} of {report.count} runs failed", hint="they are listed above")


def _range(spread: Spread) -> str:
    interval = f"[{spread.low:.4g}, {spread.high:.4g}]" if math.isfinite(spread.low) else "[one seed]"
    return f"{spread.mean:.4g} {interval} ({spread.p5:.4g} to {spread.p95:.4g})"


def _finite(value: Any) -> Any:
    """The same with None for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value


def _progress() -> Callable[[int, int], None]:
    """Draws one changing line on a terminal's stderr, nothing anywhere else."""
    if not sys.stderr.isatty():
        return lambda _done, _all: None

    def show(done: int, of: int) -> None:
        click.echo(f"\r\x1b[K{done} of {of} runs" + ("\r\x1b[K" if done >= of else ""), nl=False, err=True)

    return show
