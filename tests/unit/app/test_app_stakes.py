"""Stakes are the ledger's word: whom a client asks where its policy wants some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from market_offers import MANIFEST, NOW, VENUE, an_offer, key_of

from node.app.buying.planning import Market
from node.app.buying.request import Request
from node.app.buying.stakes import LOOKS, short_of, stakes_by
from node.app.network.shunned import address_of
from node.config import ClientConfig
from protocol.identity.signing import seal
from protocol.market.offer import Offer
from protocol.routing.shortlist import FIRST
from protocol.settlement import Account

pytestmark = pytest.mark.asyncio


class Accounts:
    """Stands for the ledger: what everybody has, and who was asked after."""

    def __init__(self, bonds: dict[int, int]) -> None:
        self.bonds: dict[bytes, int] = {address_of(key_of(number).public_key): bond for number, bond in bonds.items()}
        self.asked: list[bytes] = []

    async def __call__(self, address: bytes) -> Account:
        self.asked.append(address)
        return Account(free=10**9, bond=self.bonds.get(address, 0), unbonding=10**9)


def market(offers: Sequence[Offer], stake: int) -> Market:
    sealed = [(offer, seal(offer, key_of(0))) for offer in offers]
    config = ClientConfig(data_dir=Path("/nowhere"), min_stake_micro=stake)
    request = Request(prompt=(1, 2, 3))
    return Market(request, config, MANIFEST, sealed, venue=VENUE, clock=lambda: NOW)


def offers(count: int) -> list[Offer]:
    """The cheapest first."""
    return [an_offer(number, model=MANIFEST.root, price_out=1_000 + number) for number in range(1, count + 1)]


async def test_only_those_with_enough_at_stake_are_asked() -> None:
    accounts = Accounts({2: 6, 3: 7, 5: 8})
    asked = await short_of(market(offers(5), 7), FIRST, stakes_by(accounts))
    assert {offer.public_key for offer in asked} == {key_of(number).public_key for number in (3, 5)}
    assert len(accounts.asked) == len(set(accounts.asked)) == 5


async def test_without_a_wish_for_a_stake_nobody_is_looked_up() -> None:
    accounts = Accounts({})
    assert await short_of(market(offers(3), 0), FIRST, stakes_by(accounts))
    assert accounts.asked == []


async def test_many_cheap_offers_without_a_stake_cost_few_questions() -> None:
    accounts = Accounts({})
    found = market(offers(1_000), 1)
    assert await short_of(found, FIRST, stakes_by(accounts)) == []
    assert len(accounts.asked) <= LOOKS * (FIRST + 2)


async def test_what_was_looked_up_is_remembered_for_the_next_shortlist() -> None:
    accounts = Accounts({1: 9})
    found = market(offers(3), 9)
    first = await short_of(found, FIRST, stakes_by(accounts))
    asked = list(accounts.asked)
    assert await short_of(found, 2 * FIRST, stakes_by(accounts)) == first == [offers(3)[0]]
    assert accounts.asked == asked
