"""Conversations and answers that break off, with real processes and money: what is held is not computed again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from engine_ring import reference_tokens
from local_network import Finished, LocalNetwork, voucher_beyond

from protocol.receipts.bundle import Bundle
from protocol.receipts.bundle_file import load_bundle

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

ROOM = ("--kv-tokens", "8192")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[LocalNetwork]:
    async with LocalNetwork(tmp_path_factory.mktemp("net")) as network:
        await network.start_ledger(grace_s=2)
        await network.start_nodes(endless, "0:2", "2:4", "4:6", node0=ROOM, node1=ROOM, node2=ROOM)
        assert (await network.joule("faucet", "4")).status == 0
        yield network


async def chat(network: LocalNetwork, *lines: str, more: tuple[str, ...] = ()) -> Finished:
    return await network.joule("chat", "--max-tokens", "24", *more, said="\n".join(lines))


def reports(done: Finished) -> list[dict[str, Any]]:
    assert done.status == 0, done
    return [json.loads(line) for line in done.out.splitlines()]


def bundle_of(report: dict[str, Any]) -> Bundle:
    return load_bundle(Path(report["receipt_file"]).read_bytes())


def is_right(report: dict[str, Any], model: Path) -> None:
    """Its receipt has the tokens that the model gives, and holds."""
    assert (report["error"], report["settle_error"], report["verified"]) == (None, None, True)
    bundle = bundle_of(report)
    prompt = bundle.terms.plan.prompt
    answer = list(bundle.tokens[prompt:])
    assert answer == reference_tokens(model, bundle.tokens[:prompt], len(answer))


async def test_each_question_goes_on_from_the_one_before(net: LocalNetwork, endless: Path, tmp_path: Path) -> None:
    history = tmp_path / "talk.json"
    done = await chat(net, "a boy and a dog", "and then", "why", more=("--json", "--history", str(history)))
    first, second, third = reports(done)
    for report in (first, second, third):
        is_right(report, endless)
    assert first["tokens_held"] == 0
    # But for the last token of an answer, which was drawn and never fed.
    assert second["tokens_held"] == first["tokens_in"] + first["tokens_out"] - 1
    assert third["tokens_held"] == second["tokens_in"] + second["tokens_out"] - 1
    # What was held costs a tenth: less is paid for more tokens.
    assert third["tokens_in"] > 2 * first["tokens_in"]
    turns = json.loads(history.read_text())
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * 3
    assert [turn["content"] for turn in turns[::2]] == ["a boy and a dog", "and then", "why"]
    again = await chat(net, "so", more=("--json", "--history", str(history)))
    (fourth,) = reports(again)
    is_right(fourth, endless)
    assert fourth["prompt"] == "so"
    assert len(json.loads(history.read_text())) == 8


async def test_what_can_be_said_besides(net: LocalNetwork) -> None:
    done = await chat(
        net, "/help", "one", "/cost", "/receipt", "/policy max_price_out 0.000001", "two",
        "/policy max_price_out -", "/policy max_tokens 3", "/reset", "three", "/nonsense", "/quit", "four",
    )  # fmt: skip
    assert done.status == 1, done
    assert "Traceback" not in done.err
    for phrase in (
        "/policy NAME VALUE changes it",
        "1 questions: ",
        "the last one verified offline: yes",
        "max_price_out = 0.000001",
        "error: ",
        "max_tokens = 3",
        "/nonsense means nothing here",
        "3 out",
    ):
        assert phrase in done.err, (phrase, done.err)
    assert done.out.count("\n") >= 2


async def test_an_answer_that_broke_off_is_gone_on_with_later(net: LocalNetwork, endless: Path, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    asked = ("run", "a long one", "--max-tokens", "240", "--receipt", str(receipt), "--verbose", "--json")
    process = await net.spawn(*asked)
    await voucher_beyond(process, 90)
    os.kill(net.nodes["node1"].process.pid, signal.SIGKILL)
    out, _ = await process.communicate()
    assert process.returncode == 1
    broken = json.loads(out)
    unfinished = tmp_path / "receipt.unfinished.json"
    assert broken["unfinished_file"] == str(unfinished)
    assert f"joule run --resume {unfinished}" in broken["error"]["hint"]
    assert broken["tokens_out"] > 60
    is_right(broken | {"error": None}, endless)
    await net.start_node("node1", endless, "2:4", *ROOM)
    await net.nodes["node1"].event("node ready")
    done = await net.joule("run", "--resume", str(unfinished), "--json")
    assert done.status == 0, done
    whole = done.json()
    is_right(whole, endless)
    assert broken["tokens_out"] + whole["tokens_out"] == 240
    bundle = bundle_of(whole)
    asked_for = bundle.terms.plan.prompt - broken["tokens_out"]
    assert list(bundle.tokens[asked_for:]) == reference_tokens(endless, bundle.tokens[:asked_for], 240)
    assert whole["answer"].startswith(broken["answer"][:100])
    assert bundle.terms.continues is not None


@pytest.mark.long
async def test_an_answer_goes_on_over_another_leg_at_once(net: LocalNetwork, endless: Path) -> None:
    await net.start_node("spare", endless, "2:4", *ROOM, "--overhead-price", "0.60")
    await net.nodes["spare"].event("node ready")
    process = await net.spawn("run", "another long one", "--max-tokens", "240", "--verbose", "--json")
    await voucher_beyond(process, 90)
    os.kill(net.nodes["node1"].process.pid, signal.SIGKILL)
    out, err = await process.communicate()
    assert process.returncode == 0, (out, err)
    report = json.loads(out)
    assert (report["tokens_out"], report["error"], report["verified"]) == (240, None, True)
    is_right(report, endless)


async def test_only_one_way_to_say_what_is_asked(net: LocalNetwork, tmp_path: Path) -> None:
    file = tmp_path / "none.json"
    file.write_text("{}")
    done = await net.joule("run", "hello", "--resume", str(file))
    assert done.status == 2
    assert "--resume and PROMPT exclude each other" in done.err
    done = await net.joule("run", "--resume", str(file))
    assert done.status == 1
    assert "this is no answer that broke off" in done.err


async def test_a_signal_ends_an_answer_and_not_the_conversation(net: LocalNetwork) -> None:
    process = await net.spawn("chat", "--max-tokens", "1200")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"a very long one\n")
    await process.stdin.drain()
    assert await process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    process.stdin.write(b"/policy max_tokens 4\nand a short one\n/cost\n")
    process.stdin.write_eof()
    _, err = await process.communicate()
    assert process.returncode == 1, err  # one was not answered in full
    told = err.decode()
    assert "stopped before the answer was complete" in told, told
    assert "4 out" in told
    assert "2 questions" in told
    assert "Traceback" not in told
