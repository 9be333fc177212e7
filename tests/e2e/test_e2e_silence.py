"""The cheapest provider by far takes every order and says nothing, in a process of its own, beside two honest ones."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from local_network import LocalNetwork

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

MUTE = """
from node.pipeline.serving.provider import Provider

async def say_nothing(self, outbox, header, payload):
    pass

Provider._on_frame = say_nothing
"""
"""Loaded by the silent node before all else: it reads every frame on its data plane, and does nothing about it."""
ASK = ("run", "Once upon a time", "--max-tokens", "12", "--json")


class NetworkWithASilentNode(LocalNetwork):
    def environment(self, name: str) -> dict[str, str]:
        mute = {"PYTHONPATH": f"{self.home / 'mute'}:{os.environ.get('PYTHONPATH', '')}"} if name == "silent" else {}
        return {**super().environment(name), **mute}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> AsyncIterator[LocalNetwork]:
    home = tmp_path_factory.mktemp("net")
    (home / "mute").mkdir()
    (home / "mute" / "sitecustomize.py").write_text(MUTE)
    async with NetworkWithASilentNode(home) as network:
        await network.start_ledger()
        await network.start_nodes(llama, "0:6", "0:6")
        silent = await network.start_node("silent", llama, "0:6", "--overhead-price", "0.01")
        await silent.event("node ready")
        assert (await network.joule("faucet", "2")).status == 0
        yield network


async def test_a_run_goes_on_without_a_silent_provider_and_the_next_one_does_not_choose_it(net: LocalNetwork) -> None:
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
