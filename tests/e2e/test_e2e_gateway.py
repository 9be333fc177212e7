"""A gateway before a market of real processes and money, as an application sees it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from local_network import LocalNetwork

from node.app.buying.audit import audit_bundle
from node.demo.processes import JouleProcess
from protocol.identity.ids import checksum_address
from protocol.identity.signing import address_of_public_key
from protocol.receipts.audit import Verdict
from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import load_bundle
from protocol.session.logprobs import unpack_said

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

HEADERS = {"Content-Type": "application/json"}
FEE = 1
"""Micro-units that the ledger takes for an operation."""


class Served:
    """A market, a gateway of it, and somebody who asks."""

    def __init__(
        self, network: LocalNetwork, process: JouleProcess, url: str, model: str, http: aiohttp.ClientSession
    ) -> None:
        self.network = network
        self.model = model
        self.process = process
        self.url = url
        self.http = http

    async def ask(self, *said: str, path: str = "chat/completions", **more: Any) -> tuple[dict[str, Any], str]:
        """What came, and the id of its receipt."""
        turns = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]
        body = {"model": self.model, "messages": turns, "max_tokens": 12, **more}
        if path == "completions":
            del body["messages"]
        async with self.http.post(f"{self.url}/{path}", json=body) as response:
            found = await response.json()
            assert response.status == 200, found
            return found, response.headers["x-joule-receipt"]

    async def money(self) -> tuple[int, int]:
        """Micro-units that the gateway's client has, and those of them that open sessions hold."""
        found = (await self.network.joule("balance", "--json")).json()
        return found["free"] + found["held"], found["held"]

    async def receipt(self, identity: str) -> Any:
        async with self.http.get(f"{self.url}/receipts/{identity}") as response:
            assert response.status == 200
            return load_bundle(await response.read())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[Served]:
    async with LocalNetwork(tmp_path_factory.mktemp("net")) as network:
        await network.start_ledger(grace_s=2)
        await network.start_nodes(endless, "0:6", "0:6")
        assert (await network.joule("faucet", "4")).status == 0
        run = ("gateway", "run", "--port", "0", "--ledger", network.url)
        process = await network.start("client", *run)
        url = (await process.event("gateway ready"))["url"]
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{url}/models") as response:
                (model,) = (await response.json())["data"]
            yield Served(network, process, url, model["id"], http)


def text_of(found: dict[str, Any]) -> str:
    return str(found["choices"][0]["message"]["content"])


async def test_an_answer_is_bought_and_has_its_receipt(served: Served) -> None:
    found, identity = await served.ask("a boy and a dog")
    assert found["usage"]["completion_tokens"] == 12
    assert found["choices"][0]["finish_reason"] == "length"
    bundle = await served.receipt(identity)
    verify_bundle(bundle)
    assert bundle.text == ("a boy and a dog", text_of(found).strip())
    told = await served.process.event("request answered", receipt=identity)
    assert told["cost_micro"] > 0


async def test_a_conversation_goes_on_from_what_is_held(served: Served) -> None:
    first, _ = await served.ask("a cat and a mouse")
    second, identity = await served.ask("a cat and a mouse", text_of(first), "and then")
    usage = second["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == first["usage"]["total_tokens"] - 1
    verify_bundle(await served.receipt(identity))


async def test_a_stream_says_the_same_as_the_whole(served: Served) -> None:
    whole, _ = await served.ask("a red kite", temperature=0.8, seed=5)
    body = {"model": served.model, "messages": [{"role": "user", "content": "a red kite"}], "max_tokens": 12}
    said = ""
    async with served.http.post(
        f"{served.url}/chat/completions", json={**body, "stream": True, "temperature": 0.8, "seed": 5}
    ) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                said += choice["delta"].get("content", "")
    assert said == text_of(whole)


async def test_a_cut_reaches_the_leg_that_draws(served: Served) -> None:
    """Of the likeliest token alone any temperature draws the same."""
    greedy, _ = await served.ask("a tall tree", temperature=0)
    found, identity = await served.ask("a tall tree", temperature=1.5, top_k=1)
    other, _ = await served.ask("a tall tree", temperature=1.5, top_p=0)
    assert text_of(greedy) == text_of(found) == text_of(other)
    sampling = (await served.receipt(identity)).terms.sampling
    assert (sampling.temperature_milli, sampling.top_k) == (1500, 1)


async def test_penalties_and_biases_reach_the_leg_that_draws(served: Served, endless: Path) -> None:
    """What is forbidden is not said; what was said is not said again."""
    plain, identity = await served.ask("a tall tree", temperature=0)
    bundle = await served.receipt(identity)
    first = bundle.tokens[bundle.terms.plan.prompt]
    settings = {"temperature": 0, "logit_bias": {str(first): -100}, "repetition_penalty": 1.5, "presence_penalty": 2}
    settings |= {"logprobs": True, "top_logprobs": 2}
    found, identity = await served.ask("a tall tree", **settings)
    assert text_of(found) != text_of(plain)
    bundle = await served.receipt(identity)
    verify_bundle(bundle)
    assert first not in bundle.tokens[bundle.terms.plan.prompt :]
    shaping = bundle.terms.sampling.shaping
    assert shaping is not None
    assert (shaping.repetition_milli, shaping.presence, shaping.biases[0].lift) == (1500, 4000, 0)
    report = await asyncio.to_thread(audit_bundle, bundle, endless)
    assert report.verdict is Verdict.MATCH
    said = found["choices"][0]["logprobs"]["content"]
    assert 0 < len(said) <= len(bundle.said), "what ends an answer is no text of it"
    assert all(len(each["top_logprobs"]) == 2 for each in said)
    assert said[0]["logprob"] == unpack_said(bundle.said[0])[0].logarithm
    with pytest.raises(AssertionError, match="logit_bias"):
        await served.ask("a tall tree", logit_bias={str(1 << 23): 1})


async def test_a_caller_that_goes_away_pays_for_what_came(served: Served) -> None:
    body = {"model": served.model, "prompt": "a long story", "max_tokens": 900, "stream": True}
    response = await served.http.post(f"{served.url}/completions", json=body)
    identity = response.headers["x-joule-receipt"]
    await response.content.readline()
    response.close()
    told = await served.process.event("request answered", receipt=identity)
    assert told["outcome"] == "gone"
    assert 0 < told["tokens_out"] < 900
    verify_bundle(await served.receipt(identity))


async def test_a_leg_that_dies_is_not_noticed(served: Served) -> None:
    """The node that serves is killed in mid-answer; the other one goes on, and the text is that of nobody dying."""
    whole, first = await served.ask(path="completions", prompt="one two", max_tokens=200)
    bundle = await served.receipt(first)
    serving = checksum_address(address_of_public_key(bundle.terms.legs[0].public_key))
    body = {"model": served.model, "prompt": "one two", "max_tokens": 200, "stream": True}
    said, killed = "", False
    had, _ = await served.money()
    async with served.http.post(f"{served.url}/completions", json=body) as response:
        async for line in response.content:
            if line.startswith(b"data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                said += choice["text"]
            if said and not killed:
                killed = True
                for node in served.network.nodes.values():
                    if (await node.event("node ready"))["provider"] == serving:
                        node.process.send_signal(signal.SIGKILL)
    assert killed
    assert said == whole["choices"][0]["text"]
    told = await served.process.event("request answered", receipt=response.headers["x-joule-receipt"])
    has, held = await served.money()
    assert held > 0, "the dead node's share, until its session expires"
    assert told["cost_micro"] == had - has + FEE, "closing that session is a part of what the answer costs"
