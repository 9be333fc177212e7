"""What offers come to: capacity, prices by place and class, and how few hold it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from market_offers import an_offer

from protocol.market.holders import EVEN
from protocol.market.market_figures import concentration, figures_of, market_figures

CLASSES = {"batch": 10_000_000, "metro": 50_000}


@pytest.mark.parametrize(
    ("held", "hhi", "half"),
    [
        ([], None, 0),
        ([0, 0], None, 0),
        ([7], 10_000, 1),
        ([1, 1], 5_000, 1),
        ([1] * 4, 2_500, 2),
        ([1] * 5, 2_000, 3),
        ([60, 20, 20, 0], 4_400, 1),
        ([49, 26, 25], 3_702, 2),
    ],
)
def test_concentration(held: list[int], hhi: int | None, half: int) -> None:
    found = concentration(held)
    assert (found.hhi, found.hold_half, found.holders) == (hhi, half, sum(each > 0 for each in held))


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40))
def test_concentration_is_that_of_exact_shares(held: list[int]) -> None:
    found, total = concentration(held), sum(held)
    if not total:
        assert found.hhi is None
        return
    shares = sorted((Fraction(each, total) for each in held), reverse=True)
    assert found.hhi == int(sum(share * share for share in shares) * 10_000)
    assert sum(shares[: found.hold_half]) >= Fraction(1, 2) > sum(shares[: found.hold_half - 1])


def test_figures_of_a_model() -> None:
    offers = [
        an_offer(1, (0, 2), position_us=1_000),
        an_offer(2, (2, 4), position_us=2_000, price_out=900_000, jurisdiction="DE"),
        an_offer(3, (2, 4), position_us=60_000, sessions=0, jurisdiction="DE"),
    ]
    found = figures_of(offers, CLASSES)
    assert (found.offers, found.operators, found.free_places, found.uncovered) == (3, 3, 16, ())
    assert found.capacity == min(found.supply) == found.supply[2] == 500_000 + 16_666
    assert found.demand[2] > EVEN > found.demand[0]
    germany, france = found.by_place
    assert (germany.name, germany.offers, germany.low_out, germany.median_out) == ("DE", 2, 600_000, 600_000)
    assert (france.low_in, france.low_out) == (200_000, 600_000)
    batch, metro = found.by_class
    assert (batch.offers, metro.offers) == (3, 2)


def test_each_key_counts_by_its_newest_offer_and_each_market_by_itself() -> None:
    old, new = an_offer(1, (0, 2)), an_offer(1, (2, 4), sequence=2)
    (only,) = market_figures([old, new], CLASSES)
    assert (only.offers, only.uncovered) == (1, (0, 1))
    elsewhere = [an_offer(2, venue=b"\x33" * 32), an_offer(3, model=b"\x44" * 32), an_offer(4, model=b"\x44" * 32)]
    assert [each.offers for each in market_figures([old, *elsewhere], CLASSES)] == [2, 1, 1]
    assert market_figures([], CLASSES) == []


def test_one_who_gives_the_model_more_blocks_changes_nothing() -> None:
    honest = [an_offer(number) for number in range(3)]
    assert figures_of([*honest, an_offer(9, (0, 900), blocks=900)], CLASSES) == figures_of(honest, CLASSES)
