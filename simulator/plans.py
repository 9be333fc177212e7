"""What a file says of experiments: how many seeds, what is swept, compared, claimed and fitted. In no run's hash."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from protocol.errors import ConfigurationError
from simulator.settings import choice, decimal, read_named, read_table, text, unknown_key, whole

__all__ = ["Calibrate", "Check", "Experiment", "Pair", "Plans", "Sweep", "read_plans"]

METHODS = ("grid", "latin-hypercube", "sobol", "morris")
SIGNS = ("<", "<=", ">", ">=")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """How often everything is run."""

    seeds: int = whole(1, 100_000, 8)
    """Runs of each variant, with the seeds from `run.seed` on; `--seeds` replaces it."""
    confidence: int = decimal(1000, "0.5", "0.999", "0.95")
    """Thousandths: of every interval."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two runs that share their draws, compared seed by seed."""

    run: str = text()
    """Of this file."""
    against: str = text()
    """Likewise; figures are `run` less `against`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One key of the file that takes several values."""

    key: str = text()
    """Its path, as "market.margin" or "region.north.energy_price"."""
    low: str = text("")
    """Least value, as it would stand in the file."""
    high: str = text("")
    """Most."""
    steps: int = whole(2, 10_000, 5)
    """Values between, of a grid."""
    method: str = choice(METHODS, "grid")
    """How values are chosen; one for all keys of a file."""
    samples: int = whole(1, 100_000, 64)
    """Of a Latin hypercube; the base of Sobol's and Morris's numbers."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A claim: a figure of one run, or of one less another, against a number."""

    claim: str = text()
    """In words, with {value} where the number goes."""
    figure: str = text()
    """As in runs.parquet, "market.price" say."""
    run: str = text("")
    """Of this file; the first where left out."""
    against: str = text("")
    """Another run: the figure is then a difference, with the same draws."""
    relative: str = choice(("no", "yes"), "no")
    """Whether the difference is a share of the figure of `against`."""
    sign: str = choice(SIGNS, ">")
    """What holds between the figure's mean and `value`."""
    value: str = text("0")
    """The number."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Calibrate:
    """A key that is moved until a figure has the value that was observed."""

    key: str = text()
    """Its path; the figure must rise or fall with it throughout."""
    low: str = text()
    """Least value to try."""
    high: str = text()
    """Most."""
    figure: str = text()
    """As in runs.parquet."""
    target: str = text()
    """What was observed."""
    source: str = text("")
    """Where it was observed."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plans:
    """All of it."""

    experiment: Experiment = dataclasses.field(default_factory=Experiment)
    pairs: dict[str, Pair] = dataclasses.field(default_factory=dict)
    sweep: tuple[Sweep, ...] = ()
    checks: tuple[Check, ...] = ()
    calibrate: dict[str, Calibrate] = dataclasses.field(default_factory=dict)


def read_plans(table: Mapping[str, Any], runs: list[str]) -> Plans:
    """The experiments of a file with these runs. Raises ConfigurationError."""
    plans = Plans(
        experiment=read_table(Experiment, table.get("experiment", {}), "experiment"),
        pairs=read_named(Pair, table.get("pair"), "pair", least=0),
        sweep=tuple(read_table(Sweep, _texts(each), f"sweep {at}") for at, each in _list(table, "sweep")),
        checks=tuple(read_table(Check, _texts(each), f"check {at}") for at, each in _list(table, "check")),
        calibrate=_calibrations(table.get("calibrate")),
    )
    if len({each.method for each in plans.sweep}) > 1:
        raise ConfigurationError("keys of one sweep have several methods", hint="give all of them the same")
    named = [(f"pair.{name}", run) for name, each in plans.pairs.items() for run in (each.run, each.against)]
    named += [("check", run) for each in plans.checks for run in (each.run, each.against) if run]
    for where, run in named:
        if run not in runs:
            raise unknown_key(f"{where}: run {run!r}", run, runs)
    for where, number in _numbers(plans):
        try:
            Decimal(number)
        except ArithmeticError as error:
            raise ConfigurationError(f"{where} = {number!r} is not a number") from error
    return plans


def _calibrations(tables: Any) -> dict[str, Calibrate]:
    if isinstance(tables, Mapping):
        tables = {name: _texts(each) for name, each in tables.items()}
    return read_named(Calibrate, tables, "calibrate", least=0)


def _numbers(plans: Plans) -> list[tuple[str, str]]:
    numbers = [("check: value", each.value) for each in plans.checks]
    for name, each in plans.calibrate.items():
        numbers += [(f"calibrate.{name}.{key}", getattr(each, key)) for key in ("low", "high", "target")]
    for swept in plans.sweep:
        numbers += [(f"sweep of {swept.key}: {key}", getattr(swept, key)) for key in ("low", "high")]
    return numbers


def _list(table: Mapping[str, Any], key: str) -> list[tuple[int, Any]]:
    found = table.get(key, [])
    if not isinstance(found, list):
        raise ConfigurationError(f"{key} must be a list of tables", hint=f"write [[{key}]]")
    return list(enumerate(found, 1))


def _texts(table: Any) -> Any:
    """Numbers as they stand in the file, for keys whose scale is another key's."""
    if not isinstance(table, Mapping):
        return table
    spelled = ("low", "high", "value", "target")
    return {key: str(each) if key in spelled and not isinstance(each, bool) else each for key, each in table.items()}
