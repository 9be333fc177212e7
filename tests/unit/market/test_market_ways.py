"""Distances between providers: what they say of one another, within what the client measured itself."""

from __future__ import annotations

import pytest
from market_offers import an_offer, key_of

from protocol.market.offer import Offer, RoundTrip
from protocol.routing.columns import Columns
from protocol.routing.ways import MOST_MEASURED, ONE_REGION, UNKNOWN_RTT_US, Regions, measured_ways, ways_by_region

RTT = {0: 20_000, 1: 30_000, 2: 24_000, 3: 26_000}


def to(*trips: tuple[int, int]) -> tuple[RoundTrip, ...]:
    return tuple(RoundTrip(address=key_of(number).address, us=us) for number, us in trips)


def hop(offers: list[Offer], left: int, right: int, rtt: dict[int, int] = RTT) -> int:
    """One way between two providers, as the router counts it."""
    rtt_us = {key_of(number).public_key: us for number, us in rtt.items()}
    columns = Columns(offers)
    ways = ways_by_region(columns, rtt_us, measured_ways(offers, rtt_us))
    here, there = (
        next(columns.row(each) for each in offers if each.public_key == key_of(n).public_key) for n in (left, right)
    )
    between = ways.between_us[ways.region[here], ways.region[there]]
    return int(ways.access_us[here] + between + ways.access_us[there])


def test_without_a_word_of_theirs_the_way_is_by_the_client() -> None:
    offers = [an_offer(n) for n in range(4)]
    assert measured_ways(offers, {}) is ONE_REGION
    assert hop(offers, 0, 1) == 10_000 + 15_000


def test_what_two_measured_counts_and_the_longer_of_two_words() -> None:
    offers = [an_offer(0, round_trips=to((1, 16_000))), an_offer(1), an_offer(2), an_offer(3)]
    assert hop(offers, 0, 1) == hop(offers, 1, 0) == 8_000
    assert hop(offers, 0, 2) == 10_000 + 12_000
    both = [an_offer(0, round_trips=to((1, 16_000))), an_offer(1, round_trips=to((0, 18_001)))]
    assert hop(both, 0, 1) == 9_001


@pytest.mark.parametrize(
    ("said", "counts"), [(0, 5_000), (9_998, 5_000), (10_002, 5_001), (49_000, 24_500), (60_000, 25_000)]
)
def test_nobody_is_nearer_or_farther_than_the_clients_own_round_trips_admit(said: int, counts: int) -> None:
    offers = [an_offer(0, round_trips=to((1, said))), an_offer(1)]
    assert hop(offers, 0, 1) == counts


def test_others_in_the_same_two_places_are_taken_for_as_far() -> None:
    offers = [
        an_offer(0, round_trips=to((1, 16_000))),
        an_offer(1, jurisdiction="DE"),
        an_offer(2, round_trips=to((9, 1))),
        an_offer(3, jurisdiction="DE", round_trips=to((2, 40_000))),
    ]
    assert hop(offers, 2, 3) == 20_000
    offers[3] = offers[3].replace(round_trips=to((0, 30_000)))
    assert hop(offers, 2, 3) == 12_000 + 13_000
    assert hop(offers, 1, 2) == 15_000 + 12_000


def test_hyper_nodes_of_other_places_are_not_taken_for_as_far() -> None:
    offers = [
        an_offer(0, round_trips=to((1, 11_000), (3, 12_000))),
        an_offer(1),
        an_offer(2, places=("US",), round_trips=to((3, 44_000))),
        an_offer(3),
    ]
    assert hop(offers, 0, 2) == 10_000 + 12_000
    assert hop(offers, 1, 2) == 22_000


def test_who_was_not_measured_bounds_nothing() -> None:
    offers = [an_offer(0, round_trips=to((1, 16_000))), an_offer(1)]
    assert hop(offers, 0, 1, {0: 20_000, 1: UNKNOWN_RTT_US}) == 10_000 + UNKNOWN_RTT_US // 2


def test_only_so_many_are_told_apart() -> None:
    numbers = range(1, MOST_MEASURED + 10)
    offers = [an_offer(0, round_trips=to(*((number, 9_000) for number in numbers[:16])))]
    offers += [an_offer(number, round_trips=to((0, 9_000))) for number in numbers]
    rtt_us = {offer.public_key: 10_000 for offer in offers}
    regions = measured_ways(offers, rtt_us)
    assert len(regions.one_way_us) == MOST_MEASURED + 1
    assert Regions(regions.of, regions.one_way_us, regions.known) == regions
