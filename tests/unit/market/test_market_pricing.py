"""From a node's figures to its floor, its ask and the rates of its offer."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.errors import ConfigurationError
from protocol.pricing import Costs, Pricing, Quote
from protocol.rates import check_rates
from protocol.tariff import MAX_MARGIN_PPM, MAX_PRICE, FlatTariff
from protocol.units import MICRO

COSTS = Costs(millijoules_in=1_080, millijoules_out=10_800, prompt_us=100, position_us=1000)


def pricing(**changes: Any) -> Pricing:
    return Pricing(**{"tariff": FlatTariff(100_000), **changes})


def test_energy_overhead_margin_and_capital() -> None:
    made = pricing(pue_milli=1500, overhead=50_000, margin_ppm=200_000)
    assert made.quote(10_800, capital=0) == Quote(floor=450_000 + 50_000, ask=600_000)
    assert made.quote(10_800, capital=20_000, utilisation_ppm=500_000).ask == 610_000


def test_prompt_and_generated_tokens_are_priced_apart() -> None:
    rates = pricing(capital=20_000, opening=9, late_discount_ppm=5).rates(COSTS, utilisation_ppm=MICRO)
    assert (rates.price_in, rates.price_out) == (30_000 + 2_000, 300_000 + 20_000)
    assert (rates.opening, rates.late_discount_ppm, rates.price_cached) == (9, 5, 3_200)
    check_rates(rates)


@pytest.mark.parametrize("cached_ppm", [0, 1, 999_999, MICRO])
def test_what_is_held_is_never_dearer_than_what_is_computed(cached_ppm: int) -> None:
    rates = pricing(cached_ppm=cached_ppm).rates(COSTS)
    check_rates(rates)
    assert rates.price_cached <= rates.price_in


def test_a_prompt_pays_no_more_for_the_machine_than_an_answer_does() -> None:
    slow = Costs(millijoules_in=1, millijoules_out=1, prompt_us=5000, position_us=1000)
    rates = pricing(capital=20_000).rates(slow, utilisation_ppm=MICRO)
    assert rates.price_in == rates.price_out


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("overhead", MAX_PRICE),
        ("capital", MAX_PRICE),
        ("opening", MAX_PRICE),
        ("margin_ppm", MAX_MARGIN_PPM),
        ("cached_ppm", MICRO),
        ("late_discount_ppm", MICRO),
    ],
)
def test_settings_have_bounds(field: str, most: int) -> None:
    pricing(**{field: most})
    for value in (-1, most + 1):
        with pytest.raises(ConfigurationError, match="outside"):
            pricing(**{field: value})


def test_a_pue_is_at_least_one() -> None:
    pricing(pue_milli=1000)
    with pytest.raises(ConfigurationError, match="PUE"):
        pricing(pue_milli=999)


def test_an_ask_that_no_offer_may_state() -> None:
    with pytest.raises(ConfigurationError, match="beyond"):
        pricing(overhead=MAX_PRICE, margin_ppm=1).quote(1_000, capital=0)
