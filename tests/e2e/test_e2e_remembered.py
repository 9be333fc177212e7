"""Cheap providers that say nothing, or what the model did not compute, in processes of their own beside honest ones.

A run goes on without them, and later ones do not choose them.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from local_network import LocalNetwork

from node.demo.forked import Command, Forked
from node.demo.processes import JouleProcess

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

MUTE = """
from node.pipeline.serving.incoming import Incoming

async def say_nothing(self, outbox, header, payload):
    pass

Incoming.take = say_nothing
"""
"""Done by the silent node before all else: it reads every frame on its data plane, and does nothing about it."""
CHEAT = """
import dataclasses
from node.engine.engine import Engine

forward = Engine.forward

def other_tokens(self, items):
    return [dataclasses.replace(out, tokens=tuple(token ^ 1 for token in out.tokens)) for out in forward(self, items)]

Engine.forward = other_tokens
"""
"""Done by the cheating node: it sends its client other tokens than it drew, and signs for them."""
PROGRAMS = {"silent": MUTE, "cheat": CHEAT}
ASK = ("run", "Once upon a time", "--max-tokens", "12", "--json")


class Spoilt(Command):
    """A `joule` command that a program changes first."""

    def perform(self) -> None:
        exec(os.environ["SPOILT"], {})
        super().perform()


class NetworkWithBadNodes(LocalNetwork):
    """Nodes of some names are changed by a program."""

    async def start(self, name: str, *arguments: str) -> JouleProcess:
        if name not in PROGRAMS:
            return await super().start(name, *arguments)
        self.make_key(name)
        environment = {**self.environment(name), "SPOILT": PROGRAMS[name]}
        process = await Forked.start([*arguments, "--json"], environment, kind=Spoilt)
        process.stdin.close()
        started = JouleProcess(name, process)
        self._nodes.add(started)
        return started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> AsyncIterator[NetworkWithBadNodes]:
    async with NetworkWithBadNodes(tmp_path_factory.mktemp("net")) as network:
        await network.start_ledger()
        await network.start_nodes(llama, "0:6", "0:6")
        silent = await network.start_node("silent", llama, "0:6", "--overhead-price", "0.01")
        await silent.event("node ready")
        for name in ("client", "auditor"):
            assert (await network.joule("faucet", "2", name=name)).status == 0
        yield network


async def test_a_run_goes_on_without_a_silent_provider_and_the_next_one_does_not_choose_it(
    net: NetworkWithBadNodes,
) -> None:
    began = time.monotonic()
    first = await net.joule(*ASK)
    took = time.monotonic() - began
    assert first.status == 0, first
    report = first.json()
    assert (report["attempts"], report["tokens_out"] > 0) == (2, True)
    assert report["legs"][0]["provider"] != net.addresses["silent"]
    assert report["held_until"] > time.time(), "what the silent one gave no word for comes back later"
    assert took < 40, "it was given up after seconds"

    second = (await net.joule(*ASK)).json()
    assert second["attempts"] == 1
    why = {each["provider"]: each["reason"] for each in second["not_taken"]}[net.addresses["silent"]]
    assert "it failed you once" in why

    peers = {each["address"]: each for each in (await net.joule("peers", "list", "--json")).json()}
    (silent,) = peers.pop(net.addresses["silent"])["deeds"]
    assert (silent["deed"], silent["count"]) == ("silent", 1)
    assert {deed["deed"] for each in peers.values() for deed in each["deeds"]} == {"served"}

    offers = {each["provider"]: each["left_out"] for each in (await net.joule("offers", "--json")).json()}
    assert [provider for provider, why in offers.items() if why] == [net.addresses["silent"]]

    forgotten = (await net.joule("peers", "forget", net.addresses["silent"], "--json")).json()
    assert forgotten == {"peers": 1}
    again = (await net.joule(*ASK)).json()
    assert again["attempts"] == 2, "who is forgotten is a newcomer, and newcomers are not left out"


@pytest.mark.long
async def test_who_is_convicted_by_an_audit_is_not_chosen_again(
    net: NetworkWithBadNodes, llama: Path, tmp_path: Path
) -> None:
    cheat = await net.start_node("cheat", llama, "0:6", "--overhead-price", "0.001")
    await cheat.event("node ready")
    receipt = tmp_path / "receipt.json"
    served = (await net.joule(*ASK, "--receipt", str(receipt), name="auditor")).json()
    assert served["legs"][0]["provider"] == net.addresses["cheat"]

    audited = await net.joule("audit", str(receipt), "--model", str(llama), "--json", name="auditor")
    assert (audited.status, audited.json()["verdict"], audited.json()["convicts"]) == (1, "mismatch", 0)
    assert f"{net.addresses['cheat']} is left out of routes from now on" in audited.err

    after = (await net.joule(*ASK, name="auditor")).json()
    assert after["legs"][0]["provider"] != net.addresses["cheat"]
    why = {each["provider"]: each["reason"] for each in after["not_taken"]}[net.addresses["cheat"]]
    assert "a spot check convicted it" in why
