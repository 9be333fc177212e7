"""The three-node job on the embedded ledger and on a chain: the same money to the unit, receipts of both verified."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anvil_chain import Chain, running_chain, why_no_anvil
from chain_venue import ChainMarket, make_market
from local_network import LocalNetwork, voucher_beyond

from protocol.identity.ids import parse_address
from protocol.units import MICRO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio,
    pytest.mark.skipif(bool(why_no_anvil()), reason=why_no_anvil()),
]
SPANS = ("0:2", "2:4", "4:6")
GRACE_S = 60
MONEY = 2 * MICRO
COIN = hex(10**20)


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with running_chain() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job came to."""

    report: dict[str, Any]
    earned: list[int]
    """Free micro-units of each node afterwards, in order of the route."""
    left: int
    """Of the client."""
    verified: dict[str, Any]


async def start_on_chain(network: LocalNetwork, market: ChainMarket, model: Path) -> dict[str, str]:
    """Nodes that settle on a chain, and a client with money in the contract; what its commands are told."""
    network.url = str(market.address)
    names = [f"node{number}" for number in range(len(SPANS))]
    for name in (*names, "client"):
        network.make_key(name)
        market.chain.ask("anvil_setBalance", network.addresses[name], COIN)
    first = await network.start_node(names[0], model, SPANS[0], "--confirmations", "0")
    peer = (await first.event("node ready"))["peer"]
    for name, span in zip(names[1:], SPANS[1:], strict=True):
        await network.start_node(name, model, span, "--confirmations", "0", "--peer", peer)
    await asyncio.gather(*(network.nodes[name].event("node ready") for name in names))
    client = parse_address(network.addresses["client"])
    market.token.send(client, "mint", client, 5 * MICRO * market.settlement.ask("scale")[0])
    told = {"JOULE_CONFIRMATIONS": "0", "JOULE_PEERS": peer}
    paid_in = await network.joule("deposit", "2", "--json", **told)
    assert paid_in.status == 0, paid_in.err
    assert market.tokens_of(client) == 3 * MICRO
    return told


async def run_job(network: LocalNetwork, folder: Path, **told: str) -> Outcome:
    receipt = folder / "receipt.json"
    asked = ["run", "hello", "--max-tokens", "30", "--receipt", str(receipt), "--json"]
    done = await network.joule(*asked, **told)
    assert done.status == 0, done.err
    report = done.json()
    assert report["verified"]
    verified = await network.joule("receipt", "verify", str(receipt), "--json", **told)
    assert verified.status == 0, verified.err
    legs = [leg["provider"] for leg in report["legs"]]
    earned = [(await network.joule("balance", leg, "--json", **told)).json()["free"] for leg in legs]
    left = (await network.joule("balance", "--json", **told)).json()["free"]
    return Outcome(report, earned, left, verified.json())


