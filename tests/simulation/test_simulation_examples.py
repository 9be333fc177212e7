"""What the examples and the docs say that they show is what they show.

`tests/support/simulated_figures.py` writes the sentences anew after a change of the rules.
"""

from __future__ import annotations

import pytest
from simulated_figures import DOCS, claim, doc_claim, seen_in_example, stored_figures

from simulator.scenario import bundled_names, find_scenario, load_scenario

NAMES = ["energy-share", "residency"]


def test_every_example_makes_a_claim_that_is_tested() -> None:
    assert bundled_names() == NAMES
    assert sorted(stored_figures()["examples"]) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_shows_what_it_says_and_lies_in_the_range_of_the_docs(name: str) -> None:
    scenario = load_scenario(find_scenario(name))
    seen = seen_in_example(name, scenario.seed)
    assert scenario.shows == claim(name, scenario.seed, seen)
    for key, (low, high) in stored_figures()["examples"][name].items():
        assert low <= seen[key][0] <= seen[key][1] <= high, key


@pytest.mark.parametrize("name", NAMES)
def test_the_docs_give_the_range_over_several_seeds(name: str) -> None:
    assert doc_claim(name, stored_figures()["examples"][name]) in DOCS.read_text(encoding="utf-8")
