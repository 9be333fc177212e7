"""What the gateway adds to a token and to the first one, against `joule run` beside it.

    python scripts/bench_gateway.py

A ledger, six nodes of the demo model and a gateway, each a process. The same questions go by `joule run` and by the
gateway, in turns: times from asking to the first token, and between tokens. Many streams at once: `load_gateway.py`.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import aiohttp
from local_network import LocalNetwork

from node.app.buying.asking import Question
from node.app.buying.audit import BUNDLED_MODEL
from node.app.buying.client import Client, open_client
from node.app.models.prompt import Prompt
from node.config import ClientConfig
from node.events import unheard
from node.keystore import generate

QUESTION = "Write a story about Mia and a red kite in the park."
TURNS = 8
TOKENS = 48
ROOM = ("--kv-tokens", "16384", "--max-sessions", "64")


async def streamed(
    http: aiohttp.ClientSession, url: str, *, tokens: int = TOKENS, seed: int = 1
) -> tuple[list[float], str]:
    """Times of the pieces of one answer since it was asked, and its last line."""
    body = {
        "model": "llama-6x192",
        "prompt": QUESTION,
        "max_tokens": tokens,
        "stream": True,
        "seed": seed,
        "temperature": 1,
    }
    begun, times, last = time.monotonic(), [], ""
    async with http.post(f"{url}/completions", json=body) as response:
        async for line in response.content:
            if line.strip():
                last = line.decode().strip()
            if response.status == 200 and line.startswith(b"data: {") and b'"finish_reason":null' in line:
                times.append(time.monotonic() - begun)
    return times, last


async def run_command(net: LocalNetwork) -> float:
    """Seconds from starting `joule run` to its first character."""
    begun = time.monotonic()
    process = await net.spawn("run", QUESTION, "--raw", "--max-tokens", "8", name="other")
    await process.stdout.read(1)
    first_s = time.monotonic() - begun
    await process.communicate()
    return first_s


@asynccontextmanager
async def direct_client(net: LocalNetwork) -> AsyncIterator[Client]:
    """What `joule run` is, in one process that goes on."""
    config = ClientConfig(
        ledger=net.url, data_dir=net.home / "direct", max_tokens=TOKENS, temperature_milli=1000, seed=1
    )
    async with open_client(config, generate(), unheard) as client:
        await client.faucet(1_000_000)
        yield client


async def by_client(client: Client) -> tuple[list[float], tuple[float, ...]]:
    """Seconds between tokens of an answer; and those to its plan, its open session, all acceptances
    and the first token, each from the one before."""
    times: list[float] = []
    begun = asyncio.get_running_loop().time()
    question = await Question.plan(client, Prompt(raw=QUESTION))
    await question.answer(lambda _piece: times.append(time.monotonic()))
    await question.report()
    (result,) = question._job.results
    moments = (begun, result.started_s, result.funded_s or 0.0, result.accepted_s or 0.0, result.token_times_s[0])
    parts = tuple(after - before for before, after in pairwise(moments))
    return [after - before for before, after in pairwise(times)], parts


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LocalNetwork(Path(folder)) as net:
            await net.start_ledger(grace_s=2, faucet="1000")
            await net.start_nodes(BUNDLED_MODEL, *("0:3", "3:6") * 3, **{f"node{number}": ROOM for number in range(6)})
            for name in ("client", "other"):
                await net.joule("faucet", "500", name=name)
            gateway = await net.start("client", "gateway", "run", "--port", "0", "--ledger", net.url)
            url = (await gateway.event("gateway ready"))["url"]
            async with aiohttp.ClientSession() as http, direct_client(net) as client:
                await streamed(http, url)
                firsts, gaps, commands, direct = list[float](), list[float](), list[float](), list[float]()
                parts = list[tuple[float, ...]]()
                for _ in range(TURNS):  # in turns: whatever else runs here slows both
                    times, _ = await streamed(http, url)
                    firsts.append(times[0])
                    gaps += [after - before for before, after in pairwise(times)]
                    between, of_first = await by_client(client)
                    direct += between
                    parts.append(of_first)
                    commands.append(await run_command(net))
            first, command = statistics.median(firsts), statistics.median(commands)
            print(
                f"first token: {first * 1000:.0f} ms by the gateway, {command * 1000:.0f} ms by joule run: "
                f"{first / command:.2f} (target 0.5)"
            )
            for name, each in zip(
                ("plan", "session open", "orders taken", "first token"), zip(*parts, strict=True), strict=True
            ):
                print(f"  of a client's first token, {name}: {statistics.median(each) * 1000:.0f} ms")
            gap, own = statistics.median(gaps), statistics.median(direct)
            print(
                f"between tokens, p50: {gap * 1000:.1f} ms by the gateway, {own * 1000:.1f} ms by a client: "
                f"{(gap - own) * 1000:+.1f} ms (target 3 ms)"
            )
            await gateway.stop()
            print(json.dumps({"cpu_s": resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime}))


if __name__ == "__main__":
    asyncio.run(main())
