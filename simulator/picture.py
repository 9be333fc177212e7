"""One page of charts for a scenario: prices, who is paid, how busy the market is. Draws; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from protocol.units import MICRO
from simulator.exact import Ints
from simulator.metrics import Records
from simulator.population import HOURS_A_DAY
from simulator.scenario import Scenario
from simulator.summary import RunFigures

__all__ = ["draw_picture"]

_WEEK = 7 * HOURS_A_DAY
_RUN_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
_REGION_COLOURS = ("#4477aa", "#ccbb44", "#228833", "#ee6677", "#66ccee", "#aa3377", "#bbbbbb", "#994455")


def draw_picture(path: Path, scenario: Scenario, outcomes: dict[str, Records], figures: dict[str, RunFigures]) -> None:
    """Draw the page for all runs of a scenario to a PNG at `path`."""
    page = Figure(figsize=(16, 9.7), layout="constrained")
    FigureCanvasAgg(page)
    axes = page.subplots(2, 3)
    _prices_over_time(axes[0][0], outcomes)
    if len(outcomes) > 1:
        page.legend(
            *axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=len(outcomes), fontsize=10.5
        )
    _class_prices(axes[0][1], figures)
    _token_shares(axes[0][2], figures, scenario)
    _over_time(axes[1][0], outcomes, "use_ppm", "Use of the capacity present, weekly mean", scale=MICRO)
    _over_time(axes[1][1], outcomes, "present", "Providers in the market, weekly mean", scale=1)
    _profits(axes[1][2], figures)
    axes[1][0].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1][0].set_ylabel("share of time busy")
    axes[1][1].set_ylabel("providers")
    page.suptitle(f"{scenario.title}\n", x=0.01, ha="left", fontsize=17, fontweight="bold")
    page.text(0.01, 0.955, scenario.about, fontsize=11, color="#333333", va="top")
    settings = next(iter(scenario.runs.values()))
    page.supxlabel(
        f"{settings.run.providers:,} providers, {settings.run.hours:,} hours, seed {scenario.seed}, "
        f"scenario {scenario.digest[:12]}. $ per Mtok: dollars per million tokens, prompt and output together.",
        fontsize=9.5,
        color="#555555",
    )
    page.savefig(path, dpi=100, metadata={"Software": "joulemesh"})


def _prices_over_time(axes: Axes, outcomes: dict[str, Records]) -> None:
    for colour, (name, records) in zip(_colours(outcomes), outcomes.items(), strict=True):
        weeks, sums = _weekly_sums(records)
        axes.plot(weeks, sums["revenue_micro"] / sums["tokens"], color=colour, label=name, linewidth=1.8)
        axes.plot(weeks, sums["work_cost_micro"] / sums["tokens"], color=colour, linestyle=":", linewidth=1.8)
    _time_axis(axes, "Price paid (line) and its energy (dots), weekly mean")
    axes.set_ylabel("$ per Mtok")


def _over_time(axes: Axes, outcomes: dict[str, Records], metric: str, title: str, *, scale: int) -> None:
    for colour, (name, records) in zip(_colours(outcomes), outcomes.items(), strict=True):
        weekly = _by_week(records.market[metric]).mean(axis=1) / scale
        axes.plot(_week_numbers(records), weekly, color=colour, label=name, linewidth=1.8)
    _time_axis(axes, title)


def _class_prices(axes: Axes, figures: dict[str, RunFigures]) -> None:
    names = list(next(iter(figures.values())).demand)
    prices = {run: [part.price / MICRO for part in each.demand.values()] for run, each in figures.items()}
    _grouped_bars(axes, names, prices, compare=True)
    axes.set_title(
        "Price by demand class" + "; change from the first run" * (len(figures) > 1), loc="left", fontsize=11.5
    )
    axes.set_ylabel("$ per Mtok")


def _profits(axes: Axes, figures: dict[str, RunFigures]) -> None:
    names = list(next(iter(figures.values())).regions)
    _grouped_bars(
        axes,
        names,
        {run: [part.profit_per_unit_hour / MICRO for part in each.regions.values()] for run, each in figures.items()},
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_title("Who earns: profit by region, whole run", loc="left", fontsize=11.5)
    axes.set_ylabel("$ per machine and hour present")


def _token_shares(axes: Axes, figures: dict[str, RunFigures], scenario: Scenario) -> None:
    regions = next(iter(scenario.runs.values())).regions
    order = sorted(regions, key=lambda name: regions[name].energy_price)
    left = np.zeros(len(figures))
    for r, region in enumerate(order):
        share = np.array([each.regions[region].token_share / MICRO for each in figures.values()])
        label = f"{region}, {regions[region].energy_price / MICRO:.3f} $/kWh"
        axes.barh(list(figures), share, left=left, color=_REGION_COLOURS[r % len(_REGION_COLOURS)], label=label)
        for row, (width, start) in enumerate(zip(share, left, strict=True)):
            if width >= 0.05:
                axes.text(start + width / 2, row, f"{width:.0%}", ha="center", va="center", fontsize=9)
        left += share
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("share of all tokens served")
    axes.set_title("Where tokens are served", loc="left", fontsize=11.5)
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=min(3, len(order)), frameon=False)


def _grouped_bars(axes: Axes, groups: Sequence[str], heights: dict[str, list[float]], *, compare: bool = False) -> None:
    """Bars side by side; with `compare`, each says how far it is from the first of its group."""
    first = next(iter(heights.values()))
    width = 0.8 / len(heights)
    for i, (colour, (run, values)) in enumerate(zip(_colours(heights), heights.items(), strict=True)):
        middle = np.arange(len(groups)) + (i - (len(heights) - 1) / 2) * width
        bars = axes.bar(middle, values, width * 0.94, color=colour, label=run)
        if compare and i:
            changes = [f"{value / base - 1:+.0%}" if base else "" for value, base in zip(values, first, strict=True)]
            axes.bar_label(bars, changes, fontsize=8, padding=2)
    axes.set_xticks(range(len(groups)), [group.replace("-", "-\n") for group in groups])
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _time_axis(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11.5)
    axes.set_xlabel("week")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.01)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _weekly_sums(records: Records) -> tuple[Ints, dict[str, Any]]:
    sums = {
        name: _by_week(records.regions[name].sum(axis=1)).sum(axis=1) for name in ("revenue_micro", "work_cost_micro")
    }
    tokens = _by_week(records.market["tokens"]).sum(axis=1).astype(float)
    tokens[tokens == 0] = np.nan  # a week without a token has no price: the line breaks there
    return _week_numbers(records), {**sums, "tokens": tokens}


def _by_week(hourly: Ints) -> Ints:
    """(weeks, hours of a week); a last, incomplete week is left out, unless it is the only one."""
    weeks = len(hourly) // _WEEK
    return hourly[: weeks * _WEEK].reshape(weeks, _WEEK) if weeks else hourly[None, :]


def _week_numbers(records: Records) -> Ints:
    return np.arange(1, len(_by_week(records.market["tokens"])) + 1)


def _colours(runs: dict[str, Any]) -> list[str]:
    return [_RUN_COLOURS[i % len(_RUN_COLOURS)] for i in range(len(runs))]
