"""Which nodes a node measures its distance to, and what its offers say of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from market_offers import an_offer, key_of

from node.app.network.neighbours import Neighbours, likely_neighbours
from protocol.errors import UnreachableError
from protocol.identity.ids import BlockSpan
from protocol.market.offer import MAX_ROUND_TRIPS, Offer, RoundTrip
from protocol.reputation.merit import Merit
from protocol.routing.ways import UNKNOWN_RTT_US

OWN = key_of(0).public_key


def nobody_known(_: bytes) -> Merit:
    return Merit.NEWCOMER


def likely(span: tuple[int, int], offers: Sequence[Offer]) -> set[bytes]:
    found = likely_neighbours(OWN, BlockSpan(start=span[0], end=span[1]), offers, nobody_known)
    return {offer.public_key for offer in found}


def test_who_could_come_before_or_after() -> None:
    offers = [an_offer(n, span) for n, span in enumerate([(1, 2), (0, 1), (2, 4), (0, 2), (1, 2), (3, 4), (0, 4)])]
    numbers = {key_of(n).public_key: n for n in range(7)}
    assert {numbers[key] for key in likely((1, 2), offers)} == {1, 2, 3, 6}
    # The last leg sends to the first one.
    assert {numbers[key] for key in likely((2, 4), offers)} == {1, 3, 4, 6}
    assert {numbers[key] for key in likely((0, 1), offers)} == {2, 3, 4, 5, 6}


def test_those_with_merit_first_and_no_more_than_an_offer_holds() -> None:
    offers = [an_offer(n, (1, 4)) for n in range(1, 30)]
    best = key_of(29).public_key
    found = likely_neighbours(
        OWN, BlockSpan(start=0, end=1), offers, lambda key: Merit.PAID if key == best else Merit.NEWCOMER
    )
    assert found[0].public_key == best
    assert len(found) == MAX_ROUND_TRIPS


class Distances:
    """A network in which it is known how far others are."""

    def __init__(self, us: dict[bytes, int]) -> None:
        self.us: dict[bytes, int] | None = us

    async def round_trips(self, offers: Sequence[Offer], *, patience_s: float | None = None) -> dict[bytes, int]:
        if self.us is None:
            raise UnreachableError("the network is gone")
        return {offer.public_key: self.us[offer.public_key] for offer in offers if offer.public_key in self.us}


@pytest.mark.asyncio
async def test_what_was_measured_is_offered_and_the_rest_is_not_made_up() -> None:
    one, two = key_of(1), key_of(2)
    network = Distances({one.public_key: 7_000, two.public_key: UNKNOWN_RTT_US})
    offers = [an_offer(n, (1, 4)) for n in (1, 2, 3)]
    neighbours = Neighbours(OWN, BlockSpan(start=0, end=1), network, lambda: offers, nobody_known)
    assert neighbours() == ()
    await neighbours.look()
    assert neighbours() == (RoundTrip(address=one.address, us=7_000),)
    network.us = None
    await neighbours.look()
    assert neighbours() == (RoundTrip(address=one.address, us=7_000),)
