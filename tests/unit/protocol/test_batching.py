"""What hours are expected to cost, and when work that can wait begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_offers import an_energy_claim, an_offer
from small_market import MANIFEST

from protocol.identity.ids import ModelFile
from protocol.market.batching import HOUR_S, Expected, expected_prices, petaflop_day, start, weights_of


def at(*costs: int | None) -> list[Expected | None]:
    return [None if cost is None else Expected(price=cost, carbon=None, cost=cost) for cost in costs]


def test_the_cheapest_of_each_block_and_hour_counts() -> None:
    offers = [
        an_offer(1, (0, 2), price_out=200, forecast=(100, 50)),
        an_offer(2, (2, 4), price_out=400),
        an_offer(3, (2, 4), price_out=300, forecast=(500,)),
    ]
    found = expected_prices(offers, 4, hours=3)
    assert [each and each.price for each in found] == [500, 500, 450, 450]


def test_a_gap_has_no_price() -> None:
    assert expected_prices([an_offer(1, (0, 2))], 4, hours=1) == [None, None]
    assert expected_prices([], 4, hours=0) == [None]
    assert expected_prices([an_offer(1, (0, 9), blocks=9)], 4, hours=0) == [None]


def test_carbon_counts_as_a_cost_where_it_is_said() -> None:
    dirty = an_offer(
        1, price_out=1_000, energy=an_energy_claim(millijoules_out=3_600_000, pue_milli=1000, carbon_g_per_kwh=500)
    )
    clean = an_offer(
        2, price_out=2_000, energy=an_energy_claim(millijoules_out=3_600_000, pue_milli=1000, carbon_g_per_kwh=0)
    )
    silent = an_offer(3, price_out=1)
    (cheap,) = expected_prices([dirty, clean], 4, hours=0)
    assert cheap is not None
    assert (cheap.price, cheap.carbon, cheap.cost) == (1_000, 500_000, 1_000)
    (weighed,) = expected_prices([dirty, clean, silent], 4, hours=0, carbon_micro_per_ton=100_000_000)
    assert weighed is not None
    assert (weighed.price, weighed.carbon) == (2_000, 0)
    (unknown,) = expected_prices([silent], 4, hours=0)
    assert unknown is not None
    assert unknown.carbon is None


@pytest.mark.parametrize(
    ("costs", "left_h", "needed_s", "hour", "late"),
    [
        ((100, 90, 80, 95), 6, 60, 2, False),
        ((100, 90, 80, 95), 2, 60, 1, False),
        ((100, 90, 80, 95), 1, 60, 0, True),
        ((100, 100, 100), 6, 60, 0, False),
        ((100, 99.5, 100), 6, 60, 0, False),
        ((100, 99, 98, 98), 6, 60, 2, False),
        ((None, 90, 80), 6, 60, 2, False),
        ((None, None), 6, 60, 0, False),
        ((100, None, 50), 6, 60, 2, False),
        ((100, 50), 6, 6 * HOUR_S, 0, True),
        ((100, 50), 0, 60, 0, True),
        ((50, 100), 0, 60, 0, False),
    ],
)
def test_when_to_begin(costs: tuple[int | None, ...], left_h: int, needed_s: int, hour: int, late: bool) -> None:
    expected = at(*(None if each is None else int(each * 10) for each in costs))
    found = start(expected, left_s=left_h * HOUR_S, needed_s=needed_s)
    assert (found.hour, found.late) == (hour, late)


@given(
    costs=st.lists(st.none() | st.integers(0, 10**12), max_size=49),
    left_s=st.integers(-HOUR_S, 48 * HOUR_S),
    needed_s=st.integers(0, 48 * HOUR_S),
)
def test_it_never_begins_too_late(costs: list[int | None], left_s: int, needed_s: int) -> None:
    found = start(at(*costs), left_s=left_s, needed_s=needed_s)
    assert found.hour == 0 or found.hour * HOUR_S <= left_s - needed_s
    if found.hour:
        assert found.then is not None
        assert found.now is None or found.then.cost < found.now.cost


def test_a_petaflop_day() -> None:
    """$0.30 per million tokens of 8 * 10^9 weights: 10^15 operations are 62,500 tokens, and a day has 5.4 * 10^9."""
    assert petaflop_day(300_000, 8 * 10**9) == 1_620_000_000
    assert petaflop_day(300_000, 0) is None
    weights = (
        ModelFile(name="a.safetensors", size=10, sha256=bytes(32), chunks=bytes(32)),
        ModelFile(name="b", size=9, sha256=bytes(32), chunks=bytes(32)),
    )
    assert weights_of(MANIFEST.replace(files=weights)) == 5


def test_a_clean_hour_to_come_counts_where_it_is_forecast() -> None:
    claim = an_energy_claim(millijoules_out=3_600_000, pue_milli=1000, carbon_g_per_kwh=500)
    offer = an_offer(1, price_out=1_000, energy=claim, carbon_forecast=(400, 0))
    hours = expected_prices([offer], 4, hours=3, carbon_micro_per_ton=100_000_000)
    assert [None if each is None else each.carbon for each in hours] == [500_000, 400_000, 0, 0]
    assert start(hours, left_s=6 * HOUR_S, needed_s=0).hour == 2
    unweighed = expected_prices([offer], 4, hours=3)
    assert start(unweighed, left_s=6 * HOUR_S, needed_s=0).hour == 0
    silent = offer.replace(carbon_forecast=())
    stays = expected_prices([silent], 4, hours=1, carbon_micro_per_ton=100_000_000)
    assert [None if each is None else each.carbon for each in stays] == [500_000, 500_000]
