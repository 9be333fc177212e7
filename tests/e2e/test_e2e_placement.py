"""Nodes that let the market choose their blocks: they cover a model by themselves, and close a gap that opens."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from local_network import LocalNetwork

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.asyncio]

AUTO = ("--max-blocks", "2", "--rebalance", "5")


async def test_nodes_cover_a_model_and_close_the_gap_that_one_leaves(tmp_path: Path, llama: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        await network.start_nodes(llama, "0:2")
        held = {}
        for name in ("one", "two", "three"):
            node = await network.start_node(name, llama, "auto", *AUTO)
            held[name] = (await node.event("node ready"))["blocks"]
        assert {"2:4", "4:6"} == {held["one"], held["two"]}
        assert (await network.joule("faucet", "2")).status == 0
        ask = ("run", "Hello", "--max-tokens", "4", "--json")
        assert (await network.joule(*ask)).status == 0

        alone = next(name for name in ("one", "two") if held[name] != held["three"])
        gap = held[alone]
        await network.nodes[alone].stop()
        left = [network.nodes[name] for name in held if name != alone]
        waiting = [asyncio.create_task(node.event("node ready", blocks=gap)) for node in left]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        served = await network.joule(*ask)
        assert served.status == 0, served
        legs = json.loads(served.out)["legs"]
        assert [leg["blocks"] for leg in legs] == ["0:2", "2:4", "4:6"]
