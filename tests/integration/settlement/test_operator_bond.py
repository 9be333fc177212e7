"""A client that asks what a ledger's operator has at stake: on the ledger itself, and on a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from anvil_chain import why_no_anvil
from chain_venue import ChainMarket
from ledger_world import (
    CLIENT,
    MILLION,
    OPERATOR,
    STRANGER,
    HandClock,
    checkpoint_of,
    equivocation,
    ledger_settings,
    stake,
    unstake,
)

from node.app.settlement.bonded import require_operator_bond
from node.app.settlement.venue import open_venue
from node.config import ClientConfig
from node.ledger import LedgerClient, run_ledger
from node.settings import load
from protocol.errors import ConfigurationError, UnbondedError
from protocol.identity.ids import checksum_address


async def asked(folder: Path, ledger: str, **flags: Any) -> None:
    """What a client does before it opens a session there."""
    config = load(ClientConfig, flags={"ledger": ledger, "data_dir": str(folder / "client"), **flags})
    async with open_venue(config) as venue:
        await require_operator_bond(config, venue)


@pytest.mark.asyncio
async def test_a_bond_on_the_ledger_itself(tmp_path: Path) -> None:
    async with run_ledger(ledger_settings(tmp_path / "ledger"), OPERATOR, HandClock()) as ledger:
        await asked(tmp_path, ledger.url)  # who asks for none is not kept from anything
        with pytest.raises(UnbondedError, match=r"has 0\.000000 at stake .* ask for 0\.000001") as none:
            await asked(tmp_path, ledger.url, min_operator_bond="0.000001")
        assert none.value.code == "unbonded"
        assert checksum_address(OPERATOR.address) in none.value.message
        async with LedgerClient(ledger.url) as client:
            await client.faucet(OPERATOR.address, 10 * MILLION)
            await client.submit(stake(2 * MILLION), OPERATOR)
            await asked(tmp_path, ledger.url, min_operator_bond="2")
            await client.submit(unstake(1), OPERATOR)
        with pytest.raises(UnbondedError, match=r"has 1\.999999"):  # what is on its way out does not count
            await asked(tmp_path, ledger.url, min_operator_bond="2")


@pytest.mark.asyncio
async def test_a_bond_that_a_lie_has_cost_and_another_operators_bond_are_none(tmp_path: Path) -> None:
    """The ledger that is asked of has a bonded operator elsewhere; there somebody shows what it has signed."""
    home, place = ledger_settings(tmp_path / "ledger"), ledger_settings(tmp_path / "place")
    async with run_ledger(home, OPERATOR, HandClock()) as ledger, run_ledger(place, STRANGER, HandClock()) as other:
        wanted = {"min_operator_bond": "2", "operator_bond_at": other.url}
        async with LedgerClient(ledger.url) as at_home, LedgerClient(other.url) as client:
            for key in (OPERATOR, STRANGER, CLIENT):
                await client.faucet(key.address, 10 * MILLION)
            await client.submit(stake(5 * MILLION), STRANGER)
            with pytest.raises(UnbondedError, match=r"has 0\.000000"):
                await asked(tmp_path, ledger.url, **wanted)
            await client.submit(stake(2 * MILLION), OPERATOR)
            await asked(tmp_path, ledger.url, **wanted)
            await at_home.connect()
            pair = [checkpoint_of(at_home.domain, OPERATOR, **said) for said in ({}, {"root": bytes(32)})]
            await client.submit(equivocation(at_home.domain, *pair), CLIENT)
            with pytest.raises(UnbondedError, match=r"has 0\.000000"):
                await asked(tmp_path, ledger.url, **wanted)


@pytest.mark.asyncio
@pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil())
async def test_a_bond_on_a_chain(market: ChainMarket, tmp_path: Path) -> None:
    place = str(market.address)
    async with run_ledger(ledger_settings(tmp_path / "ledger"), OPERATOR, HandClock()) as ledger:
        async with LedgerClient(ledger.url) as client:
            await client.faucet(OPERATOR.address, 10 * MILLION)
            await client.submit(stake(5 * MILLION), OPERATOR)
        wanted = {"min_operator_bond": "3", "operator_bond_at": place, "confirmations": "0"}
        with pytest.raises(UnbondedError, match=r"has 0\.000000 at stake at evm:"):  # it lies elsewhere
            await asked(tmp_path, ledger.url, **wanted)
        market.endow(OPERATOR, 3 * MILLION)
        market.token.send(OPERATOR.address, "approve", market.settlement.address, 3 * MILLION)
        for name in ("deposit", "stake"):
            assert market.settlement.send(OPERATOR.address, name, 3 * MILLION)["status"] == "0x1"
        await asked(tmp_path, ledger.url, **wanted)
        with pytest.raises(UnbondedError):
            await asked(tmp_path, ledger.url, **{**wanted, "min_operator_bond": "3.000001"})
    with pytest.raises(ConfigurationError, match="min_operator_bond"):
        await asked(tmp_path, place, min_operator_bond="1")
