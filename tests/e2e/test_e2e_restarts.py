"""A ledger that comes back: nodes find it again, clients find the nodes through it, and the log goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_network import LocalNetwork


@pytest.mark.slow
@pytest.mark.asyncio
async def test_nodes_find_a_restarted_ledger_again(tmp_path: Path, llama: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        url = await network.start_ledger()
        await network.start_nodes(llama, "0:3", "3:6")
        assert (await network.joule("faucet", "1")).status == 0
        first = (await network.joule("run", "hello", "--max-tokens", "8", "--json")).json()
        assert network.ledger is not None
        assert await network.ledger.stop() == 0
        assert await network.start_ledger(port=int(url.rpartition(":")[2])) == url
        offers = await network.joule("offers", "--wait", "40", "--json")
        assert {(offer["span"]["start"], offer["span"]["end"]) for offer in offers.json()} == {(0, 3), (3, 6)}
        done = await network.joule("run", "hello", "--max-tokens", "8", "--json")
        assert done.status == 0, done.err
        assert done.json()["answer"] == first["answer"]
        assert done.json()["balance_before_micro"] == first["balance_after_micro"]
        sound = await network.joule("ledger", "verify", url, "--json")
        assert sound.status == 0
