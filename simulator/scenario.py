"""Reads a scenario file: tables, variants, series and experiments; and the hash of what the outcome follows from.

A variant is the same file with some keys replaced; all runs of a scenario share their random draws, so that two of them
differ by nothing but those keys. A file without `version`, or with version 1, is read by the same rules.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protocol.encoding.bounded_toml import MAX_TOML_BYTES, parse_toml
from protocol.errors import ConfigurationError, InvalidError
from simulator.hardware import Hardware, Site
from simulator.plans import Plans, read_plans
from simulator.replay.trace import Trace, read_trace
from simulator.series import Numbers, read_series
from simulator.settings import read_named, read_table, unknown_key
from simulator.tables import Agents, Audit, Demand, Entry, Event, Market, Region, Run, Series, Token
from simulator.validation import check_across

__all__ = ["BUNDLED", "Scenario", "Settings", "bundled_names", "find_scenario", "load_scenario", "parse_scenario"]

BUNDLED = Path(__file__).parent / "scenarios"
"""Where the example scenarios are."""

VERSIONS = (1, 2)
_TEXTS = ("title", "about", "base")
_PLANS = ("experiment", "pair", "sweep", "check", "calibrate")
_VARIABLE = ("market", "entry", "region", "hardware", "site", "demand", "agents", "token", "audit", "event", "series")
_TOP_LEVEL = ("version", *_TEXTS, "run", *_VARIABLE, "variant", *_PLANS)
_HABITS = ("present", "patience_days", "join", "leave")  # in version 1 they stand under [market]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One run's worth: the file, with one variant's keys replaced.

    Tables are kept in order of their names, however they are given: no draw, tie or turn may depend on that.
    """

    run: Run
    market: Market
    entry: Entry = dataclasses.field(default_factory=Entry)
    regions: dict[str, Region]
    hardware: dict[str, Hardware]
    sites: dict[str, Site] = dataclasses.field(default_factory=dict)
    demand: dict[str, Demand]
    agents: Agents = dataclasses.field(default_factory=Agents)
    token: Token = dataclasses.field(default_factory=Token)
    audit: Audit = dataclasses.field(default_factory=Audit)
    events: tuple[Event, ...] = ()
    series: dict[str, Numbers] = dataclasses.field(default_factory=dict)
    """Those that something names."""
    trace: Trace | None = None
    """What `run.trace` says."""

    def __post_init__(self) -> None:
        for name in ("regions", "hardware", "sites", "demand", "series"):
            object.__setattr__(self, name, dict(sorted(getattr(self, name).items())))
        order = sorted(self.events, key=lambda each: (each.at, each.hours, each.what, each.where, each.factor))
        object.__setattr__(self, "events", tuple(order))

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of every value that the outcome follows from, except the seed."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain |= {"series": self._named_series(), "trace": self.trace.digest if self.trace else ""}
        words = json.dumps(_plain(plain), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(words.encode()).hexdigest()

    def _named_series(self) -> dict[str, str]:
        return {name: numbers.digest for name, numbers in self.series.items()}

    def with_seed(self, seed: int) -> Settings:
        """The same run with other draws."""
        return dataclasses.replace(self, run=dataclasses.replace(self.run, seed=seed))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole file: what it asks, its runs by name, the unchanged file first, and its experiments."""

    title: str
    about: str
    runs: dict[str, Settings]
    plans: Plans
    table: Mapping[str, Any]
    """As read, for sweeps: they replace its keys."""
    folder: Path
    """Where its series are."""

    @property
    def seed(self) -> int:
        """The seed of every run."""
        return next(iter(self.runs.values())).run.seed

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the hashes of all runs by name."""
        digests = {name: settings.digest for name, settings in self.runs.items()}
        return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()

    def with_seed(self, seed: int | None) -> Scenario:
        """The same scenario with its random draws from `seed` (None: the file's)."""
        if seed is None or seed == self.seed:
            return self
        if not 0 <= seed < 2**63:
            raise ConfigurationError(f"seed {seed} is out of range", hint="from 0 to 2^63 - 1")
        runs = {name: settings.with_seed(seed) for name, settings in self.runs.items()}
        return dataclasses.replace(self, runs=runs)

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """The file's first run with some keys replaced, given by their paths: "market.margin".

        Raises:
            ConfigurationError: a path that leads nowhere, or a value that the key does not take.
        """
        nested: dict[str, Any] = {}
        for path, value in changes.items():
            table, key = _at(self.table, path)
            at = nested
            for name in table:
                at = at.setdefault(name, {})
            at[key] = value
        base = {"market": {}, "entry": {}, "agents": {}, "token": {}, "audit": {}, "run": {}, **self.table}
        return _settings(_merged(base, nested, "sweep"), self.folder)


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
    """Read and check a scenario file.

    Raises:
        ConfigurationError: unreadable, not TOML, or a key that is unknown, missing, ill-typed or out of range.
    """
    try:
        if path.stat().st_size > MAX_TOML_BYTES:
            raise ConfigurationError(f"{path} is larger than {MAX_TOML_BYTES} bytes", hint="is this a scenario?")
        document = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text", hint="is this a scenario?") from error
    try:
        return parse_scenario(document, path.parent)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path.name}: {error.message}", code=error.code, hint=error.hint) from error


