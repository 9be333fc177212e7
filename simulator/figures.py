"""The figures of one run: a number for each name, in the units that people use. Everything else is computed from these.

Prices and costs are dollars per million tokens (prompt and output together), shares are parts of 1, waits are seconds.
"""

from __future__ import annotations

import numpy as np

from protocol.units import MICRO
from simulator.exact import Ints
from simulator.metrics import Records

__all__ = ["Figures", "figures_of", "named_unit"]

Figures = dict[str, float]

_QUARTER_HOURS = 2190


def figures_of(records: Records) -> Figures:
    """Every figure of a run, by exact sums over all epochs; of what did not happen there is none."""
    total = {name: figure.sum(axis=0).astype(object) for name, figure in records.regions.items()}
    found = {
        **_of_market(records, total),
        **_of_regions(records, total),
        **_of_classes(records),
        **_of_sites(records),
        **_of_token(records),
    }
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def named_unit(figure: str) -> str:
    """What a figure is counted in, by its name."""
    last = figure.rsplit(".", 1)[-1]
    if last in ("price", "energy_cost", "clearing_price", "top_price", "cost"):
        return "$ per Mtok"
    if last in ("wait", "latency"):
        return "s"
    return {"tokens": "tokens", "providers": "sites", "carbon": "t CO2", "tariff": "$ per kWh"}.get(last, "")


def _of_market(records: Records, total: dict[str, Ints]) -> Figures:
    tokens, revenue = records.market["tokens"].astype(object).sum(), total["revenue_micro"].sum()
    energy = total["work_cost_micro"].sum() + total["idle_cost_micro"].sum()
    cost = energy + total["other_cost_micro"].sum() + total["capital_micro"].sum()
    other = records.sites["other_micro"].astype(object).sum()
    return {
        "market.tokens": tokens,
        "market.price": _per(revenue, tokens),
        "market.energy_cost": _per(total["work_cost_micro"].sum(), tokens),
        "market.cost": _per(cost, tokens),
        "market.energy_share": _per(energy, cost),
        "market.margin": _per(revenue + other - cost, cost),
        "market.worst_quarter_margin": _worst_quarter(records),
        "market.use": _per(total["busy_us"].sum(), total["working_us"].sum()),
        "market.providers": float(records.market["present"][-1]),
        "market.mean_providers": float(records.market["present"].mean()),
        "market.top_price": float(records.market["clearing_micro_per_mtok"].max()) / MICRO,
        "market.carbon": float(records.market["carbon_mg"].astype(object).sum()) / 1e6,
        "market.unserved": 1 - _served(records, range(len(records.class_names))),
    }


def _worst_quarter(records: Records) -> float:
    """The least margin over cost in any quarter of a year, whole ones where there are such."""
    epochs = _QUARTER_HOURS * 60 // records.epoch_minutes
    length = len(records.market["tokens"])
    starts = range(0, max(1, length - length % epochs), epochs) if length >= epochs else range(1)
    worst = np.inf
    for start in starts:
        part = {name: figure[start : start + epochs].astype(object).sum() for name, figure in records.regions.items()}
        cost = sum(part[f"{kind}_micro"] for kind in ("work_cost", "idle_cost", "other_cost", "capital"))
        worst = min(worst, _per(part["revenue_micro"] - cost, cost))
    return float(worst)


def _of_regions(records: Records, total: dict[str, Ints]) -> Figures:
    found: Figures = {}
    money = total["revenue_micro"].sum()
    tokens = total["tokens_in"] + total["tokens_out"]
    for r, name in enumerate(records.region_names):
        cost = sum(total[f"{kind}_micro"][r] for kind in ("work_cost", "idle_cost", "other_cost", "capital"))
        found |= {
            f"region.{name}.token_share": _per(tokens[r], tokens.sum()),
            f"region.{name}.value_share": _per(total["revenue_micro"][r], money),
            f"region.{name}.margin": _per(total["revenue_micro"][r] - cost, cost),
            f"region.{name}.use": _per(total["busy_us"][r], total["working_us"][r]),
            f"region.{name}.providers": float(records.regions["present"][-1, r]),
            f"region.{name}.tariff": float(records.regions["tariff_micro_per_kwh"][:, r].mean()) / MICRO,
        }
    return found


def _of_classes(records: Records) -> Figures:
    found: Figures = {}
    total = {name: figure.astype(object).sum(axis=0) for name, figure in records.classes.items()}
    for c, name in enumerate(records.class_names):
        short = records.classes["short"][:, c].astype(bool)
        served = records.classes["requests_served"][:, c]
        waits = (records.classes["wait_us"][:, c] * served.astype(object)).sum()
        latency = (records.classes["latency_us"][:, c] * served.astype(object)).sum()
        found |= {
            f"demand.{name}.price": _per(total["paid_micro"][c], total["tokens"][c]),
            f"demand.{name}.served": _served(records, [c]),
            f"demand.{name}.short_epochs": float(short.mean()),
            f"demand.{name}.clearing_price": float(records.classes["clearing_micro_per_mtok"][:, c].mean()) / MICRO,
            f"demand.{name}.wait": _per(waits, served.astype(object).sum()) / MICRO,
            f"demand.{name}.latency": _per(latency, served.astype(object).sum()) / MICRO,
            f"demand.{name}.late": _per(total["requests_late"][c], total["requests_served"][c]),
        }
    return found


def _served(records: Records, of: range | list[int]) -> float:
    """Of the requests; those that wait and are asked for again in the next epoch count once for each."""
    served, wanted = (records.classes[f"requests_{each}"][:, list(of)] for each in ("served", "wanted"))
    return _per(served.astype(object).sum(), wanted.astype(object).sum())


def _of_sites(records: Records) -> Figures:
    revenue = np.sort(records.sites["revenue_micro"].astype(float))[::-1]
    whole = revenue.sum()
    if not whole:
        return {}
    shares = revenue / whole
    rank = np.arange(1, len(shares) + 1)
    gini = (len(shares) + 1 - 2 * (np.cumsum(shares[::-1])).sum()) / len(shares)
    return {
        "concentration.hhi": float((shares**2).sum()),
        "concentration.largest": float(shares[0]),
        "concentration.top_ten": float(shares[:10].sum()),
        "concentration.gini": float(gini),
        "concentration.half": float(rank[np.searchsorted(np.cumsum(shares), 0.5)]),
    }


def _of_token(records: Records) -> Figures:
    days = records.days
    cheated, served = days["cheated_requests"].sum(), records.classes["requests_served"].sum()
    return {
        "token.price": float(days["token_price_pico"][-1]) / MICRO**2,
        "token.supply": float(days["supply_micro"][-1]) / MICRO,
        "token.minted": float(days["minted_micro"].astype(object).sum()) / MICRO,
        "token.burned": float(days["burned_micro"].astype(object).sum()) / MICRO,
        "audit.cheated": _per(cheated, served),
        "audit.caught": float(days["caught"].sum()),
        "audit.slashed": float(days["slashed_micro"].astype(object).sum()) / MICRO,
    }


def _per(part: float, whole: float) -> float:
    """The part as a share; not a number of nothing."""
    return float(part) / float(whole) if whole else float("nan")
