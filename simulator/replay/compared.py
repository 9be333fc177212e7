"""How far an engine is from what happened: the error of fluid and event runs against the replay of their trace."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from simulator.exact import Ints

__all__ = ["Misfit", "SiteTotals", "load_sites", "misfit"]

_FIGURES = ("revenue_micro", "use_ppm")


@dataclasses.dataclass(frozen=True, slots=True)
class SiteTotals:
    """What each site of a run earned, and how busy it was; arrays in order of the names."""

    names: tuple[str, ...]
    revenue: Ints
    """Micro-units."""
    use: Ints
    """Millionths of its time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """What an engine got wrong; shares of 1."""

    fidelity: str
    seed: int
    revenue: float
    """All revenue, less the real one, over it."""
    moved: float
    """The share of revenue that is at other sites than it really was."""
    worst_site: str
    """Whose revenue is furthest off."""
    worst_revenue: float
    """Its revenue less the real one, over the real one, or over the mean of all sites where that is more."""
    use: float
    """The most by which a site's use is off: 0.01 is a point."""
    served: float
    """Requests served of those that were asked for."""


def misfit(fidelity: str, seed: int, found: SiteTotals, real: SiteTotals, served: float) -> Misfit:
    """Hold a run against what happened, site by site."""
    mine, true = found.revenue.astype(float), real.revenue.astype(float)
    whole, own = float(true.sum()), float(mine.sum())
    against = np.maximum(true, whole / max(1, len(true)))
    off = (mine - true) / np.maximum(against, 1.0)
    worst = int(np.argmax(np.abs(off)))
    shares = np.abs(mine / max(own, 1.0) - true / max(whole, 1.0))
    return Misfit(
        fidelity=fidelity,
        seed=seed,
        revenue=own / whole - 1 if whole else 0.0,
        moved=float(shares.sum()) / 2,
        worst_site=real.names[worst],
        worst_revenue=float(off[worst]),
        use=float(np.abs(found.use - real.use).max()) / 1e6,
        served=served,
    )


def load_sites(path: Path) -> SiteTotals:
    """The totals of all sites in a run's file."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    rows: dict[str, dict[str, Any]] = {}
    for row in table.filter(pc.is_in(pc.field("metric"), _values(*_FIGURES))).to_pylist():
        if row["entity"].startswith(("site/", "provider/")):
            rows.setdefault(row["entity"], {})[row["metric"]] = row["value"]
    revenue, use = (np.array([row[metric] for row in rows.values()], dtype=np.int64) for metric in _FIGURES)
    return SiteTotals(tuple(rows), revenue, use)


def _values(*names: str) -> Any:
    import pyarrow as pa

    return pa.array(names, pa.string())
