"""What an operator asks while nodes run: how they do, what is on offer, what the market comes to."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from local_network import LocalNetwork

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.asyncio]


async def test_a_running_market_answers(tmp_path: Path, llama: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        await network.start_nodes(llama, "0:3", "3:6", "0:3")

        seen = await network.joule("doctor", "--json", name="node0")
        found = {each["what"]: each for each in seen.json()}
        assert (seen.status, found["offer"]["level"], found["clock"]["level"]) == (0, "ok", "ok"), seen
        assert "0 orders came today" in found["work"]["detail"]

        plot = tmp_path / "market.svg"
        (market,) = (await network.joule("market", "--wait", "3", "--json", "--plot", str(plot))).json()
        assert (market["operators"], market["uncovered"], market["concentration"]["holders"]) == (3, [], 3)
        assert market["capacity"] == min(market["supply"]) > 0
        assert ET.fromstring(plot.read_text()).tag.endswith("svg")
        assert "scarcest block" in (await network.joule("market", "--wait", "1")).out

        watching = await network.spawn("offers", "--watch", "--json")
        lines = [json.loads(await watching.stdout.readline()) for _ in range(3)]
        assert {each["change"] for each in lines} == {"new"}
        gone = network.addresses["node2"]
        await network.nodes["node2"].stop()
        while (line := json.loads(await watching.stdout.readline()))["change"] != "gone":
            assert line["change"] == "changed"
        assert line["provider"] == gone
        watching.terminate()
        await watching.wait()

        assert (await network.joule("faucet", "1")).status == 0
        assert (await network.joule("run", "Hello", "--max-tokens", "2")).status == 0
        await network.nodes["node0"].event("job served")
        seen = await network.joule("doctor", "--json", name="node0")
        work = next(each for each in seen.json() if each["what"] == "work")
        assert work["level"] == "ok", seen
        assert "1 orders came today: 1 taken" in work["detail"]
