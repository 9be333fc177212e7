"""Nodes that promise more room than they have, as processes on real blocks: who gives way has the same answer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from local_network import LocalNetwork

from protocol.receipts.bundle import verify_bundle
from protocol.receipts.bundle_file import load_bundle

TOKENS = 240
ROOM = ("--kv-tokens", "384", "--overcommit", "400", "--wait", "60")
AT_ONCE = 3

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.asyncio]


async def ask(network: LocalNetwork, name: str) -> dict[str, Any]:
    """The report of a job whose receipt holds."""
    receipt = network.home / f"{name}.json"
    done = await network.joule(
        "run", "hello", "--max-tokens", str(TOKENS), "--temperature", "0.7", "--seed", "7",
        "--receipt", str(receipt), "--verbose", "--json", name=name,
    )  # fmt: skip
    assert (done.status, "Traceback" in done.err) == (0, False), (done.out, done.err)
    verify_bundle(load_bundle(receipt.read_bytes()))
    report: dict[str, Any] = json.loads(done.out)
    return report


async def test_who_gives_way_has_the_same_answer(tmp_path: Path, endless: Path) -> None:
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        spans = ("0:3", "3:6")
        more = {f"node{number}": ROOM for number in range(len(spans))}
        await network.start_nodes(endless, *spans, **more)
        names = ["alone", *(f"client{number}" for number in range(AT_ONCE))]
        for name in names:
            assert (await network.joule("faucet", "1", name=name)).status == 0
        alone = await ask(network, names[0])
        reports = await asyncio.gather(*(ask(network, name) for name in names[1:]))
    assert {report["answer"] for report in reports} == {alone["answer"]}
    healed = [each for report in reports for each in report["healed"]]
    assert any("had made room" in each["why"] for each in healed), healed
