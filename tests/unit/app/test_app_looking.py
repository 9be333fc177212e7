"""Nodes that say nothing cost little: the best are looked at first, and more only where these make no route."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from market_offers import MANIFEST, NOW, VENUE, an_offer, key_of

from node.app.buying.looking import look
from node.app.buying.planning import CHANCES, Market
from node.app.buying.request import Request
from node.config import ClientConfig
from protocol.identity.signing import seal
from protocol.market.offer import Offer
from protocol.reputation.merit import Merit
from protocol.routing.routes import NoRouteError
from protocol.routing.shortlist import FIRST

pytestmark = pytest.mark.asyncio

ROOT = MANIFEST.root


class Road:
    """Stands for the network: who answers, and who was asked."""

    def __init__(self, *answering: int, late: Sequence[int] = ()) -> None:
        self.answering = {key_of(number).public_key for number in answering}
        self.late = {key_of(number).public_key for number in late}
        self.asked: list[list[bytes]] = []

    async def round_trips(
        self,
        offers: Sequence[Offer],
        *,
        patience_s: float | None = None,
        enough: Callable[[Mapping[bytes, int]], bool] | None = None,
    ) -> dict[bytes, int]:
        assert patience_s is not None
        self.asked.append([offer.public_key for offer in offers])
        there = self.answering | (self.late if patience_s > 3 else set())
        answered: dict[bytes, int] = {}
        for key in self.asked[-1]:
            if key in there and not (enough is not None and enough(answered)):
                answered[key] = 500
        return answered


async def no_stakes(_nodes: Sequence[bytes]) -> dict[bytes, int]:
    raise AssertionError("nobody wants a stake here")


def market(offers: list[Offer], paid: Sequence[int] = (), standbys: int = 0) -> Market:
    sealed = [(offer, seal(offer, key_of(0))) for offer in offers]
    known = {key_of(number).public_key for number in paid}
    config = ClientConfig(data_dir=Path("/nowhere"), standbys=standbys)
    return Market(
        Request(prompt=(1, 2, 3)), config, MANIFEST, sealed, venue=VENUE, clock=lambda: NOW,
        merit=lambda key: Merit.PAID if key in known else Merit.NEWCOMER,
    )  # fmt: skip


def here(number: int, price: int = 0) -> Offer:
    return an_offer(number, model=ROOT, price_out=1000 + number if price == 0 else price)


async def test_known_providers_are_looked_at_first_beside_a_few_others() -> None:
    sybils = [here(number) for number in range(100)]
    asked = market([*sybils, here(200, 10**6), here(201, 10**6)], paid=[200, 201])
    road = Road(200)
    await look(asked, road, no_stakes)
    assert [leg.offer.public_key for leg in asked.route().legs] == [key_of(200).public_key]
    (once,) = road.asked
    assert {key_of(200).public_key, key_of(201).public_key} < set(once)
    assert len(once) <= FIRST + CHANCES


async def test_where_the_first_do_not_answer_more_are_looked_at_and_never_all() -> None:
    offers = [here(number) for number in range(250)]
    road = Road(40)
    asked = market(offers)
    await look(asked, road, no_stakes)
    assert [len(each) for each in road.asked] == [8, 16, 32]
    assert asked.route().legs[0].offer == offers[40]
    nobody = Road()
    alone = market(offers)
    await look(alone, nobody, no_stakes)
    assert [len(each) for each in nobody.asked] == [8, 16, 32, 56]
    with pytest.raises(NoRouteError):
        alone.route()


async def test_one_that_is_only_slow_is_used_where_there_is_no_other() -> None:
    asked = market([here(0), here(1)])
    road = Road(late=[1])
    await look(asked, road, no_stakes)
    assert asked.route().legs[0].offer == here(1)


async def test_where_standbys_are_wanted_nodes_that_could_be_are_waited_for() -> None:
    for standbys, answered in ((0, 1), (1, 2)):
        asked = market([here(number) for number in range(4)], standbys=standbys)
        await look(asked, Road(*range(4)), no_stakes)
        assert len(asked._round_trips) == answered
    alone = market([here(0), here(1)], standbys=1)
    road = Road(0)
    await look(alone, road, no_stakes)
    assert len(road.asked) == 1, "a route is there: nobody else is looked for"
    assert alone.route().legs[0].offer == here(0)
