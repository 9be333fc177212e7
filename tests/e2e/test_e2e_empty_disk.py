"""Nodes that begin with an empty disk: a name in a publisher's catalogue is all that they know of the model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from checkpoints import make_checkpoint
from local_network import LocalNetwork

from node.model_directory import model_facts, span_files

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.asyncio]


def shards_of(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.safetensors")}


async def test_a_name_is_enough_and_a_lie_is_found_out(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    make_checkpoint(whole, "llama", layers=4, shard_size="200KB")
    listed = str(tmp_path / "models.catalogue")
    async with LocalNetwork(tmp_path / "home") as network:
        await network.start_ledger()
        assert (await network.joule("model", "manifest", str(whole), "--license", "MIT")).status == 0
        made = await network.joule("model", "catalogue", "make", str(whole), "--out", listed, "--json")
        name, publisher = made.json()["models"][0]["name"], made.json()["publisher"]
        network.make_key("back")
        for who, by in (("back", network.addresses["back"]), ("back", publisher), ("auto", publisher)):
            added = await network.joule("model", "catalogue", "add", listed, "--publisher", by, name=who)
            assert (added.status == 0) is (by == publisher)
        await network.start_node("front", whole, "0:2")
        await network.nodes["front"].event("node ready")
        back = await network.start_node("back", Path(name), "2:4")
        fetched = await back.event("model fetched")
        assert (await back.event("node ready"))["blocks"] == "2:4"
        assert fetched["blocks"] == "2:4"
        folder = Path(fetched["directory"])
        assert not (folder / "tokenizer.json").exists()
        assert shards_of(folder) == {path.name for path in span_files(whole, model_facts(whole), range(2, 4))}
        here = (await network.joule("model", "list", "--json", name="back")).json()
        assert [each["root"] for each in here if each["here"]] == [fetched["root"]]
        await network.joule("faucet", "2")
        asked = await network.joule("run", "Hello", "--max-tokens", "4", "--json")
        assert asked.status == 0, asked
        assert [leg["blocks"] for leg in json.loads(asked.out)["legs"]] == ["0:2", "2:4"]

        await network.nodes["back"].stop()
        shutil.rmtree(folder)
        third = await network.start_node("auto", Path(name), "auto", "--max-blocks", "2")
        assert (await third.event("node ready"))["blocks"] == "2:4"


async def test_int8_is_served_and_judged(tmp_path: Path, llama: Path) -> None:
    quantized, receipt = tmp_path / "int8", str(tmp_path / "receipt.json")
    async with LocalNetwork(tmp_path / "home") as network:
        await network.start_ledger()
        assert (await network.joule("model", "quantize", str(llama), str(quantized))).status == 0
        for name, blocks in (("front", "0:3"), ("back", "3:6")):
            await network.start_node(name, quantized, blocks, "--precision", "int8")
        for node in network.nodes.values():
            assert (await node.event("node ready"))["precision"] == "int8"
        await network.joule("faucet", "2")
        asked = await network.joule("run", "Hello", "--max-tokens", "40", "--receipt", receipt, "--json")
        assert asked.status == 0, asked
        judged = await network.joule("audit", receipt, "--model", str(quantized), "--json")
        assert (judged.status, judged.json()["verdict"]) == (0, "match"), judged
        other = await network.joule("audit", receipt, "--model", str(llama))
        assert other.status == 1
