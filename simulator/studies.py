"""What a file asks of its runs: sweeps, pairs, checks and calibrations. Computes; `simulator.cli` prints.

A paired difference is between two runs of the same seed: what both drew alike cancels out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np

from protocol.errors import ConfigurationError
from simulator.experiments import Job, Outcome
from simulator.figures import Figures
from simulator.hardware import Hardware, Site
from simulator.intervals import Spread, spread_of
from simulator.plans import Calibrate, Check, Sweep
from simulator.scenario import Scenario, Settings
from simulator.sensitivity import Axis, Index, design, indices
from simulator.settings import unknown_key
from simulator.tables import Agents, Audit, Demand, Entry, Event, Market, Region, Run, Series, Token

__all__ = [
    "Checked",
    "Fitted",
    "Swept",
    "calibrate",
    "check",
    "compared",
    "differences",
    "sweep_indices",
    "sweep_points",
]

_KINDS: dict[str, type] = {
    "run": Run,
    "market": Market,
    "entry": Entry,
    "region": Region,
    "hardware": Hardware,
    "site": Site,
    "demand": Demand,
    "agents": Agents,
    "token": Token,
    "audit": Audit,
    "event": Event,
    "series": Series,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Swept:
    """One point of a sweep: a run for each."""

    name: str
    changes: dict[str, int | Decimal]
    settings: Settings


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """A claim, and whether the runs bear it out."""

    claim: str
    spread: Spread
    holds: bool
    """Of the mean."""
    sure: bool
    """Of the whole interval."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fitted:
    """A key at which a figure is what was observed."""

    key: str
    value: float
    figure: str
    target: float
    reached: float
    """Mean of the figure at that value."""
    runs: int


def differences(outcome: Outcome, run: str, against: str) -> dict[str, Spread]:
    """The spread of `run` less `against`, seed by seed, of each figure that both have."""
    return {name: spread_of(values) for name, values in _paired(outcome, run, against).items()}


def _paired(outcome: Outcome, run: str, against: str) -> dict[str, list[float]]:
    ours, theirs = outcome.of(run), outcome.of(against)
    found: dict[str, list[float]] = {}
    for seed in ours.keys() & theirs.keys():
        for name in ours[seed].keys() & theirs[seed].keys():
            found.setdefault(name, []).append(ours[seed][name] - theirs[seed][name])
    return dict(sorted(found.items()))


def compared(outcome: Outcome, run: str, against: str, figure: str, confidence: float = 0.95) -> tuple[Spread, Spread]:
    """The difference of one figure with common draws, and what its interval would be without."""
    paired = spread_of(_paired(outcome, run, against)[figure], confidence)
    ours = spread_of([each[figure] for each in outcome.of(run).values()], confidence)
    theirs = spread_of([each[figure] for each in outcome.of(against).values()], confidence)
    half = math.hypot(ours.high - ours.mean, theirs.high - theirs.mean)
    apart = dataclasses.replace(paired, low=paired.mean - half, high=paired.mean + half)
    return paired, apart


def check(checks: Sequence[Check], scenario: Scenario, outcome: Outcome, confidence: float) -> list[Checked]:
    """Hold every claim against the runs. Raises ConfigurationError for a figure that there is not."""
    found = []
    for each in checks:
        run = each.run or next(iter(scenario.runs))
        values = _values_of(each, run, outcome)
        spread, bound = spread_of(values, confidence), float(each.value)
        edges = (spread.mean, spread.low, spread.high)
        mean, low, high = (_holds(edge, each.sign, bound) for edge in edges)
        claim = each.claim.replace("{value}", f"{spread.mean:.4g}")
        found.append(Checked(claim, spread, mean, mean and low and high))
    return found


def _values_of(check: Check, run: str, outcome: Outcome) -> list[float]:
    ours = outcome.of(run)
    known = sorted({name for figures in ours.values() for name in figures})
    if check.figure not in known:
        raise unknown_key(f"check: figure {check.figure!r}", check.figure, known)
    if not check.against:
        return [figures[check.figure] for figures in ours.values() if check.figure in figures]
    theirs = outcome.of(check.against)
    both = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    pairs = [(a[check.figure], b[check.figure]) for a, b in both if check.figure in a and check.figure in b]
    if check.relative == "yes":
        return [a / b - 1 for a, b in pairs if b]
    return [a - b for a, b in pairs]


