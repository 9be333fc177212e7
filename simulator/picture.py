"""Charts of an experiment: each figure of each run with its interval and its spread. Draws; decides nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulator.experiments import Outcome, spreads
from simulator.extras import check_extra
from simulator.figures import named_unit
from simulator.store import Store

__all__ = ["FORMATS", "draw_courses", "draw_figures", "load_outcome"]

FORMATS = ("svg", "pdf", "png")
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
_COLUMNS = 3


def draw_figures(path: Path, title: str, outcome: Outcome, figures: Sequence[str], confidence: float = 0.95) -> None:
    """A chart for each figure: by run the mean, its interval (bar), and 5 to 95 % of single runs (band)."""
    check_extra("matplotlib")
    from matplotlib.figure import Figure

    runs = list(dict.fromkeys(each.name for each in outcome.done))
    rows = -(-len(figures) // _COLUMNS)
    page = Figure(figsize=(4.2 * _COLUMNS, 0.9 + rows * (1.1 + 0.32 * len(runs))), layout="constrained")
    axes = np.atleast_1d(page.subplots(rows, _COLUMNS, squeeze=False)).reshape(-1)
    found = {run: spreads(outcome, run, confidence) for run in runs}
    for ax, figure in zip(axes, figures, strict=False):
        for at, run in enumerate(runs):
            if figure in found[run]:
                _draw_spread(ax, at, found[run][figure], _COLOURS[at % len(_COLOURS)])
        unit = named_unit(figure)
        ax.set_title(figure + (f" ({unit})" if unit else ""), fontsize=9, loc="left")
        ax.set_yticks(range(len(runs)), runs, fontsize=8)
        ax.set_ylim(len(runs) - 0.4, -0.6)
        ax.tick_params(axis="x", labelsize=8)
        ax.use_sticky_edges = False
        ax.margins(x=0.06)
        ax.grid(axis="x", alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[len(figures) :]:
        ax.set_axis_off()
    seeds = len({each.seed for each in outcome.done})
    page.suptitle(title, x=0.01, ha="left", fontsize=11)
    page.supxlabel(
        f"dot: mean of {seeds} seeds; bar: {confidence:.0%} interval of the mean; band: 5 to 95 % of single runs",
        fontsize=8,
    )
    _save(page, path)


def draw_courses(path: Path, title: str, folder: Path, entity: str, metric: str) -> None:
    """One metric over time: of each run the median of its seeds by day, and a band from 5 to 95 %."""
    check_extra("matplotlib", "pyarrow")
    from matplotlib.figure import Figure

    page = Figure(figsize=(8, 4), layout="constrained")
    ax, (scale, unit) = page.subplots(), _shown_in(metric)
    for at, (run, days) in enumerate(_daily(folder, entity, metric).items()):
        low, middle, high = np.percentile(days / scale, [5, 50, 95], axis=0)
        when, colour = np.arange(1, len(middle) + 1), _COLOURS[at % len(_COLOURS)]
        ax.fill_between(when, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(when, middle, color=colour, linewidth=1.4, label=run)
    ax.set_xlabel("day")
    ax.set_ylabel(f"{unit}, mean of the day", fontsize=9)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    page.suptitle(f"{title}: {entity}", x=0.01, ha="left", fontsize=11)
    page.supxlabel("line: median of seeds; band: 5 to 95 % of them", fontsize=8)
    _save(page, path)


def _shown_in(metric: str) -> tuple[float, str]:
    """By how much a metric's values are divided, and what they are counted in then."""
    units = {
        "_micro_per_mtok": (1e6, "$ per Mtok"),
        "_micro_per_kwh": (1e6, "$ per kWh"),
        "_micro": (1e6, "$"),
        "_ppm": (1e4, "%"),
        "_us": (1e6, "s"),
        "_mj": (3.6e9, "kWh"),
        "_mg": (1e6, "kg"),
    }
    for end, (scale, unit) in units.items():
        if metric.endswith(end):
            return scale, f"{metric.removesuffix(end).replace('_', ' ')}, {unit}"
    return 1.0, metric.replace("_", " ")


def load_outcome(folder: Path) -> tuple[Mapping[str, Any], Outcome]:
    """The manifest of an experiment, and the figures of its runs."""
    import pyarrow.parquet as pq

    from simulator.experiments import Done

    manifest = json.loads((folder / "manifest.json").read_bytes())
    by_run: dict[tuple[str, int], dict[str, float]] = {}
    for row in pq.read_table(folder / "runs.parquet").to_pylist():
        by_run.setdefault((row["run"], row["seed"]), {})[row["figure"]] = row["value"]
    return manifest, Outcome(tuple(Done(name, seed, figures) for (name, seed), figures in by_run.items()), ())


def _daily(folder: Path, entity: str, metric: str) -> dict[str, np.ndarray[Any, Any]]:
    """By run, (seeds, days) means of a metric."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    _, outcome = load_outcome(folder)
    found: dict[str, list[Any]] = {}
    for done in outcome.done:
        table = pq.read_table(Store(folder).path(done.name, done.seed))
        if "entity" not in table.column_names:
            continue
        rows = table.filter((pc.field("entity") == entity) & (pc.field("metric") == metric))
        day = rows.column("t").to_numpy() // 1440
        value = rows.column("value").to_numpy().astype(float)
        sums, counts = np.bincount(day, value), np.bincount(day)
        found.setdefault(done.name, []).append(sums / np.maximum(counts, 1))
    return {name: np.array(each) for name, each in found.items()}


def _draw_spread(ax: Any, at: int, spread: Any, colour: str) -> None:
    ax.barh(at, spread.p95 - spread.p5, left=spread.p5, height=0.5, color=colour, alpha=0.18)
    if np.isfinite(spread.low):
        ax.plot([spread.low, spread.high], [at, at], color=colour, linewidth=2.2)
    ax.plot([spread.mean], [at], "o", color=colour, markersize=4.5)


def _save(page: Any, path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "joulemesh"}):
        kind = path.suffix.lstrip(".")
        page.savefig(path, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
