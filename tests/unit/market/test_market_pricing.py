"""From a node's figures to its floor, its ask and the rates of its offer."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.energy.tariff import MAX_CARBON_PRICE, MAX_HARDWARE_PRICE, MAX_MARGIN_PPM, MAX_PRICE, MAX_TARIFF
from protocol.errors import ConfigurationError
from protocol.market.pricing import Comparable, Costs, MarginPolicy, Pricing, Quote, Supply, median_of
from protocol.market.rates import check_rates
from protocol.units import MICRO

COSTS = Costs(millijoules_in=1_080, millijoules_out=10_800, prompt_us=100, position_us=1000)


SUPPLY = Supply(100_000)


def pricing(**changes: Any) -> Pricing:
    return Pricing(**changes)


def test_energy_overhead_margin_and_capital() -> None:
    made, site = pricing(overhead=50_000, margin_ppm=200_000), Supply(100_000, 1500)
    assert made.quote(site, 10_800, capital=0) == Quote(floor=450_000 + 50_000, sustain=500_000, ask=600_000)
    assert made.quote(site, 10_800, capital=20_000, utilisation_ppm=500_000).ask == 610_000


def test_prompt_and_generated_tokens_are_priced_apart() -> None:
    rates = pricing(capital=20_000, opening=9, late_discount_ppm=5).rates(SUPPLY, COSTS, utilisation_ppm=MICRO)
    assert (rates.price_in, rates.price_out) == (30_000 + 2_000, 300_000 + 20_000)
    assert (rates.opening, rates.late_discount_ppm, rates.price_cached) == (9, 5, 3_200)
    check_rates(rates)


@pytest.mark.parametrize("cached_ppm", [0, 1, 999_999, MICRO])
def test_what_is_held_is_never_dearer_than_what_is_computed(cached_ppm: int) -> None:
    rates = pricing(cached_ppm=cached_ppm).rates(SUPPLY, COSTS)
    check_rates(rates)
    assert rates.price_cached <= rates.price_in


def test_a_prompt_pays_no_more_for_the_machine_than_an_answer_does() -> None:
    slow = Costs(millijoules_in=1, millijoules_out=1, prompt_us=5000, position_us=1000)
    rates = pricing(capital=20_000).rates(SUPPLY, slow, utilisation_ppm=MICRO)
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
        ("undercut_ppm", MICRO),
        ("hardware", MAX_HARDWARE_PRICE),
        ("carbon", MAX_CARBON_PRICE),
    ],
)
def test_settings_have_bounds(field: str, most: int) -> None:
    pricing(**{field: most})
    for value in (-1, most + 1):
        with pytest.raises(ConfigurationError, match="outside"):
            pricing(**{field: value})


@pytest.mark.parametrize(
    ("good", "bad", "what"),
    [
        ((MAX_TARIFF,), (MAX_TARIFF + 1,), "per kWh"),
        ((-MAX_TARIFF,), (-MAX_TARIFF - 1,), "per kWh"),
        ((0, 1000), (0, 999), "PUE"),
        ((0, 10_000), (0, 10_001), "PUE"),
        ((0, 1000, 0), (0, 1000, -1), "CO2"),
        ((0, 1000, 10_000), (0, 1000, 10_001), "CO2"),
    ],
)
def test_a_supply_has_bounds(good: tuple[int, ...], bad: tuple[int, ...], what: str) -> None:
    Supply(*good)
    with pytest.raises(ConfigurationError, match=what):
        Supply(*bad)


def test_an_ask_that_no_offer_may_state() -> None:
    with pytest.raises(ConfigurationError, match="beyond"):
        pricing(overhead=MAX_PRICE, margin_ppm=1).quote(SUPPLY, 1_000, capital=0)


def test_the_published_figures_to_the_unit() -> None:
    """10.8 J a token, and what a million queries of a thousand tokens come to at a tenth of a dollar."""
    figures = {
        (price, pue): Pricing().quote(Supply(price, pue), 10_800, capital=0).floor
        for price, pue in ((100_000, 1000), (100_000, 1100), (100_000, 1500), (30_000, 1000), (250_000, 1000))
    }
    assert list(figures.values()) == [300_000, 330_000, 450_000, 90_000, 750_000]
    queries, watt_hours = 1_000_000, 3
    assert queries * watt_hours // 1000 == 3_000, "kWh a day"
    million_tokens = queries * 1_000 // 1_000_000
    assert million_tokens * figures[100_000, 1000] == 300 * MICRO, "$300 a day"


def test_an_idle_machine_asks_its_floor_by_utilisation_and_a_busy_one_the_margin() -> None:
    made = pricing(margin_ppm=500_000, policy=MarginPolicy.UTILISATION)
    asks = [made.quote(SUPPLY, 10_800, capital=10_000, utilisation_ppm=use).ask for use in (0, 500_000, MICRO)]
    assert asks == [300_000, 300_000 + 75_000 + 5_000, 300_000 + 150_000 + 10_000]


def test_who_follows_the_book_asks_just_below_the_median_and_never_below_the_floor() -> None:
    made = pricing(margin_ppm=200_000, policy=MarginPolicy.BOOK, undercut_ppm=10_000)
    asked = {median: made.quote(SUPPLY, 10_800, capital=0, median=median).ask for median in (None, 400_001, 200_000)}
    assert asked == {None: 360_000, 400_001: 396_000, 200_000: 300_000}
    rates = made.rates(SUPPLY, COSTS, others=Comparable(price_in=100_000, price_out=500_000))
    assert (rates.price_in, rates.price_out) == (99_000, 495_000)
    assert pricing().rates(SUPPLY, COSTS, others=Comparable(1, 1)).price_out == 300_000, (
        "a fixed margin looks at nobody"
    )


def test_a_median_is_one_of_the_values() -> None:
    assert [median_of(values) for values in ([], [7], [9, 1], [3, 1, 2])] == [None, 7, 1, 2]


def test_carbon_has_a_price_where_the_operator_says_so() -> None:
    made = pricing(carbon=100 * MICRO)
    assert made.quote(Supply(100_000, 1000, 500), 10_800, capital=0).floor == 450_000, "half a kilo at $0.10"
    assert pricing().quote(Supply(100_000, 1000, 500), 10_800, capital=0).floor == 300_000
    with pytest.raises(ConfigurationError, match="not known"):
        made.quote(Supply(100_000), 10_800, capital=0)


def test_hardware_is_paid_by_the_time_that_it_is_used() -> None:
    """$3.60 an hour are $1 for 1,000 s, which a million tokens of 1 ms take; used half of the time, twice that."""
    made = pricing(hardware=3_600_000, target_ppm=500_000)
    prompt, generated = made.quotes(SUPPLY, COSTS)
    assert generated.sustain - generated.floor == 2 * MICRO
    assert prompt.sustain - prompt.floor == 200_000
    assert generated.ask == generated.floor, "of which an idle machine asks nothing"


def test_paid_consumption_does_not_lower_the_floor_below_overhead() -> None:
    made = pricing(overhead=7_000)
    assert made.quote(Supply(-100_000), 10_800, capital=0).floor == 7_000