def _holds(value: float, sign: str, bound: float) -> bool:
    return {"<": value < bound, "<=": value <= bound, ">": value > bound, ">=": value >= bound}[sign]


def sweep_points(scenario: Scenario, sweep: Sequence[Sweep]) -> tuple[list[Axis], np.ndarray[Any, Any], list[Swept]]:
    """The axes of a sweep, its points (P, K), and a run for each. Raises ConfigurationError."""
    if not sweep:
        raise ConfigurationError("the file has nothing to sweep", hint="add [[sweep]] with key, low and high")
    axes = [Axis(each.key, float(each.low), float(each.high), each.steps) for each in sweep]
    points = design(axes, sweep[0].method, sweep[0].samples, scenario.seed)
    found = []
    for number, row in enumerate(points):
        changes = {axis.key: spelled(axis.key, value) for axis, value in zip(axes, row.tolist(), strict=True)}
        found.append(Swept(f"point{number:05d}", changes, scenario.changed(changes)))
    return axes, points, found


def sweep_indices(
    scenario: Scenario, axes: Sequence[Axis], points: np.ndarray[Any, Any], outcome: Outcome, figure: str
) -> list[Index]:
    """What each swept key does to a figure, on average over seeds. Raises ConfigurationError where runs failed."""
    values = []
    for number in range(len(points)):
        figures = [each[figure] for each in outcome.of(f"point{number:05d}").values() if figure in each]
        if not figures:
            raise ConfigurationError(
                f"point {number} of the sweep has no {figure}", hint="see what failed, or narrow it"
            )
        values.append(float(np.mean(figures)))
    return indices(axes, scenario.plans.sweep[0].method, points, np.array(values), scenario.seed)


def spelled(path: str, value: float) -> int | Decimal:
    """A number as fine as a key takes it. Raises ConfigurationError: the key is not one of numbers."""
    names = path.split(".")
    kind, key = _KINDS.get(names[0]), names[-1]
    fields = {field.name: field for field in dataclasses.fields(kind)} if kind is not None else {}
    if key not in fields:
        raise unknown_key(path, key, fields or _KINDS)
    scale = fields[key].metadata.get("scale")
    if "bounds" not in fields[key].metadata:
        raise ConfigurationError(f"{path} is not a number", hint="sweep keys that are")
    if scale is None:
        return round(value)
    return Decimal(value).quantize(Decimal(1) / scale, ROUND_HALF_EVEN)


def calibrate(
    scenario: Scenario, wanted: Calibrate, seeds: int, run: Callable[[Sequence[Job]], Outcome], *, rounds: int = 24
) -> Fitted:
    """Move a key until the figure's mean over seeds is what was observed: by halving, as it rises or falls throughout.

    Raises:
        ConfigurationError: the figure has not that value anywhere between the key's ends, or runs fail.
    """
    low, high, target = float(wanted.low), float(wanted.high), float(wanted.target)

    def at(value: float) -> float:
        settings = scenario.changed({wanted.key: spelled(wanted.key, value)})
        name = f"{wanted.key}={value:.9g}"
        outcome = run([Job(name, settings.with_seed(settings.run.seed + extra)) for extra in range(seeds)])
        if outcome.failed:
            raise ConfigurationError(f"{name} fails: {outcome.failed[0].reason}")
        return _mean(outcome.of(name), wanted.figure)

    at_low, at_high = at(low), at(high)
    if not min(at_low, at_high) <= target <= max(at_low, at_high):
        raise ConfigurationError(
            f"{wanted.figure} goes from {at_low:.6g} to {at_high:.6g}, and {wanted.target} was observed",
            hint=f"widen the range of {wanted.key}, or look at what else it depends on",
        )
    rises, reached, value, runs = at_high > at_low, at_low, low, 2
    for _ in range(rounds):
        value = (low + high) / 2
        reached, runs = at(value), runs + 1
        if abs(reached - target) <= 1e-4 * max(abs(target), 1e-9):
            break
        low, high = (value, high) if (reached < target) == rises else (low, value)
    return Fitted(wanted.key, float(spelled(wanted.key, value)), wanted.figure, target, reached, runs * seeds)


def _mean(by_seed: Mapping[int, Figures], figure: str) -> float:
    values = [figures[figure] for figures in by_seed.values() if figure in figures]
    if not values:
        known = sorted({name for figures in by_seed.values() for name in figures})
        raise unknown_key(f"figure {figure!r}", figure, known)
    return float(np.mean(values))
