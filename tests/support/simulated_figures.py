"""What the simulator's tests hold it to: the figures of the small scenario, and what each example shows.

After a change of the rules, this computes all of them anew and writes them where they stand (about two minutes):
`simulated_figures.json`, the `shows` of each example, and the examples in docs/explanation/simulator.md::

    python tests/support/simulated_figures.py
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from small_economy import small_settings

from simulator.engine import simulate
from simulator.metrics import Records
from simulator.scenario import BUNDLED, Scenario, find_scenario, load_scenario
from simulator.summary import RunFigures, run_figures

__all__ = ["DOCS", "SEEDS", "claim", "doc_claim", "merged", "seen_in_example", "small_figures", "stored_figures"]

SEEDS = range(1, 9)
"""What the docs say of the examples holds over these."""

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "explanation" / "simulator.md"
STORED = Path(__file__).with_suffix(".json")

Percents = dict[str, tuple[int, int]]
"""Lowest and highest per cent of each figure in a claim."""

SENTENCES = {
    "energy-share": "regions with power below $0.10/kWh serve {share0} % of all tokens when energy costs nothing, and "
    "{share1}, {share2} and {share3} % as it grows to {cost1}, {cost2} and {cost3} % of providers' costs: {rise} "
    "points more.",
    "residency": "keeping European requests in the EU makes their tokens {dearer_stay} % dearer and leaves "
    "{unserved_stay} % of them unserved (denying two jurisdictions: {dearer_two} % and {unserved_two} %), while "
    "everyone else pays {others} % less.",
}


def small_figures(records: Records) -> dict[str, Any]:
    """The figures of a run of the small scenario that any change of the rules would move."""
    figures = run_figures(records)
    return {
        "tokens": figures.tokens,
        "price": figures.price,
        "energy_price": figures.energy_price,
        "energy_share": figures.energy_share,
        "use": figures.use,
        "present": figures.present,
        "shares": {name: part.token_share for name, part in figures.regions.items()},
        "class prices": {name: part.price for name, part in figures.demand.items()},
        "served": {name: part.served for name, part in figures.demand.items()},
    }


def stored_figures() -> dict[str, Any]:
    """What was written last."""
    stored: dict[str, Any] = json.loads(STORED.read_text(encoding="utf-8"))
    return stored


def seen_in_example(name: str, seed: int) -> Percents:
    """Run an example, and read the figures of its claim."""
    scenario = load_scenario(find_scenario(name)).with_seed(seed)
    runs = {run: run_figures(simulate(settings)) for run, settings in scenario.runs.items()}
    if name == "energy-share":
        return _seen_in_energy_share(scenario, list(runs.values()))
    return _seen_in_residency(runs)


def merged(seen: Iterable[Percents]) -> Percents:
    """The range over several seeds."""
    rows = list(seen)
    return {key: (min(row[key][0] for row in rows), max(row[key][1] for row in rows)) for key in rows[0]}


def claim(name: str, seed: int, seen: Percents) -> str:
    """What an example shows with its own seed alone."""
    return f"In this one draw (seed {seed}), {_sentence(name, seen)}"


def doc_claim(name: str, seen: Percents) -> str:
    """What the docs say of an example."""
    bullet = f"- `{name}`: over seeds {SEEDS[0]} to {SEEDS[-1]}, {_sentence(name, seen)}"
    return textwrap.fill(bullet, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _sentence(name: str, seen: Percents) -> str:
    return SENTENCES[name].format(
        **{key: str(low) if low == high else f"{low} to {high}" for key, (low, high) in seen.items()}
    )


def _seen_in_energy_share(scenario: Scenario, runs: list[RunFigures]) -> Percents:
    regions = scenario.runs["energy x1"].regions
    cheap = [name for name, region in regions.items() if region.energy_price < 100_000]
    seen = {f"share{i}": _percent(sum(run.regions[name].token_share for name in cheap)) for i, run in enumerate(runs)}
    seen |= {f"cost{i}": _percent(run.energy_share) for i, run in enumerate(runs)}
    rise = seen[f"share{len(runs) - 1}"][0] - seen["share0"][0]
    return seen | {"rise": (rise, rise)}


def _seen_in_residency(runs: dict[str, RunFigures]) -> Percents:
    free, bound = runs["free"].demand, {"two": runs["deny two"].demand, "stay": runs["stay in EU"].demand}
    seen = {}
    for key, each in bound.items():
        seen[f"dearer_{key}"] = _percent(each["europe"].price * 1_000_000 // free["europe"].price - 1_000_000)
        seen[f"unserved_{key}"] = _percent(1_000_000 - each["europe"].served)
    others = [
        _percent(1_000_000 - each[name].price * 1_000_000 // free[name].price)
        for each in bound.values()
        for name in ("americas", "asia")
    ]
    return seen | {"others": (min(others)[0], max(others)[1])}


def _percent(ppm: int) -> tuple[int, int]:
    whole = (ppm + 5000) // 10_000
    return whole, whole


def _write_all() -> None:
    stored: dict[str, Any] = {"small": small_figures(simulate(small_settings())), "examples": {}}
    docs = DOCS.read_text(encoding="utf-8")
    for name in SENTENCES:
        by_seed = {seed: seen_in_example(name, seed) for seed in SEEDS}
        stored["examples"][name] = merged(by_seed.values())
        path = BUNDLED / f"{name}.toml"
        own_seed = load_scenario(path).seed
        shows = json.dumps(claim(name, own_seed, by_seed[own_seed]))
        path.write_text(
            re.sub(r'^shows = ".*"$', lambda _, line=f"shows = {shows}": line, path.read_text(), flags=re.M)
        )
        sentence = doc_claim(name, stored["examples"][name])
        docs = re.sub(rf"^- `{name}`: .*(?:\n  .*)*", lambda _, text=sentence: text, docs, flags=re.M)
    DOCS.write_text(docs, encoding="utf-8")
    STORED.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write_all()
