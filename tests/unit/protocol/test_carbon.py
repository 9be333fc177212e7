"""Carbon as a cost of the client's: by fractions, at the bounds, and for who does not say."""

from __future__ import annotations

import math
from fractions import Fraction

from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st
from market_offers import an_energy_claim, an_offer

from protocol.energy.tariff import MAX_CARBON_G_PER_KWH, MAX_CARBON_PRICE, MAX_MILLIJOULES_PER_TOKEN, MAX_PUE_MILLI
from protocol.market.carbon import MAX_COUNTED, carbon_extra, carbon_extras

HUNDRED = 100_000_000
"""Micro-units per tonne."""


@settings(max_examples=at_length(50))
@given(
    st.integers(1, MAX_MILLIJOULES_PER_TOKEN),
    st.integers(1000, MAX_PUE_MILLI),
    st.integers(0, MAX_CARBON_G_PER_KWH),
    st.integers(0, MAX_CARBON_PRICE),
)
def test_it_is_energy_times_intensity_times_price(joules: int, pue: int, grams: int, price: int) -> None:
    claim = an_energy_claim(pue_milli=pue, carbon_g_per_kwh=grams)
    exact = Fraction(joules * pue, 3600 * 1000) * math.ceil(Fraction(grams * price, 10**6))
    assert carbon_extra(joules, claim, price) == min(MAX_COUNTED, math.ceil(exact))


def test_a_worked_example() -> None:
    """1 J a token is 0.2778 kWh a million; at 500 g and $100 a tonne that is 1.39 cents."""
    claim = an_energy_claim(pue_milli=1000, carbon_g_per_kwh=500)
    assert carbon_extra(1000, claim, HUNDRED) == 13_889


def test_who_does_not_say_counts_as_twice_the_dirtiest_block() -> None:
    said = an_energy_claim(millijoules_in=1000, millijoules_out=2000, pue_milli=1000, carbon_g_per_kwh=500)
    clean = an_energy_claim(millijoules_in=1000, millijoules_out=2000, pue_milli=1000, carbon_g_per_kwh=0)
    mute = an_energy_claim(carbon_g_per_kwh=None)
    offers = [
        an_offer(1, (0, 2), energy=said), an_offer(2, energy=clean), an_offer(3, (0, 4), energy=mute),
        an_offer(4, (0, 1), energy=None),
    ]  # fmt: skip
    dirty, none, unsaid, unknown = carbon_extras(offers, HUNDRED)
    assert dirty == (13_889, 27_778)
    assert none == (0, 0)
    assert unsaid == (2 * 4 * 6_945, 2 * 4 * 13_889)
    assert unknown == (2 * 6_945, 2 * 13_889)


def test_where_nobody_says_or_carbon_costs_nothing_nothing_counts() -> None:
    mute = an_offer(1, energy=None)
    assert carbon_extras([mute], HUNDRED) == [(0, 0)]
    said = an_offer(2, energy=an_energy_claim(carbon_g_per_kwh=500))
    assert carbon_extras([said, mute], 0) == [(0, 0), (0, 0)]
    assert carbon_extras([], HUNDRED) == []
