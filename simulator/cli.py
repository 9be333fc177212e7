"""`joule sim`: the command line of the simulator. Parses, calls `run_scenario`, prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click

from simulator.run import run_scenario
from simulator.scenario import bundled_names, find_scenario, load_scenario
from simulator.summary import summary_lines

__all__ = ["sim"]


def _example(line: str) -> str:
    """The end of a command's help, its line breaks kept."""
    return f"Example:\n\n\b\n  {line}"


@click.group(epilog=_example("joule sim run energy-share"))
def sim() -> None:
    """Simulate the market: years of hours, with the price and amount kernels of nodes."""


@sim.command(epilog=_example("joule sim run residency --seed 7 --out results/residency"))
@click.argument("scenario", metavar="FILE.toml|EXAMPLE")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Draw from this seed instead of the file's.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for the results. [default: SCENARIO-seedN]")
@click.option("--force", is_flag=True, help="Replace earlier results in that folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def run(scenario: str, seed: int | None, out: Path | None, force: bool, as_json: bool) -> None:
    """Run a scenario; write metrics.parquet, providers.parquet, manifest.json and picture.png."""
    summary = run_scenario(scenario, seed=seed, out=out, force=force, progress=_progress())
    if as_json:
        click.echo(json.dumps(summary.as_json()))
        return
    for line in summary_lines(summary):
        click.echo(line)
    if summary.shows:
        click.echo(f"\n{summary.shows}")
    click.echo(f"\n{summary.rows:,} rows and a picture in {summary.out}, {summary.wall_ms / 1000:.1f} s")


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


def _progress() -> Callable[[str, float], None]:
    """Draws one changing line on a terminal's stderr, nothing anywhere else."""
    if not sys.stderr.isatty():
        return lambda _name, _share: None
    shown = ""

    def show(name: str, share: float) -> None:
        nonlocal shown
        line = f"{name} {share:4.0%}"
        if line != shown:
            click.echo(f"\r\x1b[K{line}" + ("\r\x1b[K" if share >= 1 else ""), nl=False, err=True)
            shown = line

    return show
