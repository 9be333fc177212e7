"""A scenario's hash stands for its outcome: what changes the one changes the other, and the order of a file neither."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_economy import SMALL, small_scenario

from simulator.engine import simulate
from simulator.output import tidy
from simulator.scenario import Demand, Hardware, Market, Region, Run, Scenario, Settings, parse_scenario

SHORT = SMALL.replace("hours = 340", "hours = 48").replace("providers = 40", "providers = 30")
HEAD, *TABLES = SHORT.strip().split("\n\n")

EVERY_VALUE = [
    (where, field.name)
    for where, kind in (
        ("run", Run),
        ("market", Market),
        ("regions", Region),
        ("hardware", Hardware),
        ("demand", Demand),
    )
    for field in dataclasses.fields(kind)
    if (where, field.name) != ("run", "seed")  # stands beside the hash
]


def outcome(scenario: Scenario) -> str:
    return tidy({name: simulate(plan) for name, plan in scenario.runs.items()}).digest


@pytest.fixture(scope="module")
def usual() -> tuple[str, str]:
    scenario = parse_scenario(SHORT)
    return scenario.digest, outcome(scenario)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_the_order_of_tables_and_keys_changes_neither_hash_nor_outcome(data: st.DataObject) -> None:
    expected = parse_scenario(SHORT)
    tables = []
    for table in data.draw(st.permutations(TABLES)):
        title, *keys = table.split("\n")
        tables.append("\n".join([title, *data.draw(st.permutations(keys))]))
    permuted = parse_scenario("\n\n".join([HEAD, *tables]))
    assert permuted.digest == expected.digest
    assert outcome(permuted) == outcome(expected)


def test_the_order_of_tables_given_from_python_changes_nothing(usual: tuple[str, str]) -> None:
    def backwards(plan: Settings) -> Settings:
        tables = {name: dict(reversed(getattr(plan, name).items())) for name in ("regions", "hardware", "demand")}
        return dataclasses.replace(plan, **tables)

    scenario = parse_scenario(SHORT)
    runs = {name: backwards(plan) for name, plan in reversed(scenario.runs.items())}
    turned = dataclasses.replace(scenario, runs=runs)
    assert (turned.digest, outcome(turned)) == usual


@pytest.mark.parametrize(
    "change",
    [
        ('title = "small"', 'title = "other"'),
        ('about = "What the tests run."', ""),
        ('shows = "Nothing in particular."', 'shows = "The opposite."'),
        ("join = 0.2\n", "join  =  0.200 # a comment\n"),
        ("patience_days = 3", "patience_days = 3\nmargin = 0.1 # what it is anyway"),
    ],
)
def test_wording_and_spelling_change_neither(change: tuple[str, str], usual: tuple[str, str]) -> None:
    assert change[0] in SHORT
    scenario = parse_scenario(SHORT.replace(*change))
    assert (scenario.digest, outcome(scenario)) == usual


@pytest.mark.parametrize(("where", "field"), EVERY_VALUE)
def test_every_value_is_in_the_hash(where: str, field: str, usual: tuple[str, str]) -> None:
    """Wherever the outcome is another, the hash is too: it is so for every value, also those that move nothing."""
    scenario = parse_scenario(SHORT)
    plan = scenario.runs["plain"]
    table = getattr(plan, where)
    entry = next(reversed(table.values())) if isinstance(table, dict) else table
    for value in _others(entry, field):
        changed: Any = dataclasses.replace(entry, **{field: value})
        if isinstance(table, dict):
            changed = {**table, next(reversed(table)): changed}
        other = dataclasses.replace(plan, **{where: changed})
        assert dataclasses.replace(scenario, runs={**scenario.runs, "plain": other}).digest != usual[0], value


@pytest.mark.parametrize(
    "change",
    [
        ("providers = 30", "providers = 31"),
        ("patience_days = 3", "patience_days = 3\nmargin = 0.100001"),
        ("share = 3", "share = 4"),
        ("[region.west]", "[region.zest]"),
        ("[hardware.big]", "[hardware.tall]"),
        ("[demand.chat]", "[demand.talk]"),
        ("[variant.dear.market]", "[variant.costly.market]"),
        ('allow = ["NO"]', 'allow = ["US"]'),
        ("energy_scale = 4", "energy_scale = 5"),
        ('base = "plain"', 'base = "simple"'),
    ],
)
def test_what_changes_the_outcome_changes_the_hash(change: tuple[str, str], usual: tuple[str, str]) -> None:
    old, new = change
    assert old in SHORT
    scenario = parse_scenario(SHORT.replace(old, new))
    assert outcome(scenario) != usual[1]
    assert scenario.digest != usual[0]


def test_the_seed_stands_beside_the_hash(usual: tuple[str, str]) -> None:
    other = parse_scenario(SHORT).with_seed(4)
    assert other.digest == usual[0]
    assert outcome(other) != usual[1]
    assert len(small_scenario().digest) == 64


def _others(entry: Any, field: str) -> list[Any]:
    """Some values that a file may hold instead."""
    about = next(each.metadata for each in dataclasses.fields(entry) if each.name == field)
    value = getattr(entry, field)
    if "bounds" in about:
        near = {value - 1, value + 1, *about["bounds"]} - {value}
        return sorted(each for each in near if about["bounds"][0] <= each <= about["bounds"][1])
    if "options" in about:
        return [each for each in about["options"] if each != value]
    return [("US",), ("NO", "US")] if isinstance(value, tuple) else ["DE", "moon"]
