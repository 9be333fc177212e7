"""A chain with a contract where a client has money, as it was before each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anvil_chain import Chain, running_chain
from chain_venue import ChainMarket, make_market
from ledger_world import CLIENT, MILLION, NOW, PROVIDERS, STRANGER

GRACE_S = 60
MONEY = 20 * MILLION


@pytest.fixture(scope="session")
def _market() -> Iterator[ChainMarket]:
    with running_chain() as chain:
        chain.ask("evm_mine", {"timestamp": NOW - 60})
        market = make_market(chain, grace_s=GRACE_S)
        for key in (CLIENT, STRANGER, *PROVIDERS):
            market.endow(key, MONEY if key is CLIENT else 0)
        settlement = market.settlement
        market.token.send(CLIENT.address, "approve", settlement.address, MONEY)
        settlement.send(CLIENT.address, "deposit", MONEY)
        yield market


@pytest.fixture
def market(_market: ChainMarket) -> Iterator[ChainMarket]:
    before = _market.chain.ask("evm_snapshot")
    yield _market
    _market.chain.ask("evm_setAutomine", True)
    _market.chain.ask("anvil_dropAllTransactions")
    _market.chain.ask("evm_revert", before)
    _market.chain.ask("anvil_setNextBlockBaseFeePerGas", "0x0")  # which a revert leaves as it is


@pytest.fixture
def chain(market: ChainMarket) -> Chain:
    return market.chain
