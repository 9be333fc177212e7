"""What a scenario file may say, what its hash stands for, and that draws belong to whom they are for."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_markets import market_toml, run_market
from small_economy import SMALL, small_scenario, small_settings

from protocol.errors import ConfigurationError
from simulator.engine import simulate
from simulator.hardware import Hardware
from simulator.population import allotted, draw_population
from simulator.scenario import Scenario, Settings, bundled_names, find_scenario, load_scenario, parse_scenario
from simulator.supply import draw_supply
from simulator.tables import Agents, Audit, Demand, Entry, Market, Region, Run, Token
from simulator.tidy import tidy
from simulator.timeline import Timeline

SHORT = SMALL.replace("hours = 340", "hours = 48").replace("providers = 40", "providers = 30")
HEAD, *TABLES = SHORT.strip().split("\n\n")
EVERY_VALUE = [
    (where, field.name)
    for where, kind in {
        "run": Run,
        "market": Market,
        "entry": Entry,
        "regions": Region,
        "hardware": Hardware,
        "demand": Demand,
        "agents": Agents,
        "token": Token,
        "audit": Audit,
    }.items()
    for field in dataclasses.fields(kind)
    if where != "run" or field.name not in ("seed", "trace")
]


def outcome(scenario: Scenario) -> dict[str, str]:
    return {name: tidy(simulate(plan)).digest for name, plan in scenario.runs.items()}


def first(document: str) -> Settings:
    return next(iter(parse_scenario(document).runs.values()))


@pytest.fixture(scope="module")
def usual() -> tuple[str, dict[str, str]]:
    scenario = parse_scenario(SHORT)
    return scenario.digest, outcome(scenario)


def test_the_order_of_tables_and_keys_changes_neither_hash_nor_outcome(usual: tuple[str, dict[str, str]]) -> None:
    lots = np.random.Generator(np.random.Philox(3))
    tables = []
    for at in lots.permutation(len(TABLES)):
        title, *keys = TABLES[at].split("\n")
        tables.append("\n".join([title, *(keys[i] for i in lots.permutation(len(keys)))]))
    turned = parse_scenario("\n\n".join([HEAD, *tables]))
    assert (turned.digest, outcome(turned)) == usual


@pytest.mark.parametrize(
    "change",
    [
        ('title = "small"', 'title = "other"'),
        ('about = "What the tests run."', ""),
        ("join = 0.2\n", "join  =  0.200 # a comment\n"),
        ("patience_days = 3", "patience_days = 3\nmargin = 0.1 # what it is anyway"),
        ("[variant.dear.market]", "[experiment]\nseeds = 3\n\n[variant.dear.market]"),
        ("[variant.dear.market]", '[series.unused]\nfile = "none.csv"\ncolumn = "x"\n\n[variant.dear.market]'),
    ],
)
def test_wording_spelling_and_experiments_change_no_hash(change: tuple[str, str], usual: Any) -> None:
    assert change[0] in SHORT
    assert parse_scenario(SHORT.replace(*change)).digest == usual[0]


@pytest.mark.parametrize(("where", "field"), EVERY_VALUE)
def test_every_value_is_in_the_hash(where: str, field: str) -> None:
    plan = parse_scenario(SHORT).runs["plain"]
    table = getattr(plan, where)
    entry = next(reversed(table.values())) if isinstance(table, dict) else table
    for value in _others(entry, field):
        changed: Any = dataclasses.replace(entry, **{field: value})
        if isinstance(table, dict):
            changed = {**table, next(reversed(table)): changed}
        assert dataclasses.replace(plan, **{where: changed}).digest != plan.digest, value


@pytest.mark.parametrize(
    "change",
    [
        ("providers = 30", "providers = 31"),
        ("[region.west]", "[region.zest]"),
        ("[demand.chat]", "[demand.talk]"),
        ('allow = ["NO"]', 'allow = ["US"]'),
        ("energy_scale = 4", "energy_scale = 5"),
        ("[variant.dear.market]", '[[event]]\nat = 3\nfor = 5\nwhat = "demand"\nfactor = 2\n\n[variant.dear.market]'),
    ],
)
def test_what_changes_the_outcome_changes_the_hash(change: tuple[str, str], usual: Any) -> None:
    assert change[0] in SHORT
    scenario = parse_scenario(SHORT.replace(*change))
    assert outcome(scenario) != usual[1]
    assert scenario.digest != usual[0]


def test_the_seed_stands_beside_the_hash(usual: tuple[str, dict[str, str]]) -> None:
    other = parse_scenario(SHORT).with_seed(4)
    assert other.digest == usual[0]
    assert outcome(other) != usual[1]


def test_a_region_that_changes_leaves_all_others_as_they_were() -> None:
    document = SHORT.replace("providers = 30", "providers = 0").replace("share = 2\nj", "sites = 9\nj")
    document = document.replace("share = 3\nj", "sites = 12\nj").replace(
        "share = 1\njurisdiction", "sites = 5\njurisdiction"
    )
    plain, other = (
        first(document),
        first(document.replace("sites = 12", "sites = 31").replace("swing = 0.5\nutc", "utc")),
    )
    ours, theirs = draw_population(plain), draw_population(other)
    west = list(plain.regions).index("west")
    for name in ("units", "pue", "joules_out", "hourly_cost", "tie", "hardware"):
        ours_of, theirs_of = getattr(ours, name), getattr(theirs, name)
        assert ours_of[ours.region != west].tolist() == theirs_of[theirs.region != west].tolist(), name
        assert ours_of[ours.region == west].tolist() == theirs_of[theirs.region == west][:12].tolist(), name
    tariffs = [draw_supply(plan, Timeline(plan.run)).tariff for plan in (plain, other)]
    assert np.array_equal(np.delete(tariffs[0], west, 0), np.delete(tariffs[1], west, 0))


@pytest.mark.parametrize("providers", [1, 7, 30, 99])
def test_one_more_provider_keeps_the_lots_of_all_before(providers: int) -> None:
    few, more = (first(SHORT.replace("providers = 30", f"providers = {count}")) for count in (providers, providers + 1))
    ours, theirs = draw_population(few), draw_population(more)
    assert len(theirs) == len(ours) + 1
    for r in range(len(few.regions)):
        count = int((ours.region == r).sum())
        for name in ("units", "pue", "joules_in", "tie"):
            assert (
                getattr(ours, name)[ours.region == r].tolist()
                == getattr(theirs, name)[theirs.region == r][:count].tolist()
            )


def test_shares_are_met_and_never_taken_back() -> None:
    shares = [53, 24, 23, 0]
    before = [0, 0, 0, 0]
    for providers in range(1, 200):
        now = allotted(providers, shares)
        assert sum(now) == providers
        assert all(a <= b for a, b in zip(before, now, strict=True))
        before = now
    assert allotted(100, shares) == shares


def test_burn_in_days_come_before_hour_0_and_change_no_weather() -> None:
    plain, burnt = first(SHORT), first(SHORT.replace("[run]", "[run]\nburn_in_days = 2"))
    tariffs = [draw_supply(plan, Timeline(plan.run)).tariff for plan in (plain, burnt)]
    assert np.array_equal(tariffs[0], tariffs[1][:, 48:])


def test_series_hold_what_a_file_says_and_what_it_says_is_in_the_hash(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("hour,eur_per_mwh\n0,50\n1,-10\n2,80.5\n")
    series = '[series.spot]\nfile = "prices.csv"\ncolumn = "eur_per_mwh"\nfactor = 0.001\n\n[variant.dear.market]'
    document = SHORT.replace("energy_price = 0.07", 'tariff = "spot"').replace("[variant.dear.market]", series)
    plan = parse_scenario(document, tmp_path).runs["plain"]
    tariff = draw_supply(plan, Timeline(plan.run)).tariff[list(plan.regions).index("south")]
    assert tariff[:4].tolist() == [50_000, -10_000, 80_500, 50_000]
    (tmp_path / "prices.csv").rename(tmp_path / "other.csv")
    moved = parse_scenario(document.replace("prices.csv", "other.csv"), tmp_path).runs["plain"]
    assert moved.digest == plan.digest
    (tmp_path / "other.csv").write_text("eur_per_mwh\n50\n-10\n80.6\n")
    assert parse_scenario(document.replace("prices.csv", "other.csv"), tmp_path).runs["plain"].digest != plan.digest
    for wrong in ("hour,eur_per_mwh\n0,\n", "eur\n1\n", "eur_per_mwh\nnan\n"):
        (tmp_path / "prices.csv").write_text(wrong)
        with pytest.raises(ConfigurationError, match=r"series\.spot"):
            parse_scenario(document, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("patience_days", "patience_dais"), "did you mean 'patience_days'"),
        (("overhead = 0.001", "overhead = -1"), "from 0 to 1000"),
        (("overhead = 0.001", "overhead = true"), "must be a number"),
        (('jurisdiction = "AE"', 'jurisdiction = "XX"'), "not a known code"),
        (('jurisdiction = "AE"', 'jurisdiction = "EU"'), "group of countries"),
        (('allow = ["NO"]', 'allow = ["FR"]'), "where no region is"),
        (('allow = ["NO"]', 'origin = "DE"\ncorridors = ["DE-CH"]'), "FROM>TO"),
        (("share = 2\nj", "share = 0\nj"), ""),
        (("overhead = 0.001", 'strategy = "cournot"'), "one price"),
        (("energy_scale = 4", "energy_scal = 4"), "variant.dear"),
        (("providers = 40", "providers = 40\nepoch_minutes = 7"), "divide 60"),
        (("[variant.dear.market]", "[site.a]\nregion = 'noth'\nhardware = 'big'\n[variant.dear.market]"), "north"),
        (("[variant.dear.market]", "[token]\nclosure = 'burn-equals-mint'\n[variant.dear.market]"), "fee"),
        (("[variant.dear.market]", "[pair.a]\nrun = 'dear'\nagainst = 'plan'\n[variant.dear.market]"), "plain"),
        (('title = "small"', "version = 3"), "version 3"),
    ],
)
def test_what_a_file_may_not_say_is_refused_with_a_hint(change: tuple[str, str], message: str) -> None:
    if not message:
        small_scenario(change)
        return
    with pytest.raises(ConfigurationError) as refused:
        small_scenario(change)
    assert message in f"{refused.value.message} {refused.value.hint}"


def test_the_first_version_is_read_as_the_second() -> None:
    second = (
        "version = 2\n"
        + SMALL.replace("patience_days = 3\njoin = 0.2\nleave = 0.02\n", "")
        + ("\n[entry]\nrule = 'habit'\npatience_days = 3\njoin = 0.2\nleave = 0.02\n")
    )
    assert parse_scenario(second).digest == small_scenario().digest


@pytest.mark.parametrize("name", bundled_names())
def test_every_example_is_read_and_asks_something(name: str) -> None:
    scenario = load_scenario(find_scenario(name))
    assert scenario.about.endswith("?")
    assert tomllib.loads(find_scenario(name).read_text())["title"] == scenario.title


def test_swept_keys_are_found_by_their_paths() -> None:
    scenario = small_scenario()
    assert scenario.changed({"market.margin": 0}).market.margin == 0
    assert scenario.changed({"region.north.energy_price": 1}).regions["north"].energy_price == 1_000_000
    with pytest.raises(ConfigurationError, match="unknown key"):
        scenario.changed({"region.nort.energy_price": 1})
    assert small_settings().digest == scenario.changed({}).digest


def _others(entry: Any, field: str) -> list[Any]:
    """Some values that a file may hold instead."""
    about = next(each.metadata for each in dataclasses.fields(entry) if each.name == field)
    value = getattr(entry, field)
    if isinstance(value, tuple):
        return [(0, 1)] if field == "blocks" else [("US",), ("NO", "US")]
    if "bounds" in about:
        near = {value - 1, value + 1, *about["bounds"]} - {value}
        return sorted(each for each in near if about["bounds"][0] <= each <= about["bounds"][1])
    if "options" in about:
        return [each for each in about["options"] if each != value]
    return ["DE", "moon"]


@pytest.mark.parametrize(
    ("offset", "minutes", "dear_from"), [(5.5, 15, 10.5), (5.75, 15, 10.25), (-3.5, 30, 19.5), (1, 5, 15)]
)
def test_a_local_day_begins_at_its_own_quarter_of_an_hour(offset: float, minutes: int, dear_from: float) -> None:
    """Dear hours begin at 16:00 there, and weekends at Saturday's midnight."""
    classes = f"utc_offset = {offset}\nweekend = 0.5"
    toml = market_toml([(1, 3600)], [(1200, 10)], hours=24 * 6, classes=classes)
    shape = f'utc_offset = {offset}\nshape = "time-of-use"\nswing = 0.5'
    toml = toml.replace("[region.here]", f"[region.here]\n{shape}").replace(
        "[run]", f"[run]\nepoch_minutes = {minutes}"
    )
    plan = next(iter(parse_scenario(toml).runs.values()))
    tariff = draw_supply(plan, Timeline(plan.run)).tariff[0]
    dear = tariff == tariff.max()
    begins = (np.flatnonzero(dear[1:] & ~dear[:-1]) + 1) * minutes / 60
    assert begins.tolist() == [dear_from + 24 * day for day in range(6)]
    wanted = run_market(toml).classes["requests_wanted"][:, 0]
    quiet = np.flatnonzero(wanted < 1200 * minutes // 60) * minutes / 60
    first = quiet[quiet >= 24]  # before that it may be Sunday there
    assert first[0] == 5 * 24 - offset
    assert len(first) * minutes / 60 == 24 + offset


def test_a_zone_of_time_is_of_whole_quarters() -> None:
    with pytest.raises(ConfigurationError, match="finer than 1/4"):
        small_settings(("utc_offset = -8", "utc_offset = -8.1"))
