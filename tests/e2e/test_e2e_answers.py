"""The main job with real processes: the same tokens as transformers, paid, proven, audited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from local_network import PASSPHRASE, LocalNetwork

from node.api import Client, WaitingClient
from protocol.errors import RoutingError
from protocol.receipts.bundle_file import load_bundle

BUNDLED = Path(__file__).parents[2] / "node" / "demo" / "model"
PROMPTS = ("hello world", "one two three four five six seven eight nine ten", "x")


def generated(directory: Path, prompt: str, most: int) -> list[int]:
    """What transformers' own `generate` makes of a prompt, greedily, in fp32: prompt and answer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
    return model.generate(**inputs, max_new_tokens=most, do_sample=False)[0].tolist()


async def answers_equal_generate(network: LocalNetwork, model: Path, prompts: tuple[str, ...], most: int) -> None:
    for number, prompt in enumerate(prompts):
        receipt = network.home / f"receipt{number}.json"
        done = await network.joule("run", prompt, "--max-tokens", str(most), "--receipt", str(receipt), "--json")
        assert done.status == 0, done.err
        assert json.loads(receipt.read_text())["tokens"] == generated(model, prompt, most)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.asyncio
async def test_eight_qwen_blocks_in_uneven_cuts_answer_like_transformers(tmp_path: Path, qwen: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        await network.start_nodes(qwen, "0:1", "1:6", "6:8")
        assert (await network.joule("faucet", "5")).status == 0
        await answers_equal_generate(network, qwen, PROMPTS, 24)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_the_bundled_model_answers_like_transformers(tmp_path: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        await network.start_nodes(BUNDLED, "0:2", "2:4", "4:6")
        assert (await network.joule("faucet", "5")).status == 0
        prompts = ("Anna has a red ball. Tom went to the kitchen. Where is Tom?", "17 + 25 =")
        await answers_equal_generate(network, BUNDLED, prompts, 48)


@pytest.mark.slow
@pytest.mark.asyncio
async def test_every_command_of_the_tutorial(tmp_path: Path, llama: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        await network.start_nodes(llama, "0:2", "2:4", "4:6")
        assert (await network.joule("faucet", "1.5")).status == 0
        offers = (await network.joule("offers", "--json")).json()
        assert {(offer["span"]["start"], offer["span"]["end"]) for offer in offers} == {(0, 2), (2, 4), (4, 6)}
        receipt = tmp_path / "receipt.json"
        done = await network.joule("run", "hello", "--max-tokens", "30", "--receipt", str(receipt), "--json")
        report = done.json()
        assert done.status == 0
        assert report["verified"]
        assert report["held_micro"] == report["claimed_micro"] == 0
        assert report["paid_micro"] == sum(leg["paid_micro"] for leg in report["legs"]) > 0
        spent = report["balance_before_micro"] - report["balance_after_micro"]
        assert spent == report["paid_micro"] + report["fees_micro"] > report["paid_micro"]
        balance = (await network.joule("balance", "--json")).json()
        assert balance["free"] == report["balance_after_micro"]
        earned = [(await network.joule("balance", leg["provider"], "--json")).json()["free"] for leg in report["legs"]]
        assert earned == [leg["paid_micro"] for leg in report["legs"]]
        verified = await network.joule("receipt", "verify", str(receipt), "--json")
        assert verified.status == 0
        assert verified.json()["amounts"] == earned
        audited = await network.joule("audit", str(receipt), "--model", str(llama), "--json")
        assert audited.status == 0, audited.err
        assert audited.json()["verdict"] == "match"
        sound = await network.joule("ledger", "verify", network.url, "--json")
        assert sound.status == 0
        assert sound.json()["deposited"] == 1_500_000
        await the_page_shows_it(network)
        await a_program_asks(network)
        for place in changed(receipt):
            refused = await network.joule("receipt", "verify", str(place))
            assert refused.status == 1
            assert refused.err.startswith("error: ")
            assert "Traceback" not in refused.err


async def the_page_shows_it(network: LocalNetwork) -> None:
    """What the live page says of the market, and of the node beside it."""
    name = next(iter(network.nodes))
    page = await network.spawn("page", "--port", "0", "--json", name=name)
    try:
        url = json.loads(await page.stdout.readuntil(b"}"))["url"]
        async with aiohttp.ClientSession() as session, session.get(url + "state") as answer:
            state = await answer.json()
    finally:
        page.terminate()
        assert await page.wait() == 0
    assert state["network"]["error"] == ""
    assert [each["uncovered"] for each in state["network"]["models"]] == [[]]
    assert [each["serves"].partition(" of ")[0] for each in state["nodes"]] == ["blocks 0:2"]
    assert state["nodes"][0]["days"][0]["jobs"] == 1
    assert state["client"]["free"] == (await network.joule("balance", "--json", name=name)).json()["free"]


async def a_program_asks(network: LocalNetwork) -> None:
    """With asyncio and without it."""
    settings = {"data_dir": network.home / "client", "ledger": network.url, "passphrase": PASSPHRASE}
    async with Client(**settings) as client:
        answer = client.run("hello", max_tokens=6)
        pieces = [piece async for piece in answer]
        assert "".join(pieces) == answer.text
        assert answer.report.tokens_out == 6
        assert load_bundle(answer.receipt.read_bytes()).session.client == client.address
        with pytest.raises(RoutingError):
            await client.ask("hello", model="another")

    def waits() -> tuple[str, int]:
        with WaitingClient(max_tokens=6, **settings) as client:
            return "".join(client.run("hello")), client.balance()

    text, left = await asyncio.to_thread(waits)
    assert text == answer.text
    assert left == (await network.joule("balance", "--json")).json()["free"]


def changed(receipt: Path) -> Iterator[Path]:
    """Files beside it that say something else."""
    honest = json.loads(receipt.read_text())
    changes = ({"tokens": [*honest["tokens"][:-1], 5]}, {"voucher": honest["terms"]}, {"windows": []})
    for number, change in enumerate(changes):
        place = receipt.with_name(f"changed-{number}.json")
        place.write_text(json.dumps({**honest, **change}))
        yield place
