"""A client that wants providers with something to lose: no offer helps, money at stake on the ledger does."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_network import LocalNetwork

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]

ASK = ("run", "What is it?", "--max-tokens", "4", "--min-stake", "0.5", "--json")


async def test_a_provider_is_used_once_it_has_staked(tmp_path: Path, endless: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger(faucet="5")
        await network.start_nodes(endless, "0:6")
        assert (await network.joule("faucet", "2")).status == 0
        refused = await network.joule(*ASK)
        assert refused.status == 1
        assert "stake" in refused.out
        assert (await network.joule("faucet", "2", name="node0")).status == 0
        assert (await network.joule("stake", "0.5", name="node0")).status == 0
        served = await network.joule(*ASK)
        assert served.status == 0, served