def parse_scenario(document: str, folder: Path = Path()) -> Scenario:
    """A scenario from TOML text; its series lie in `folder`. Raises as `load_scenario` does."""
    try:
        table = parse_toml(document)
    except InvalidError as error:
        raise ConfigurationError(f"not valid TOML: {error.message}", hint="mend that line") from error
    for key in table:
        if key not in _TOP_LEVEL:
            raise unknown_key(key, key, _TOP_LEVEL)
    texts = _checked_texts(table)
    base = texts["base"] or "base"
    variants = table.get("variant", {})
    if not isinstance(variants, Mapping):
        raise ConfigurationError("variant must be a table", hint="write [variant.NAME.demand.CLASS], for example")
    if base in variants:
        raise ConfigurationError(f"two runs are called {base!r}", hint="rename the variant, or the base")
    runs = {base: _settings(table, folder)}
    for name, changes in variants.items():
        try:
            runs[name] = _settings(_changed(table, changes, f"variant.{name}"), folder)
        except ConfigurationError as error:
            raise ConfigurationError(f"variant.{name}: {error.message}", hint=error.hint) from error
    prose = {key: " ".join(texts[key].split()) for key in ("title", "about")}
    return Scenario(
        **{**prose, "title": prose["title"] or "untitled"},
        runs=runs,
        plans=read_plans(table, list(runs)),
        table=table,
        folder=folder,
    )


def _checked_texts(table: Mapping[str, Any]) -> dict[str, str]:
    if table.get("version", 1) not in VERSIONS or isinstance(table.get("version"), bool):
        raise ConfigurationError(f"version {table['version']!r} is not known", hint="1 or 2")
    texts = {key: table.get(key, "") for key in _TEXTS}
    for key, value in texts.items():
        if not isinstance(value, str):
            raise ConfigurationError(f"{key} must be text", hint='put it in "quotes"')
    return texts


def _settings(table: Mapping[str, Any], folder: Path) -> Settings:
    table = _as_version_2(table)
    declared = read_named(Series, table.get("series"), "series", least=0)
    settings = Settings(
        run=read_table(Run, table.get("run", {}), "run"),
        market=read_table(Market, table.get("market", {}), "market"),
        entry=read_table(Entry, table.get("entry", {}), "entry"),
        regions=read_named(Region, table.get("region"), "region"),
        hardware=read_named(Hardware, table.get("hardware"), "hardware"),
        sites=read_named(Site, table.get("site"), "site", least=0),
        demand=read_named(Demand, table.get("demand"), "demand"),
        agents=read_table(Agents, table.get("agents", {}), "agents"),
        token=read_table(Token, table.get("token", {}), "token"),
        audit=read_table(Audit, table.get("audit", {}), "audit"),
        events=_events(table.get("event", [])),
    )
    named = {each.tariff for each in settings.regions.values()} | {settings.token.price_series}
    named |= {each.carbon_series for each in settings.regions.values()}
    named |= {each.series for each in settings.demand.values()}
    numbers = {}
    for name in sorted(named - {""}):
        if name not in declared:
            raise unknown_key(f"series.{name}", name, declared)
        numbers[name] = read_series(declared[name], folder, name)
    trace = read_trace(folder / settings.run.trace) if settings.run.trace else None
    settings = dataclasses.replace(settings, series=numbers, trace=trace)
    check_across(settings)
    return settings


def _events(tables: Any) -> tuple[Event, ...]:
    if not isinstance(tables, list):
        raise ConfigurationError("event must be a list of tables", hint="write [[event]]")
    found = []
    for at, table in enumerate(tables, 1):
        if isinstance(table, Mapping) and "for" in table:
            table = {**{key: value for key, value in table.items() if key != "for"}, "hours": table["for"]}
        found.append(read_table(Event, table, f"event {at}"))
    return tuple(found)


def _as_version_2(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same tables, with what version 1 had elsewhere in its place."""
    market = table.get("market", {})
    if table.get("version", 1) != 1 or not isinstance(market, Mapping):
        return table
    known = [*(field.name for field in dataclasses.fields(Market)), *_HABITS]
    for key in market:
        if key not in known:
            raise unknown_key(f"market.{key}", key, known)
    moved = {key: market[key] for key in _HABITS if key in market}
    kept = {key: value for key, value in market.items() if key not in _HABITS}
    return {**table, "market": kept, "entry": {"rule": "habit", **moved, **table.get("entry", {})}}


def _changed(table: Mapping[str, Any], changes: Any, where: str) -> dict[str, Any]:
    """`table` with a variant's leaves put in; it may not add tables, nor change the extent of the run."""
    if not isinstance(changes, Mapping):
        raise ConfigurationError(f"{where} must be a table", hint=f"write [{where}.demand.CLASS], for example")
    for key in changes:
        if key not in _VARIABLE:
            raise unknown_key(f"{where}.{key}", key, _VARIABLE)
    base = {"market": {}, "entry": {}, "agents": {}, "token": {}, "audit": {}, **table}
    return _merged(base, changes, where)


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


def _at(table: Mapping[str, Any], path: str) -> tuple[list[str], str]:
    """The tables that a path leads through, by names that there are (they may hold dots), and the key at its end."""
    names: list[str] = []
    here: Any = table
    left = path
    while True:
        inside = [name for name in here if isinstance(here[name], Mapping) and left.startswith(f"{name}.")]
        if not inside:
            single = left.split(".")[0]
            if not names and single in ("run", "market", "entry", "agents", "token", "audit") and "." in left:
                return [single], left.split(".", 1)[1]
            if "." in left:
                raise unknown_key(path, single, [name for name in here if isinstance(here[name], Mapping)])
            return names, left
        name = max(inside, key=len)
        names.append(name)
        here, left = here[name], left[len(name) + 1 :]


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        aside = ("seed", "trace") if isinstance(value, Run) else ()
        fields = [each.name for each in dataclasses.fields(value) if each.name not in aside]
        return {name: _plain(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value