async def test_the_same_job_moves_the_same_money_on_a_chain(tmp_path: Path, llama: Path, chain: Chain) -> None:
    on_ledger, on_chain = tmp_path / "ledger", tmp_path / "chain"
    async with LocalNetwork(on_ledger) as network:
        await network.start_ledger(grace_s=GRACE_S)
        await network.start_nodes(llama, *SPANS)
        assert (await network.joule("faucet", "2")).status == 0
        ledger = await run_job(network, on_ledger)
    market = make_market(chain, grace_s=GRACE_S, decimals=18)
    async with LocalNetwork(on_chain) as network:
        told = await start_on_chain(network, market, llama)
        other = await run_job(network, on_chain, **told)
        text = await network.joule("receipt", "verify", str(on_chain / "receipt.json"), **told)
        asked = await network.joule(
            "receipt", "verify", str(on_chain / "receipt.json"), "--rpc", chain.url, "--json", **told
        )
        assert asked.status == 0, asked.err
        assert asked.json()["confirmations"] >= 0
        for command in (("faucet", "1"), ("ledger", "tail", network.url), ("ledger", "verify", network.url)):
            refused = await network.joule(*command, **told)
            assert refused.status == 1
            assert "a contract on a chain has no such" in refused.err
        drawn = await network.joule("withdraw", "0.5", "--json", **told)
        assert drawn.status == 0, drawn.err
        client = parse_address(network.addresses["client"])
        assert market.tokens_of(client) == 3 * MICRO + MICRO // 2
    assert ledger.report["answer"] == other.report["answer"]
    assert [leg["blocks"] for leg in ledger.report["legs"]] == [leg["blocks"] for leg in other.report["legs"]]
    assert ledger.earned == other.earned == [leg["paid_micro"] for leg in other.report["legs"]]
    assert min(other.earned) > 0
    fees = ledger.report["fees_micro"]
    assert ledger.left + fees == other.left == MONEY - sum(other.earned)
    assert other.report["fees_micro"] == other.report["held_micro"] == 0
    assert ledger.verified["amounts"] == other.verified["amounts"] == other.earned
    assert ledger.verified["transactions"] == []
    assert other.verified["confirmations"] is None
    shown = other.verified["transactions"]
    assert [each["operation"] for each in shown][:2] == ["open", "settle"]
    assert [place.removeprefix("0x") for place in other.report["places"]] == [
        each["transaction"].removeprefix("0x") for each in shown
    ]
    assert "on trust" in text.out
    assert market.settlement.ask("accounts", client)[0] == other.left - MICRO // 2
    for place in changed(on_chain / "receipt.json"):
        refused = await network.joule("receipt", "verify", str(place))
        assert refused.status == 1
        assert refused.err.startswith("error: ")


@pytest.mark.long
async def test_nodes_claim_what_a_client_that_died_has_promised(tmp_path: Path, endless: Path, chain: Chain) -> None:
    market = make_market(chain, grace_s=2)
    async with LocalNetwork(tmp_path) as network:
        told = await start_on_chain(network, market, endless)
        asked = ("run", "hello", "--max-tokens", "900", "--verbose", "--json", "--session-s", "12")
        client = await network.spawn(*asked, **told)
        await voucher_beyond(client, 16)
        client.send_signal(signal.SIGKILL)
        telling = [asyncio.create_task(node.event("voucher redeemed")) for node in network.nodes.values()]
        # One voucher pays all legs: who is first spares the others the gas.
        done, others = await asyncio.wait(telling, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.wait(telling)
        redeemed = done.pop().result()
        assert redeemed["amount_micro"] > 0
        assert redeemed["entry"].startswith("0x")
        held = (await network.joule("balance", "--json", **told)).json()["held"]
        assert held > 0, "what nobody has claimed is still reserved"
        async with asyncio.timeout(60):
            back = None
            while back is None or back.json()["returned"] == 0:
                back = await network.joule("reclaim", "--json", **told)
                assert back.status == 0, back.err
        names = ["client", *network.nodes]
        addresses = [parse_address(network.addresses[name]) for name in names]
        free = [market.settlement.ask("accounts", address)[0] for address in addresses]
        assert min(free[1:]) > 0
        assert sum(free) == MONEY
    assert market.tokens_of(market.settlement.address) == MONEY


def changed(receipt: Path) -> Iterator[Path]:
    """Files beside it that say something else."""
    honest = json.loads(receipt.read_text())
    evidence = honest["evidence"]
    other_chain = honest["verifier_key"].replace("evm:", "evm:1", 1)
    changes = (
        {"verifier_key": other_chain},
        {"evidence": {**evidence, "settled": evidence["opened"]}},
        {"evidence": {**evidence, "opened": evidence["settled"]}},
        {"evidence": {**evidence, "settled": evidence["settled"][:-8] + "AAAAAAA="}},
    )
    for number, change in enumerate(changes):
        place = receipt.with_name(f"changed-{number}.json")
        place.write_text(json.dumps({**honest, **change}))
        yield place
