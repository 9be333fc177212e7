"""Files of prompts: each answered once, also when the run is killed in the middle of an answer."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from local_network import LocalNetwork

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.asyncio]

PROMPTS = 3
TOKENS = 300


def _until_half(kept: Path) -> bool:
    """Wait until some of an answer is kept; whether it came."""
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        if kept.exists() and len(json.loads(kept.read_bytes())["answer"]) >= 30:
            return True
        time.sleep(0.02)
    return False


async def test_a_batch_that_is_killed_goes_on_and_pays_once(tmp_path: Path, endless: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"question {number}", "id": f"n{number}", "max_tokens": TOKENS} for number in range(PROMPTS)]
    file.write_text("".join(json.dumps(each) + "\n" for each in lines))
    async with LocalNetwork(tmp_path) as network:
        await network.start_ledger()
        await network.start_nodes(endless, "0:3", "3:6")
        assert (await network.joule("faucet", "2")).status == 0
        whole = await network.joule("run", "--input", str(file), "--output", str(tmp_path / "whole.jsonl"), "--json")
        assert whole.status == 0, whole
        once = whole.json()
        assert (once["answered"], once["tokens_out"]) == (PROMPTS, PROMPTS * TOKENS)
        again = (
            await network.joule("run", "--input", str(file), "--output", str(tmp_path / "whole.jsonl"), "--json")
        ).json()
        assert (again["answered"], again["paid_micro"]) == (PROMPTS, 0)

        output = tmp_path / "killed.jsonl"
        ask = ("submit", str(file), "--deadline", "1h", "--output", str(output))
        cut = await network.spawn(*ask)
        kept = tmp_path / "killed.jsonl.unfinished" / "2.json"
        assert await asyncio.to_thread(_until_half, kept)
        cut.kill()
        await cut.wait()
        came = len(json.loads(kept.read_bytes())["answer"])

        resumed = await network.joule(*ask, "--json")
        assert resumed.status == 0, resumed
        answers = {each["number"]: each for each in map(json.loads, output.read_text().splitlines())}
        expected = {
            each["number"]: each for each in map(json.loads, (tmp_path / "whole.jsonl").read_text().splitlines())
        }
        assert {number: each["answer"] for number, each in answers.items()} == {
            number: each["answer"] for number, each in expected.items()
        }
        assert len(output.read_text().splitlines()) == PROMPTS
        # What came before the kill was not generated again.
        assert answers[2]["tokens_out"] <= TOKENS - came + 1
        assert not kept.parent.exists()
