"""Scenario files are read strictly: what is not known, missing, ill-typed or out of range is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_economy import SMALL, small_scenario

from protocol.errors import ConfigurationError
from simulator.scenario import bundled_names, find_scenario, load_scenario, parse_scenario

BAD = [
    ("join = 0.2", "jion = 0.2", "unknown key market.jion", "did you mean 'join'?"),
    ("energy_price = 0.1\n", "energy_prise = 0.1\n", "unknown key region.west.energy_prise", "'energy_price'"),
    ("[market]", "[markets]", "unknown key markets", "'market'"),
    ("[market]", "xyzzy = 1\n[market]", "unknown key run.xyzzy", "known here: providers, hours, seed"),
    ("providers = 40", "", "run.providers is missing", "under [run]"),
    ("providers = 40", "providers = 0", "run.providers is out of range", "from 1 to 100000"),
    ("providers = 40", "providers = 40.5", "must be a whole number", "from 1"),
    ("providers = 40", "providers = true", "must be a whole number", "from 1"),
    ("providers = 40", 'providers = "40"', "must be a whole number", "from 1"),
    ("hours = 340", "hours = 23", "run.hours is out of range", "from 24"),
    ("hours = 340", "hours = 43_800\n#", "", ""),
    ("join = 0.2", "join = 1.5", "market.join is out of range", "from 0 to 1"),
    ("join = 0.2", "join = nan", "must be a finite number", "from 0 to 1"),
    ("join = 0.2", "join = inf", "must be a finite number", "from 0 to 1"),
    ("join = 0.2", "join = true", "must be a number", "from 0 to 1"),
    ("join = 0.2", "join = 0.12345678", "finer than 1/1000000", "round it"),
    ("energy_price = 0.2\n", "energy_price = -0.2\n", "region.east.energy_price is out of range", "from 0 to 25"),
    ('shape = "solar"', 'shape = "lunar"', "region.west.shape = 'lunar' is not known", "solar"),
    ('shape = "solar"', 'shape = ["solar"]', "is not known", "solar"),
    ('jurisdiction = "US"', "jurisdiction = 1", "region.west.jurisdiction must be text", "quotes"),
    ('allow = ["NO"]', 'allow = "NO"', "demand.lawful.allow must be a list of words", "IS"),
    ('allow = ["NO"]', "allow = [1]", "demand.lawful.allow must be a list of words", "IS"),
    ('allow = ["NO"]', 'allow = ["NO", "NO"]', "names something twice", "leave"),
    (
        'allow = ["NO"]',
        'allow = ["XX"]',
        "demand.lawful names 'XX', which is not a known code",
        "groups: EEA, EFTA, EU",
    ),
    ('allow = ["NO"]', 'allow = ["CH"]', "names jurisdiction 'CH', where no region is", "known: AE, NO, US"),
    (
        'jurisdiction = "US"',
        'jurisdiction = "EEA"',
        "region.west.jurisdiction = 'EEA' is a group",
        "name the country: AT",
    ),
    ('jurisdiction = "US"', 'jurisdiction = "USA"', "region.west.jurisdiction = 'USA' is not a known code", "DE"),
    ("reference_price = 0.4", "", "demand.chat.reference_price is missing", "elasticity"),
    ('title = "small"', "title = 3", "title must be text", "quotes"),
    ("[run]\nproviders = 40\nhours = 340\nseed = 3", 'run = "fast"', "run must be a table", "[run]"),
    ("[demand.chat]", "[demand.'chat room']", "demand.'chat room' is not a name", "letters"),
    ("[variant.dear.market]", "[variant.plain.market]", "two runs are called 'plain'", "rename"),
    ("energy_scale = 4", "energy_scales = 4", "variant.dear: unknown key market.energy_scales", "'energy_scale'"),
    (
        "[variant.dear.market]\nenergy_scale = 4",
        "[variant.dear.run]\nhours = 50",
        "unknown key variant.dear.run",
        "market",
    ),
    ("[variant.dear.market]\nenergy_scale = 4", "[variant]\ndear = 4", "variant.dear must be a table", "demand.CLASS"),
    (
        "[variant.dear.market]\nenergy_scale = 4",
        "[variant.dear.demand.chad]\nnoise = 0",
        "unknown key variant.dear.demand.chad",
        "'chat'",
    ),
    ("[market]", "[market", "not valid TOML", "line"),
]


@pytest.mark.parametrize(("old", "new", "message", "hint"), [bad for bad in BAD if bad[2]])
def test_a_bad_file_is_refused_by_name(old: str, new: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        small_scenario((old, new))
    assert message in failure.value.message
    assert hint in failure.value.hint


@pytest.mark.parametrize("kind", ["region", "hardware", "demand"])
def test_a_file_without_a_needed_table_is_refused(kind: str) -> None:
    lines = iter(SMALL.split("\n\n"))
    with pytest.raises(ConfigurationError, match=f"no {kind} is given"):
        parse_scenario("\n\n".join(part for part in lines if not part.startswith((f"[{kind}.", "[variant."))))


def test_too_many_provider_hours_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="too many providers"):
        small_scenario(("providers = 40", "providers = 100_000"), ("hours = 340", "hours = 43_800"))
    small_scenario(("providers = 40", "providers = 100_000"), ("hours = 340", "hours = 8760"))


def test_numbers_are_kept_to_the_unit() -> None:
    plan = small_scenario(("energy_price = 0.1\n", "energy_price = 0.100001\n")).runs["plain"]
    assert plan.regions["west"].energy_price == 100_001
    assert plan.hardware["big"].joules_in == 120
    assert plan.market.margin == 100_000
    assert plan.demand["chat"].reference_price == 400_000


def test_a_variant_changes_its_keys_and_no_others() -> None:
    runs = small_scenario().runs
    assert runs["dear"].market.energy_scale == 4000
    assert runs["plain"].market.energy_scale == 1000
    assert runs["dear"].demand == runs["plain"].demand


def test_only_an_unchanged_example_keeps_what_it_says_that_it_shows(tmp_path: Path) -> None:
    example, copy = find_scenario("residency"), tmp_path / "residency.toml"
    copy.write_bytes(example.read_bytes())
    assert load_scenario(copy).shows == load_scenario(example).shows != ""
    for change in ((b"margin = 0.1", b"margin = 0.2"), (b"margin = 0.1", b"margin = 0.10"), (b"\n", b"\r\n")):
        copy.write_bytes(example.read_bytes().replace(*change))
        assert load_scenario(copy).shows == ""


def test_another_seed_drops_the_claim_about_the_files_own() -> None:
    scenario = small_scenario()
    assert scenario.with_seed(None) is scenario
    assert scenario.with_seed(3).shows == "Nothing in particular."
    other = scenario.with_seed(9)
    assert (other.seed, other.shows) == (9, "")
    assert {settings.run.seed for settings in other.runs.values()} == {9}
    with pytest.raises(ConfigurationError, match="seed"):
        scenario.with_seed(2**63)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    for content, message in (
        (b"\xff\xfe", "not UTF-8"),
        (b"#" * ((1 << 20) + 1), "larger than 65536"),
        (b"", "missing"),
    ):
        path = tmp_path / "bad.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=message):
            load_scenario(path)
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_scenario(tmp_path / "absent.toml")
    with pytest.raises(ConfigurationError, match="no scenario file") as failure:
        find_scenario(tmp_path)
    assert "energy-share" in failure.value.hint


@pytest.mark.parametrize("name", bundled_names())
def test_examples_read_and_say_what_they_ask_and_show(name: str) -> None:
    scenario = load_scenario(find_scenario(name))
    assert scenario.title
    assert scenario.about.endswith("?")
    assert scenario.shows.endswith(".")
    assert next(iter(scenario.runs.values())).run.providers == 1000
