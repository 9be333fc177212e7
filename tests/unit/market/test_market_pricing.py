"""From a node's figures to its ask, and jobs below its floor."""

from __future__ import annotations

from typing import Any

import pytest

from node.energy import Pricing, check_floor
from protocol.errors import ConfigurationError, RefusedError
from protocol.messages import Leg
from protocol.tariff import MAX_MARGIN_PPM, MAX_PRICE, FlatTariff


def pricing(**changes: Any) -> Pricing:
    return Pricing(**{"tariff": FlatTariff(100_000), **changes})


def leg(price_in: int, price_out: int) -> Leg:
    return Leg(provider=bytes(20), price_in=price_in, price_out=price_out, cap=1)


def test_energy_overhead_margin_and_capital() -> None:
    quote = pricing(pue_milli=1500, overhead=50_000, margin_ppm=200_000, capital=20_000).quote(10_800)
    assert quote.floor == 450_000 + 50_000
    assert quote.ask == 600_000
    busy = pricing(pue_milli=1500, overhead=50_000, margin_ppm=200_000, capital=20_000)
    assert busy.quote(10_800, utilisation_ppm=500_000).ask == 610_000


def test_no_price_without_energy_or_a_floor() -> None:
    with pytest.raises(ConfigurationError, match="not known") as raised:
        pricing().quote(None)
    assert "--joules-per-token" in raised.value.hint
    assert pricing(least_floor=70_000).quote(None).floor == 70_000


def test_the_higher_floor_counts() -> None:
    assert pricing(least_floor=299_999).quote(10_800).floor == 300_000
    assert pricing(least_floor=300_001).quote(10_800).floor == 300_001


@pytest.mark.parametrize(
    ("field", "most"),
    [("overhead", MAX_PRICE), ("capital", MAX_PRICE), ("margin_ppm", MAX_MARGIN_PPM), ("least_floor", MAX_PRICE)],
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
        pricing(overhead=MAX_PRICE, margin_ppm=1).quote(1_000)


def test_a_job_below_the_floor_is_refused_by_name() -> None:
    check_floor(leg(300_000, 300_000), 300_000)
    for low in (leg(299_999, 300_000), leg(300_000, 299_999)):
        with pytest.raises(RefusedError) as raised:
            check_floor(low, 300_000)
        assert raised.value.code == "below-floor"
        assert "0.299999" in raised.value.message
        assert "0.300000" in raised.value.message
