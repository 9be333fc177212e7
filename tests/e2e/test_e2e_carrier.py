"""One gateway before a ledger's market and a chain's, of real processes and money, with a model of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from anvil_chain import running_chain, why_no_anvil
from chain_venue import ChainMarket, make_market
from local_network import LocalNetwork

from protocol.identity.ids import parse_address
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import load_bundle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio,
    pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil()),
]

NODE = shutil.which("node")
SUPPORT = Path(__file__).resolve().parents[1] / "support"


def in_javascript(receipt: str) -> Any:
    """What the page's verifier has proven of a receipt."""
    command = [str(NODE), str(SUPPORT / "verify_receipts.mjs")]
    done = subprocess.run(command, input=json.dumps([receipt]), capture_output=True, text=True, check=True)
    (verdict,) = json.loads(done.stdout)
    assert verdict["verified"], verdict
    return verdict["proven"]


def write_market(file: Path, url: str, peer: str) -> None:
    file.write_text(f'[network]\nledger = "{url}"\npeers = ["{peer}"]\n[chain]\nconfirmations = 0\n')


async def start_on_chain(network: LocalNetwork, market: ChainMarket, model: Path, client: bytes) -> str:
    """A cheap node that settles on a chain, and tokens for a client; the node's peer."""
    network.url = str(market.address)
    network.make_key("node0")
    for address in (network.addresses["node0"], "0x" + client.hex()):
        market.chain.ask("anvil_setBalance", address, hex(10**20))
    market.token.send(client, "mint", client, 5_000_000 * market.settlement.ask("scale")[0])
    cheap = ("--confirmations", "0", "--overhead-price", "0.10")
    return str((await (await network.start_node("node0", model, "0:6", *cheap)).event("node ready"))["peer"])


LONG: dict[str, Any] = {"prompt": "one two", "max_tokens": 150, "temperature": 1, "seed": 7}


async def broken_off(http: aiohttp.ClientSession, url: str, model: str, market: LocalNetwork) -> tuple[str, str]:
    """What came of a long answer before its market was killed, and after that; each part has a receipt."""
    begun, rest = "", ""
    async with http.post(f"{url}/completions", json={**LONG, "model": model, "stream": True}) as response:
        assert response.headers["x-joule-made"] == "cheap"
        identity = response.headers["x-joule-receipt"]
        async for line in response.content:
            if line.startswith(b"data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                if begun:
                    rest += choice["text"]
                else:
                    begun += choice["text"]
                    if begun:
                        market.nodes["node0"].process.send_signal(signal.SIGKILL)
    async with http.get(f"{url}/receipts/{identity}") as response:
        parts = response.headers["x-joule-receipt"].split(", ")
        assert parts == [identity, f"{identity}-at-main"]
    for part in parts:
        async with http.get(f"{url}/receipts/{part}") as response:
            verify_bundle(load_bundle(await response.read()))
    return begun, rest


async def whole(http: aiohttp.ClientSession, url: str, model: str) -> str:
    async with http.post(f"{url}/completions", json={**LONG, "model": model}) as response:
        return str((await response.json())["choices"][0]["text"])


async def test_a_question_goes_where_it_costs_least_and_on_when_that_is_away(tmp_path: Path, endless: Path) -> None:
    with running_chain() as chain:
        async with LocalNetwork(tmp_path / "one") as one, LocalNetwork(tmp_path / "two") as two:
            await carried(one, two, make_market(chain, grace_s=60, decimals=18), tmp_path / "cheap.toml", endless)


async def carried(one: LocalNetwork, two: LocalNetwork, market: ChainMarket, file: Path, model: Path) -> None:
    one.make_key("client")
    await one.start_ledger(grace_s=2)
    dear = await one.start_node("node0", model, "0:6")
    peer = await start_on_chain(two, market, model, parse_address(one.addresses["client"]))
    await dear.event("node ready")
    assert (await one.joule("faucet", "4")).status == 0
    told = {"JOULE_CONFIRMATIONS": "0", "JOULE_PEERS": peer, "JOULE_LEDGER": two.url}
    assert (await one.joule("deposit", "4", **told)).status == 0
    write_market(file, two.url, peer)
    places = ("--ledger", one.url, "--market", str(file))
    run = ("gateway", "run", "--port", "0", *places, "--edge-model", str(model), "--edge-tokens", "0")
    url = (await (await one.start("client", *run)).event("gateway ready"))["url"]

    async with aiohttp.ClientSession() as http:
        async with http.get(f"{url}/models") as response:
            (offered,) = (await response.json())["data"]
        said = {}

        async def ask(made: str, **headers: str) -> str:
            body = {"model": offered["id"], "prompt": "a boy and a dog", "max_tokens": 8}
            async with http.post(f"{url}/completions", json=body, headers=headers) as response:
                found = await response.json()
                assert response.status == 200, found
                assert response.headers["x-joule-made"] == made
                said[made] = found["choices"][0]["text"]
                return response.headers["x-joule-receipt"]

        assert [each["market"] for each in offered["joule"]["elsewhere"]] == ["cheap", "main"]
        async with http.get(f"{url}/receipts/{await ask('cheap')}") as response:
            receipt = await response.read()
        verify_bundle(load_bundle(receipt))
        if NODE is not None:
            assert in_javascript(receipt.decode())["transactions"][0]["included"]
        assert await ask("here", **{"x-joule-class": "device"}) == "none"
        found = (await one.joule("gateway", "balance", *places, "--json")).json()
        main, cheap = found["markets"]
        assert (main["market"], main["free"]) == ("main", 4_000_000)
        assert 3_900_000 < cheap["free"] < 4_000_000
        assert found["free"] == main["free"] + cheap["free"]
        begun, rest = await broken_off(http, url, offered["id"], two)
        await ask("main")
        assert begun + rest == await whole(http, url, offered["id"])
        await one.nodes["node0"].stop()
        assert one.ledger is not None
        await one.ledger.stop()
        assert await ask("here") == "none"
        assert said["cheap"] == said["main"] == said["here"]
    shown = await one.joule("gateway", "balance", *places)
    assert shown.out.count("?") == 2
