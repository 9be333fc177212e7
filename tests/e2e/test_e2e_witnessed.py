"""A witnessed ledger under real processes: who asks for cosignatures trades with them, and not without."""

from __future__ import annotations

from pathlib import Path

import pytest
from local_network import LocalNetwork

pytestmark = [pytest.mark.slow, pytest.mark.asyncio]


async def test_a_job_runs_under_cosignatures_and_none_without_them(llama: Path, tmp_path: Path) -> None:
    async with LocalNetwork(tmp_path) as net:
        await net.start_ledger()
        assert net.ledger is not None
        log, port = (await net.ledger.event("ledger ready"))["verifier_key"], net.url.rsplit(":", 1)[1]
        witness = await net.start(
            "witness", "witness", "run", "--name", "witness.example", "--log", f"{log}@{net.url}", "--port", "0",
            "--validate", "yes",
        )  # fmt: skip
        ready = await witness.event("witness ready")
        key = ready["verifier_key"]
        await net.ledger.stop()
        net.ledger = await net.start(
            "ledger", "ledger", "run", "--port", port, "--grace-s", "2", "--faucet-limit", "5",
            "--witnessed-by", f"{key}@{ready['url']}",
        )  # fmt: skip
        await net.ledger.event("witness back")
        await net.start_nodes(llama, "0:6", node0=("--witness", key, "--min-witnesses", "1"))
        assert (await net.joule("faucet", "1")).status == 0
        # A client that asks for nothing hands on evidence that the node does not take.
        careless = await net.joule("run", "hello", "--max-tokens", "4")
        assert careless.status == 1
        assert "witness.example" in careless.err
        strict = {"JOULE_WITNESSES": key, "JOULE_MIN_WITNESSES": "1"}
        assert (await net.joule("run", "hello", "--max-tokens", "4", **strict)).status == 0
        await witness.stop()
        await net.ledger.event("witness lost")
        assert (await net.joule("faucet", "1", **strict)).status == 0
        without = await net.joule("run", "hello", "--max-tokens", "4", **strict)
        assert without.status == 1
        assert "0 of the 1 witnesses" in without.err
        assert (await net.joule("balance")).status == 0
