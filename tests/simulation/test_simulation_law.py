"""The law of a demand class: countries and groups as a node's policy reads them, made-up places as words."""

from __future__ import annotations

import pytest
from small_economy import small_scenario, small_settings

from protocol.errors import ConfigurationError
from protocol.jurisdictions import COUNTRIES, GROUPS, UNDECLARED
from simulator.demand import draw_classes
from simulator.law import check_list, check_place, may_serve
from simulator.population import draw_population


@pytest.mark.parametrize(
    ("allow", "deny", "place", "served"),
    [
        ((), (), "DE", True),
        (("DE",), (), "DE", True),
        (("FR",), (), "DE", False),
        (("EU",), (), "DE", True),
        (("EU",), (), "NO", False),
        (("EEA",), (), "NO", True),
        (("EU", "CH"), (), "CH", True),
        ((), ("EU",), "DE", False),
        ((), ("EU",), "NO", True),
        (("EU",), ("DE",), "DE", False),
        (("EU",), ("DE",), "FR", True),
        (("north-land",), (), "north-land", True),
        (("north-land",), (), "north-lan", False),
        (("EU",), (), "north-land", False),
        ((), ("EU",), "north-land", True),
        ((), ("north-land-east",), "north-land", True),
        (("EU",), (), "DE-BE", True),
        (("DE-BE",), (), "DE-BE", True),
        (("DE-BE",), (), "DE-BY", False),
        (("DE-BE",), (), "DE", False),
        ((), ("DE-BE",), "DE-BY", True),
        ((), ("DE-BE",), "DE", False),
        ((), (), UNDECLARED, True),
        (("EU",), (), UNDECLARED, False),
        ((), ("US",), UNDECLARED, False),
    ],
)
def test_groups_hold_their_countries_and_names_only_themselves(
    allow: tuple[str, ...], deny: tuple[str, ...], place: str, served: bool
) -> None:
    assert may_serve(allow, deny, place) is served


def test_machines_stand_in_countries_and_made_up_places() -> None:
    for place in (*COUNTRIES, "DE-BE", "US-CA", UNDECLARED, "north-land", "eu-west", "Mars", "zone 7"):
        check_place(place, "region.x.jurisdiction")


@pytest.mark.parametrize("place", ["", *GROUPS, "XX", "UK", "de", "eu", "USA", "EU-1", "ZY"])
def test_no_machine_stands_where_a_code_names_nothing_or_many(place: str) -> None:
    with pytest.raises(ConfigurationError, match=r"region\.x\.jurisdiction"):
        check_place(place, "region.x.jurisdiction")


@pytest.mark.parametrize("code", ["XX", "UK", "de", "Eu", "EUR", "XX-1", UNDECLARED])
def test_lists_name_no_unknown_code(code: str) -> None:
    with pytest.raises(ConfigurationError, match="not a known code"):
        check_list([code], ["DE", "NO"], "demand.x")


def test_lists_name_only_where_some_region_is() -> None:
    check_list(["EU", "DE", "DE-BE", "NO", "EEA", "moon"], ["DE", "NO", "moon"], "demand.x")
    for code in ("FR", "EU", "DE-BE", "north-land"):
        with pytest.raises(ConfigurationError, match="where no region is"):
            check_list([code], ["NO", "moon"], "demand.x")


def test_a_class_that_must_stay_in_a_group_is_served_by_its_countries_alone() -> None:
    plan = small_settings(('allow = ["NO"]', 'allow = ["EEA"]'), ('jurisdiction = "US"', 'jurisdiction = "DE"'))
    population = draw_population(plan)
    lawful = draw_classes(plan, population).lawful[list(plan.demand).index("lawful")]
    places = [region.jurisdiction for region in plan.regions.values()]
    assert [places[region] for region in population.region[lawful]] == [
        place for place in (places[region] for region in population.region) if place in {"DE", "NO"}
    ]
    assert 0 < lawful.sum() < len(population)


def test_a_variants_law_is_checked_too() -> None:
    with pytest.raises(ConfigurationError, match=r"variant\.dear: demand\.chat names 'UK'"):
        small_scenario(("[variant.dear.market]\nenergy_scale = 4", '[variant.dear.demand.chat]\ndeny = ["UK"]'))
