"""What the example scenarios say that they show is what they show."""

from __future__ import annotations

import pytest

from simulator.engine import simulate
from simulator.scenario import Scenario, find_scenario, load_scenario
from simulator.summary import RunFigures, run_figures

pytestmark = pytest.mark.slow


def test_energy_share_shows_what_it_says() -> None:
    scenario, runs = _run("energy-share")
    cheap = ["iceland", "quebec", "texas"]
    assert sorted(cheap) == sorted(
        name for name, place in scenario.runs["energy x1"].regions.items() if place.energy_price < 100_000
    )
    shares = [_percent(sum(run.regions[name].token_share for name in cheap)) for run in runs.values()]
    costs = [_percent(run.energy_share) for run in runs.values()]
    assert costs[0] == 0
    assert scenario.shows == (
        f"Regions with power below $0.10/kWh serve {shares[0]} % of all tokens when energy costs nothing, and "
        f"{shares[1]}, {shares[2]} and {shares[3]} % as it grows to {costs[1]}, {costs[2]} and {costs[3]} % "
        "of providers' costs."
    )


def test_residency_shows_what_it_says() -> None:
    scenario, runs = _run("residency")
    free, two, stay = runs["free"].demand, runs["deny two"].demand, runs["stay in EU"].demand
    dearer = [_percent(each["europe"].price * 1_000_000 // free["europe"].price - 1_000_000) for each in (two, stay)]
    unserved = [_percent(1_000_000 - each["europe"].served) for each in (two, stay)]
    others = sorted(
        _percent(1_000_000 - each[name].price * 1_000_000 // free[name].price)
        for each in (two, stay)
        for name in ("americas", "asia")
    )
    assert scenario.shows == (
        f"Keeping European requests in the EU makes their tokens {dearer[1]} % dearer and leaves {unserved[1]} % of "
        f"them unserved (denying two jurisdictions: {dearer[0]} % and {unserved[0]} %), while everyone else pays "
        f"{others[0]} to {others[-1]} % less."
    )


def _run(name: str) -> tuple[Scenario, dict[str, RunFigures]]:
    scenario = load_scenario(find_scenario(name))
    return scenario, {run: run_figures(simulate(settings)) for run, settings in scenario.runs.items()}


def _percent(ppm: int) -> int:
    return (ppm + 5000) // 10_000
