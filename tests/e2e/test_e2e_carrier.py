"""One gateway before two markets of real processes and money, with a model of its own for when both are away."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from local_network import LocalNetwork

from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import load_bundle

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]


async def test_a_question_goes_where_it_costs_least_and_on_when_that_is_away(tmp_path: Path, endless: Path) -> None:
    async with LocalNetwork(tmp_path / "one") as one, LocalNetwork(tmp_path / "two") as two:
        for network, price in ((one, "0.50"), (two, "0.10")):
            await network.start_ledger(grace_s=2)
            await network.start_node("node0", endless, "0:6", "--overhead-price", price)
            assert (await one.joule("faucet", "4", "--ledger", network.url)).status == 0
        file = tmp_path / "cheap.toml"
        file.write_text(f'[network]\nledger = "{two.url}"\n')
        for network in (one, two):
            await network.nodes["node0"].event("node ready")
        places = ("--ledger", one.url, "--market", str(file))
        run = ("gateway", "run", "--port", "0", *places, "--edge-model", str(endless), "--edge-tokens", "0")
        url = (await (await one.start("client", *run)).event("gateway ready"))["url"]

        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/models") as response:
                (model,) = (await response.json())["data"]
            said = {}

            async def ask(made: str, **headers: str) -> str:
                body = {"model": model["id"], "prompt": "a boy and a dog", "max_tokens": 8}
                async with http.post(f"{url}/completions", json=body, headers=headers) as response:
                    found = await response.json()
                    assert response.status == 200, found
                    assert response.headers["x-joule-made"] == made
                    said[made] = found["choices"][0]["text"]
                    return response.headers["x-joule-receipt"]

            assert [each["market"] for each in model["joule"]["elsewhere"]] == ["cheap", "main"]
            async with http.get(f"{url}/receipts/{await ask('cheap')}") as response:
                verify_bundle(load_bundle(await response.read()))
            assert await ask("here", **{"x-joule-class": "device"}) == "none"
            found = (await one.joule("gateway", "balance", *places, "--json")).json()
            main, cheap = found["markets"]
            assert (main["market"], main["free"]) == ("main", 4_000_000)
            assert 3_900_000 < cheap["free"] < 4_000_000
            assert found["free"] == main["free"] + cheap["free"]
            await two.nodes["node0"].stop()
            assert two.ledger is not None
            await two.ledger.stop()
            await ask("main")
            await one.nodes["node0"].stop()
            assert one.ledger is not None
            await one.ledger.stop()
            assert await ask("here") == "none"
            assert said["cheap"] == said["main"] == said["here"]
        shown = await one.joule("gateway", "balance", *places)
        assert shown.out.count("?") == 4
