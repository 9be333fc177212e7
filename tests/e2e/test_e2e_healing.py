"""Nodes are killed in mid-answer, as processes: the answer is the one that it would have been, and so is the money."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from local_network import LocalNetwork, voucher_beyond

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

JOB = ("run", "hello", "--max-tokens", "600", "--temperature", "0.7", "--seed", "7", "--session-s", "60")
ROOM = ("--kv-tokens", "8192")
SPANS = ("0:2", "2:4", "4:6")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory, endless: Path) -> AsyncIterator[LocalNetwork]:
    """A ledger, three nodes on the route, and a dearer one with all blocks that stands by."""
    async with LocalNetwork(tmp_path_factory.mktemp("net")) as network:
        await network.start_ledger(grace_s=2)
        more = {f"node{number}": ROOM for number in range(3)}
        await network.start_nodes(endless, *SPANS, "0:6", **more, node3=(*ROOM, "--overhead-price", "9"))
        yield network


async def report_of(net: LocalNetwork, *, killed: str | None) -> dict[str, Any]:
    """The report of one job, in whose middle a node may be killed."""
    client = f"client-of-{killed}"  # one that remembers nothing of those that were killed before
    assert (await net.joule("faucet", "1", name=client)).status == 0
    process = await net.spawn(*JOB, "--standbys", "1", "--verbose", "--json", name=client)
    if killed is not None:
        await voucher_beyond(process, 100)
        os.kill(net.nodes[killed].process.pid, signal.SIGKILL)
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert b"Traceback" not in err
    events = [line for line in err.decode().splitlines() if "voucher signed" not in line]
    assert process.returncode == 0, (json.loads(out)["error"], events)
    report: dict[str, Any] = json.loads(out)
    return report


async def test_an_answer_goes_on_whichever_leg_is_killed(net: LocalNetwork, endless: Path) -> None:
    whole = await report_of(net, killed=None)
    assert whole["tokens_out"] == 600
    for number, blocks in enumerate(SPANS):
        healed = await report_of(net, killed=f"node{number}")
        assert healed["answer"] == whole["answer"]
        assert healed["tokens_out"] == 600
        await net.start_node(f"node{number}", endless, blocks, *ROOM)
        await net.nodes[f"node{number}"].event("node ready")
