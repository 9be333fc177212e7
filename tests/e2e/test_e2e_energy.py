"""Nodes with a plug before them: real processes, a real HTTP meter, and `joule energy` while they run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from local_network import Finished, LocalNetwork
from plug_server import Plug, plugs

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]

WATTS = 140.0


async def until(network: LocalNetwork, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first report of a node that is as wanted."""
    watching = await network.spawn("energy", "--watch", "--json", name=name)
    try:
        async with asyncio.timeout(90):
            while line := await watching.stdout.readline():
                report: dict[str, Any] = json.loads(line)
                if wanted(report):
                    return report
    finally:
        watching.kill()
        await watching.wait()
    raise AssertionError("joule energy --watch has ended")


@pytest.mark.long
async def test_two_nodes_behind_one_plug(tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with plugs(Plug(watts=WATTS)) as plug, LocalNetwork(tmp_path) as network:
        meter = ("--meter", "shelly", "--meter-url", f"{plug.url}/plus", "--meter-error", "2", "--energy-price", "0.3")
        await network.start_ledger(grace_s=600)
        await asyncio.gather(*(network.start_node(f"node{number}", llama, "0:6", *meter) for number in range(2)))
        ready = await asyncio.gather(*(node.event("node ready") for node in network.nodes.values()))
        assert {each["energy_source"] for each in ready} == {"wall"}
        for node in network.nodes.values():
            await node.event("meter shared", nodes=2)
        assert (await network.joule("faucet", "5")).status == 0
        ran = await network.joule("run", "hello", "--max-tokens", "16", "--json")
        assert ran.status == 0, ran.err
        (leg,) = ran.json()["legs"]
        assert leg["energy_source"] == "wall"
        assert leg["millijoules"] > 0
        reports = [
            await until(network, name, lambda report: report["measured_millijoules"] > 0 and report["sharers"] == 2)
            for name in network.nodes
        ]
        assert sum(each["microwatts"] for each in reports) <= WATTS * 1e6 * 1.5, "no watt is counted twice"
        report = reports[0]
        assert (report["source"], report["error_ppm"], report["fault"]) == ("wall", 20_000, None)
        assert report["price_out"] == -(-report["microjoules_out"] * 10**6 * 300_000 // (3_600 * 10**9))
        shown = await network.joule("energy", name="node0")
        assert "2 nodes read this meter" in shown.out
        assert "cents per million" in shown.out
        # The plug is gone: the node says so, and serves on with what it knew, as a model.
        plug.refuses = True
        failed = await network.nodes["node0"].event("meter failed")
        assert "503" in failed["reason"]
        modelled = await until(network, "node0", lambda report: report["fault"] is not None)
        assert modelled["source"] == "model"
        again = await network.joule("run", "hello", "--max-tokens", "4", "--json")
        assert again.status == 0, again.err
        plug.refuses = False
        await network.nodes["node0"].event("meter read again")


async def test_a_meter_that_makes_no_sense_is_said_at_the_start(tmp_path: Path, llama: Path) -> None:
    async with plugs(Plug(watts=120_000.0)) as plug, LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        found: Finished = await network.joule(
            "node",
            "run",
            "--model",
            str(llama),
            "--meter",
            "tasmota",
            "--meter-url",
            f"{plug.url}/tasmota",
            name="node0",
        )
        assert found.status == 1
        assert "this machine cannot draw more than" in found.err
        assert "meter_unit" in found.err
