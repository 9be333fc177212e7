"""What a scenario file says: regions, hardware, demand, the market's habits, and variants to compare.

Every number is an integer in the unit that its docstring names; `simulator.settings` has read it from the decimal in
the file. A variant is the same file with some keys replaced; all runs of a scenario share their random draws, so that
two of them differ by nothing but those keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.bounded_toml import MAX_TOML_BYTES, parse_toml
from protocol.errors import ConfigurationError, InvalidError
from protocol.units import MICRO
from simulator.law import check_list, check_place
from simulator.settings import choice, decimal, read_named, read_table, text, unknown_key, whole, words

__all__ = [
    "BUNDLED",
    "Demand",
    "Hardware",
    "Market",
    "Region",
    "Run",
    "Scenario",
    "Settings",
    "bundled_names",
    "find_scenario",
    "load_scenario",
    "parse_scenario",
]

BUNDLED = Path(__file__).parent / "scenarios"
"""Where the example scenarios are."""

MILLI = 1000
SHAPES = ("flat", "time-of-use", "solar", "spot")
_LARGEST_RUN = 10**9  # provider-hours: in microseconds they stay under 2**62
_VARIABLE = ("market", "region", "hardware", "demand")
_TOP_LEVEL = ("title", "about", "shows", "base", "run", *_VARIABLE, "variant")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How much is simulated."""

    providers: int = whole(1, 100_000)
    """Providers, present or not."""
    hours: int = whole(24, 8760 * 5, 8760)
    """Hours of market time; hour 0 is a Monday, 1 January, 00:00 UTC."""
    seed: int = whole(0, 2**63 - 1, 1)
    """What the random draws follow from; `--seed` replaces it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """How providers behave. Use and presence change once a day, asks every hour with the tariff."""

    energy_scale: int = decimal(MILLI, "0", "100", "1")
    """Thousandths: multiplies every tariff."""
    overhead: int = decimal(MICRO, "0", "1000", "0")
    """Micro-units per million tokens that a provider spends besides energy."""
    margin: int = decimal(MICRO, "0", "4", "0.1")
    """Millionths that an ask adds to energy and overhead."""
    target_use: int = decimal(MICRO, "0.05", "1", "0.6")
    """Millionths of its time that a provider must be in use to earn back its hourly cost."""
    memory_days: int = whole(1, 365, 7)
    """Days over which a provider averages its use; the ask carries capital cost in proportion to it."""
    present: int = decimal(MICRO, "0", "1", "0.8")
    """Millionths of the providers that are there at the start."""
    patience_days: int = whole(1, 3650, 14)
    """Days in a row with a loss after which a provider leaves."""
    join: int = decimal(MICRO, "0", "1", "0.02")
    """Millionths: the daily chance that an absent provider joins, if those like it made no loss."""
    leave: int = decimal(MICRO, "0", "1", "0.001")
    """Millionths: the daily chance that a provider leaves for reasons of its own."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where providers are, what law holds there, and what energy costs at each hour."""

    share: int = whole(1, 1_000_000)
    """Weight in the draw of a provider's region."""
    jurisdiction: str = text()
    """A country or part of one, by its ISO 3166 code, or a made-up name: what `allow` and `deny` go by."""
    energy_price: int = decimal(MICRO, "0", "25")
    """Micro-units per kWh, mean of the tariff."""
    shape: str = choice(SHAPES, "flat")
    """flat; time-of-use (dear 16-21 h, cheap at night); solar (a dip around noon); spot (two humps; may go below 0)."""
    swing: int = decimal(MICRO, "0", "2", "0")
    """Millionths of the mean by which the shape moves the price."""
    noise: int = decimal(MICRO, "0", "2", "0")
    """Millionths: standard deviation of a slowly changing random part."""
    utc_offset: int = whole(-12, 14, 0)
    """Hours that local time is ahead of UTC."""
    pue: int = decimal(MILLI, "1", "5", "1.2")
    """Thousandths: lowest energy at the meter per energy at the machine."""
    pue_spread: int = decimal(MILLI, "0", "4", "0.2")
    """Thousandths: a site's PUE is drawn evenly from `pue` to `pue + pue_spread`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """A kind of machine, serving one model in full batches."""

    share: int = whole(1, 1_000_000)
    """Weight in the draw of a provider's hardware."""
    tokens_in_per_s: int = whole(1, 10_000_000)
    """Prompt tokens per second and unit."""
    tokens_out_per_s: int = whole(1, 10_000_000)
    """Generated tokens per second and unit."""
    joules_in: int = decimal(MILLI, "0", "1000")
    """Millijoules per prompt token, when busy."""
    joules_out: int = decimal(MILLI, "0", "1000")
    """Millijoules per generated token, when busy."""
    joules_spread: int = decimal(MICRO, "0", "0.9", "0.1")
    """Millionths: a provider's joules per token lie this much around the above, evenly."""
    idle_watts: int = whole(0, 100_000, 0)
    """Watts of one unit while it waits."""
    hourly_cost: int = decimal(MICRO, "0", "1000")
    """Micro-units per unit and hour of presence for everything but energy: hardware, space, people."""
    cost_spread: int = decimal(MICRO, "0", "0.9", "0.1")
    """Millionths: a provider's hourly cost lies this much around the above, evenly."""
    most_units: int = whole(1, 1000, 1)
    """A provider has from 1 to so many units, evenly drawn."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """Requests of one kind from one place."""

    requests_per_hour: int = whole(0, 1_000_000_000)
    """Mean in the first weeks."""
    tokens_in: int = whole(0, 1_000_000)
    """Prompt tokens of a request."""
    tokens_out: int = whole(1, 1_000_000)
    """Generated tokens of a request."""
    price_cap: int = decimal(MICRO, "0", "10000")
    """Micro-units per million tokens, prompt and output together, above which a request goes unserved."""
    allow: tuple[str, ...] = words()
    """Countries, their parts, groups (EU, EEA) or made-up names that may serve it; empty: all."""
    deny: tuple[str, ...] = words()
    """Those that may not."""
    utc_offset: int = whole(-12, 14, 0)
    """Hours that local time is ahead of UTC."""
    peak_hour: int = whole(0, 23, 15)
    """Local hour with the most requests."""
    swing: int = decimal(MICRO, "0", "1", "0")
    """Millionths of the mean by which the day moves demand."""
    weekend: int = decimal(MICRO, "0", "10", "1")
    """Millionths: multiplies demand on Saturdays and Sundays."""
    noise: int = decimal(MICRO, "0", "1", "0")
    """Millionths: standard deviation of each hour's random part."""
    growth: int = decimal(MICRO, "-0.9", "20", "0")
    """Millionths by which demand grows in a year."""
    elasticity: int = decimal(MICRO, "0", "10", "0")
    """Millionths: relative fall of demand for a relative rise of yesterday's price over `reference_price`."""
    reference_price: int = decimal(MICRO, "0", "10000", "0")
    """Micro-units per million tokens; needed with `elasticity`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run's worth: the file, with one variant's keys replaced.

    Tables are kept in order of their names, however they are given: no draw, tie or turn may depend on that.
    """

    run: Run
    market: Market
    regions: dict[str, Region]
    hardware: dict[str, Hardware]
    demand: dict[str, Demand]

    def __post_init__(self) -> None:
        for name in ("regions", "hardware", "demand"):
            object.__setattr__(self, name, dict(sorted(getattr(self, name).items())))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole file: what it asks, what it shows, and its runs by name, the unchanged file first."""

    title: str
    about: str
    shows: str
    """What an example, unchanged, was seen to show with its own seed; `load_scenario` takes no other file's word."""
    runs: dict[str, Settings]

    @property
    def seed(self) -> int:
        """The seed of every run."""
        return next(iter(self.runs.values())).run.seed

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of every value that the outcome follows from except the seed; tables go by name."""
        plain = dataclasses.asdict(self)["runs"]
        for settings in plain.values():
            del settings["run"]["seed"]
        return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def with_seed(self, seed: int | None) -> Scenario:
        """The same scenario with its random draws from `seed` (None: the file's); what it shows holds for its own."""
        if seed is None or seed == self.seed:
            return self
        if not 0 <= seed < 2**63:
            raise ConfigurationError(f"seed {seed} is out of range", hint="from 0 to 2^63 - 1")
        runs = {
            name: dataclasses.replace(settings, run=dataclasses.replace(settings.run, seed=seed))
            for name, settings in self.runs.items()
        }
        return dataclasses.replace(self, shows="", runs=runs)


def bundled_names() -> list[str]:
    """The names of the example scenarios."""
    return sorted(path.stem for path in BUNDLED.glob("*.toml"))


def find_scenario(name_or_path: str | Path) -> Path:
    """The file at this path, or the example of this name.

    Raises:
        ConfigurationError: there is neither.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if str(name_or_path) in bundled_names():
        return BUNDLED / f"{name_or_path}.toml"
    raise ConfigurationError(
        f"no scenario file {str(name_or_path)!r}", hint="give a TOML file, or an example: " + ", ".join(bundled_names())
    )


def load_scenario(path: Path) -> Scenario:
    """Read and check a scenario file. What it `shows` is dropped unless it is an example, to the byte.

    Raises:
        ConfigurationError: unreadable, not TOML, or a key that is unknown, missing, ill-typed or out of range.
    """
    try:
        if path.stat().st_size > MAX_TOML_BYTES:
            raise ConfigurationError(f"{path} is larger than {MAX_TOML_BYTES} bytes", hint="is this a scenario?")
        content = path.read_bytes()
        document = content.decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text", hint="is this a scenario?") from error
    try:
        scenario = parse_scenario(document)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path.name}: {error.message}", hint=error.hint) from error
    shipped = any(content == example.read_bytes() for example in BUNDLED.glob("*.toml"))
    return scenario if shipped else dataclasses.replace(scenario, shows="")


def parse_scenario(document: str) -> Scenario:
    """A scenario from TOML text. Raises as `load_scenario` does."""
    try:
        table = parse_toml(document)
    except InvalidError as error:
        raise ConfigurationError(f"not valid TOML: {error.message}", hint="mend that line") from error
    for key in table:
        if key not in _TOP_LEVEL:
            raise unknown_key(key, key, _TOP_LEVEL)
    texts = {key: table.get(key, "") for key in ("title", "about", "shows", "base")}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"{key} must be text", hint='put it in "quotes"')
    variants = table.get("variant", {})
    if not isinstance(variants, Mapping):
        raise ConfigurationError("variant must be a table", hint="write [variant.NAME.demand.CLASS], for example")
    base = texts["base"] or "base"
    if base in variants:
        raise ConfigurationError(f"two runs are called {base!r}", hint="rename the variant, or the base")
    runs = {base: _settings(table)}
    for name, changes in variants.items():
        try:
            runs[name] = _settings(_changed(table, changes, f"variant.{name}"))
        except ConfigurationError as error:
            raise ConfigurationError(f"variant.{name}: {error.message}", hint=error.hint) from error
    prose = {key: " ".join(texts[key].split()) for key in ("title", "about", "shows")}
    return Scenario(**{**prose, "title": prose["title"] or "untitled"}, runs=runs)


def _settings(table: Mapping[str, Any]) -> Settings:
    settings = Settings(
        run=read_table(Run, table.get("run", {}), "run"),
        market=read_table(Market, table.get("market", {}), "market"),
        regions=read_named(Region, table.get("region"), "region"),
        hardware=read_named(Hardware, table.get("hardware"), "hardware"),
        demand=read_named(Demand, table.get("demand"), "demand"),
    )
    _check_across(settings)
    return settings


def _check_across(settings: Settings) -> None:
    if settings.run.providers * settings.run.hours > _LARGEST_RUN:
        raise ConfigurationError("too many providers for so many hours", hint=f"at most {_LARGEST_RUN:,} together")
    for name, region in settings.regions.items():
        check_place(region.jurisdiction, f"region.{name}.jurisdiction")
    places = [region.jurisdiction for region in settings.regions.values()]
    for name, demand in settings.demand.items():
        check_list((*demand.allow, *demand.deny), places, f"demand.{name}")
        if demand.elasticity and not demand.reference_price:
            raise ConfigurationError(f"demand.{name}.reference_price is missing", hint="elasticity is relative to it")


def _changed(table: Mapping[str, Any], changes: Any, where: str) -> dict[str, Any]:
    """`table` with a variant's leaves put in; it may not add tables, nor change the extent of the run."""
    if not isinstance(changes, Mapping):
        raise ConfigurationError(f"{where} must be a table", hint=f"write [{where}.demand.CLASS], for example")
    for key in changes:
        if key not in _VARIABLE:
            raise unknown_key(f"{where}.{key}", key, _VARIABLE)
    return _merged({"market": {}, **table}, changes, where)


def _merged(table: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    merged = dict(table)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            if not isinstance(table.get(key), Mapping):
                raise unknown_key(f"{where}.{key}", key, table)
            merged[key] = _merged(table[key], value, f"{where}.{key}")
        else:
            merged[key] = value
    return merged
