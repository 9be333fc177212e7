"""How long running answers stand still while a long prompt arrives: prompts cut to size, against prompts in one piece.

Real nodes with a random model of hidden 1,024 and 8 layers (one thread each, TLS on loopback, vouchers, receipts), some
streams of one client, and then a prompt of 4,000 tokens of another. The same three times:

- ``cut``: as nodes run by themselves;
- ``pieces``: no bound on a pass, so that the prompt runs in pieces of the client's chunk (256);
- ``whole``: no bound on a pass, and a chunk as long as the prompt.

Prints the largest time between two tokens of a stream from when the prompt is ordered until its first token and each
stream's next one have come, and its ratio to that of ``whole``. Streams that are given up on count with the time until
then. Absolute figures depend on the machine and on what else it does.

    python scripts/bench_fairness.py [--streams 8] [--prompt 4000] [--legs 3] [--sides cut,whole] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from measured_market import LONG, make_model, market

from node.app.buying.execution import Execution
from node.app.buying.request import Request

ANSWER = 2_000
"""Tokens that each stream may have at most: more than it gets to."""
BEFORE = 24
"""Tokens of each stream before the prompt comes; the later half is what is usual."""
SIDES = {"cut": ((), None), "pieces": (("--stretch", "0"), None), "whole": (("--stretch", "0"), "prompt")}


@dataclass(frozen=True, slots=True)
class Setting:
    """What is run."""

    model: Path
    streams: int
    prompt: int
    legs: int

    def tokens(self, count: int) -> tuple[int, ...]:
        """A prompt."""
        return tuple(random.choices(range(3, LONG.vocabulary), k=count))


@dataclass(slots=True)
class Stream:
    """One answer as it comes."""

    job: Execution
    times_s: list[float] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    async def read(self) -> None:
        """Until it ends, or is cancelled."""
        try:
            async with self.job as tokens:
                async for _ in tokens:
                    self.times_s.append(time.perf_counter())
                    self.came.set()
        finally:
            self.over = True
            self.times_s.append(time.perf_counter())
            self.came.set()

    async def until(self, count: int) -> None:
        """So many tokens have come, or the end."""
        while len(self.times_s) < count and not self.over:
            self.came.clear()
            await self.came.wait()

    def gap_s(self, since_s: float, until_s: float) -> float:
        """The largest time between two tokens of which the later one came in that time."""
        return max((b - a for a, b in pairwise(self.times_s) if since_s <= b <= until_s), default=0.0)


async def measured(setting: Setting, arguments: Sequence[str], chunk: int | None) -> dict[str, float]:
    """One side."""
    tokens = setting.streams * 2 * ANSWER + 2 * setting.prompt + 64
    room = ("--kv-tokens", str(tokens), "--max-sessions", "64", "--joules-per-token", "1", "--jurisdiction", "DE")
    async with (
        market(setting.model, LONG.spans(setting.legs), *room, *arguments) as ring,
        ring.client("streams") as client,
        ring.client("prompt") as other,
        asyncio.TaskGroup() as group,
    ):
        streams, tasks = [], []
        for _ in range(setting.streams):
            request = Request(prompt=setting.tokens(16), most=ANSWER)
            streams.append(Stream(await client.execute(await client.plan(request))))
            tasks.append(group.create_task(streams[-1].read()))
        for stream in streams:
            await stream.until(1)
        begun = [len(stream.times_s) for stream in streams]
        for stream, count in zip(streams, begun, strict=True):
            await stream.until(count + BEFORE)
        usual_from = min(stream.times_s[count + BEFORE // 2 - 1] for stream, count in zip(streams, begun, strict=True))
        ordered_s = time.perf_counter()
        request = Request(prompt=setting.tokens(setting.prompt), most=8)
        if chunk is not None:
            request = Request(prompt=request.prompt, most=8, chunk=chunk)
        long = Stream(await other.execute(await other.plan(request)))
        reading = group.create_task(long.read())
        await long.until(1)
        came_s = time.perf_counter()
        for stream in streams:
            await stream.until(len(stream.times_s) + 2)
        end_s = time.perf_counter()
        ended = sum(stream.over for stream in streams)
        for task in (*tasks, reading):
            task.cancel()
        await asyncio.gather(*tasks, reading, return_exceptions=True)
    usual = [b - a for each in streams for a, b in pairwise(each.times_s) if usual_from <= b <= ordered_s]
    during = [b - a for each in streams for a, b in pairwise(each.times_s) if ordered_s <= b <= came_s]
    return {
        "largest_gap_s": max(stream.gap_s(ordered_s, end_s) for stream in streams),
        "usual_gap_s": median(usual),
        "largest_usual_gap_s": max(usual),
        "median_gap_meanwhile_s": median(during) if during else came_s - ordered_s,
        "first_token_s": came_s - ordered_s,
        "streams_ended": ended,
        "prompt_failed": float(long.job.result is not None and long.job.result.error is not None),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt", type=int, default=4_000)
    parser.add_argument("--legs", type=int, default=3)
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="joulemesh-model-") as folder:
        make_model(Path(folder), LONG._replace(context=max(2 * ANSWER, 2 * chosen.prompt)))
        setting = Setting(Path(folder), chosen.streams, chosen.prompt, chosen.legs)
        for side in chosen.sides.split(","):
            arguments, whole = SIDES[side]
            chunk = chosen.prompt if whole else None
            most = ("--chunk", str(max(512, chunk or 0)))
            found[side] = asyncio.run(measured(setting, (*arguments, *most), chunk))
            if not chosen.json:
                print(side, " ".join(f"{name} {value:.3f}" for name, value in found[side].items()), flush=True)
    ratios = {
        f"{side} / whole": figures["largest_gap_s"] / found["whole"]["largest_gap_s"]
        for side, figures in found.items()
        if side != "whole" and "whole" in found
    }
    if chosen.json:
        print(json.dumps({"sides": found, "ratios": ratios}))
        return
    for name, ratio in ratios.items():
        print(f"largest gap, {name:<15} {ratio:.3f}")


if __name__ == "__main__":
    main()
