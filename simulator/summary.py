"""The few numbers of a run that one looks at first, and as text."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from protocol.units import MICRO, format_micro
from simulator.exact import Ints, ratio
from simulator.metrics import Records

__all__ = ["ClassFigures", "RegionFigures", "RunFigures", "Summary", "run_figures", "summary_lines"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RegionFigures:
    """One region over a whole run. Shares in millionths, money in micro-units."""

    tariff: int
    """Mean price of a kWh."""
    token_share: int
    """Of all tokens served."""
    profit_per_unit_hour: int
    """Of its providers, for each unit and hour of presence."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """One demand class over a whole run."""

    price: int
    """Micro-units per million tokens, mean over the tokens served."""
    served: int
    """Millionths of the requests."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """One run as a whole. Shares in millionths, prices in micro-units per million tokens."""

    tokens: int
    price: int
    energy_price: int
    """Energy spent on tokens, for each million."""
    energy_share: int
    """Energy, waiting included, in all costs of providers."""
    use: int
    """Of the time of those present."""
    present: int
    """Providers in the last hour."""
    regions: dict[str, RegionFigures]
    demand: dict[str, ClassFigures]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What `joule sim run` reports."""

    title: str
    shows: str
    """What an example says that it shows; empty for any other file or seed."""
    seed: int
    scenario_hash: str
    outcome_hash: str
    """SHA-256 of every value in metrics.parquet, whatever the writer's version."""
    rows: int
    out: str
    """The folder with the results."""
    runs: dict[str, RunFigures]
    wall_ms: int
    """Milliseconds from start to end; in no hash."""

    def as_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return dataclasses.asdict(self)


def run_figures(records: Records) -> RunFigures:
    """A run's figures, by exact sums over all hours."""
    total = {name: figure.sum(axis=0) for name, figure in records.regions.items()}
    tokens = total["tokens_in"] + total["tokens_out"]
    work, waiting, other = (total[f"{kind}_cost_micro"] for kind in ("work", "idle", "other"))
    served, asked = (records.classes[f"requests_{kind}"].sum(axis=0) for kind in ("served", "wanted"))
    return RunFigures(
        tokens=int(tokens.sum()),
        price=_share(total["revenue_micro"].sum(), tokens.sum()),
        energy_price=_share(work.sum(), tokens.sum()),
        energy_share=_share((work + waiting).sum(), (work + waiting + other).sum()),
        use=_share(records.providers["busy_us"].sum(), records.providers["hours_present"].sum() * 3_600_000_000),
        present=int(records.market["present"][-1]),
        regions=_regions(records, tokens, total["revenue_micro"] - work - waiting - other),
        demand={
            name: ClassFigures(price=int(price), served=int(share))
            for name, price, share in zip(
                records.class_names, _class_prices(records), ratio(served, asked), strict=True
            )
        },
    )


def summary_lines(summary: Summary) -> list[str]:
    """The summary for people: one table of runs, one of regions, one of demand classes."""
    width = max(8, *(len(name) for name in summary.runs))
    lines = [f"{summary.title} (seed {summary.seed}, scenario {summary.scenario_hash[:12]})", ""]
    lines.append(f"{'run':{width}}  $/Mtok  energy $/Mtok  energy/cost  busy  providers")
    for name, run in summary.runs.items():
        lines.append(
            f"{name:{width}}  {_money(run.price)}  {_money(run.energy_price):>13}  {_percent(run.energy_share):>11}"
            f"  {_percent(run.use):>4}  {run.present:>9}"
        )
    lines += ["", "tokens served from (mean $/kWh):", *_share_table(summary, width)]
    lines += ["", "$/Mtok paid by (requests served):", *_price_table(summary, width)]
    return lines


def _share_table(summary: Summary, width: int) -> list[str]:
    names = list(next(iter(summary.runs.values())).regions)
    lines = [f"{'run':{width}}  " + "  ".join(f"{name:>14}" for name in names)]
    for run_name, run in summary.runs.items():
        cells = (f"{_percent(part.token_share)} ({_money(part.tariff)})" for part in run.regions.values())
        lines.append(f"{run_name:{width}}  " + "  ".join(f"{cell:>14}" for cell in cells))
    return lines


def _price_table(summary: Summary, width: int) -> list[str]:
    names = list(next(iter(summary.runs.values())).demand)
    lines = [f"{'run':{width}}  " + "  ".join(f"{name:>14}" for name in names)]
    for run_name, run in summary.runs.items():
        cells = (f"{_money(part.price)} ({_percent(part.served)})" for part in run.demand.values())
        lines.append(f"{run_name:{width}}  " + "  ".join(f"{cell:>14}" for cell in cells))
    return lines


def _regions(records: Records, tokens: Ints, profit: Ints) -> dict[str, RegionFigures]:
    unit_hours = np.zeros(len(records.region_names), np.int64)
    np.add.at(unit_hours, records.population.region, records.population.units * records.providers["hours_present"])
    tariff = np.rint(records.regions["tariff_micro_per_kwh"].mean(axis=0)).astype(np.int64)
    return {
        name: RegionFigures(
            tariff=int(tariff[r]),
            token_share=_share(tokens[r], tokens.sum()),
            profit_per_unit_hour=_share(profit[r], unit_hours[r], 1),
        )
        for r, name in enumerate(records.region_names)
    }


def _class_prices(records: Records) -> Ints:
    return ratio(records.classes["paid_micro"].sum(axis=0), records.classes["tokens"].sum(axis=0))


def _share(part: Any, whole: Any, scale: int = MICRO) -> int:
    """``part * scale / whole`` in Python ints, rounded down; 0 of nothing."""
    return int(part) * scale // int(whole) if int(whole) else 0


def _money(micro: int) -> str:
    return format_micro(micro)[:-2]


def _percent(ppm: int) -> str:
    return f"{(ppm + 5000) // 10_000}%"
