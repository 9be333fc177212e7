"""One trace of a job through all processes that took part in it, as a collector has it, and no word of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from local_network import LocalNetwork
from trace_collector import collector

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]


async def test_client_and_legs_of_a_job_are_one_trace(tmp_path: Path, endless: Path) -> None:
    async with collector() as (found, url), LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        traced = ("--otlp", url)
        await network.start_nodes(endless, "0:3", "3:6", node0=traced, node1=traced)
        assert (await network.joule("faucet", "4")).status == 0
        done = await network.joule("run", "a boy and a dog", "--max-tokens", "6", *traced)
        assert done.status == 0, done.err
        for node in network.nodes.values():
            await node.stop()  # what it has not sent yet goes now
    (job,) = [each for each in found.spans if each["name"] == "job"]
    legs = [each for each in found.spans if each["name"] == "leg"]
    assert len(legs) == 2
    assert {each["traceId"] for each in legs} == {job["traceId"]}
    assert {each["parentSpanId"] for each in legs} == {job["spanId"]}
    sent = json.dumps(found.bodies)
    for words in ("a boy", "dog", done.out.strip().splitlines()[0]):
        assert words not in sent
