"""How long an answer stands still when a leg dies, and what healing is worth against starting anew.

`kill`: real processes on the bundled model, three nodes and one that stands by for all blocks. In each round one
leg is killed when a session has about 500 positions; the gap until the next token is set against a usual one, and
parted in what it took to find out and to take up the new route, and the rest: the replay.

`steps`: 1,024 tokens over four legs, where each step a leg dies with probability 1e-3 and another is there after 1 s.
It is played on a virtual clock by the provider's and the client's own code, with an arithmetic engine whose passes take
the times given (`TOKEN_MS`, `ROW_MS`: those of a node with a fourth of a model of hidden 1,024 and 8 layers). What it
takes to begin anew after each death follows from the times of a job that nobody disturbed.

    PYTHONPATH=.:tests/support python scripts/bench_healing.py kill [--rounds 10] [--json]
    PYTHONPATH=.:tests/support python scripts/bench_healing.py steps [--jobs 5] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Self, TypeVar

from counting_engine import CountingEngine
from small_market import BLOCKS, SmallMarket, limits_of
from virtual_loop import run_virtually

from node.ports import StepInput, StepOutput
from node.worker import InlineWorker
from protocol.routing.routes import MAX_LEGS

T = TypeVar("T")

PROMPT = 440
"""Tokens."""
KILL_AT = 60
"""Tokens of the answer: with the prompt 500 positions."""
TOKENS = 70
STEPS_TOKENS = 1024
STEPS_LEGS = ((0, 1), (1, 3), (3, 4), (4, 6))
DIES = 1e-3
"""Probability for each leg and token."""
READY_S = 1.0
"""Until a leg that died has a replacement."""
TOKEN_MS, ROW_MS = 12.0, 1.5
"""Of a leg's pass for a token alone, and of a prompt's row among many."""


# A leg is killed, as a process


async def kills(rounds: int) -> dict[str, Any]:
    """Gaps in seconds."""
    from node.demo.market import NODES, STANDBY, demo_market

    gaps, usual, heals = [], [], []
    for number in range(rounds):
        async with demo_market(lambda _: None) as market:
            await market.start((*NODES, STANDBY), lambda _: None)
            async with market.client("client", standbys=1, temperature_milli=700, seed=7) as client:
                gap, token, healed = await killed(market, client, NODES[number % len(NODES)].name)
        gaps.append(gap)
        usual.append(token)
        heals.append(healed)
        print(f"round {number}: {gap:.3f} s without a token, {healed:.3f} s of them healing", file=sys.stderr)
    ascending = sorted(gaps)
    return {
        "rounds": rounds,
        "positions": PROMPT + KILL_AT,
        "token_s": statistics.median(usual),
        "gap_p50_s": statistics.median(gaps),
        "gap_p95_s": ascending[-(-len(ascending) * 95 // 100) - 1],
        "healing_p50_s": statistics.median(heals),
        "replay_p50_s": statistics.median(gap - healed for gap, healed in zip(gaps, heals, strict=True)),
    }


async def killed(market: Any, client: Any, name: str) -> tuple[float, float, float]:
    """One job in whose middle this node is killed: the longest gap, the usual one, and the seconds of the healing."""
    from node.app.buying.request import Request

    text = await client.text(await client.model(None))
    words = text.encode("Once upon a time there was a little fox who lived in the woods with her friend the owl. " * 30)
    plan = await client.plan(Request(prompt=tuple(words[:PROMPT]), most=TOKENS))
    async with await client.execute(plan) as tokens:
        count = 0
        async for _ in tokens:
            count += 1
            if count == KILL_AT:
                market.kill(name)
    result = tokens.result
    if result.error is not None or len(result.healed) != 1:
        raise RuntimeError(f"not healed as it should be: {result.error}, {result.healed}")
    times = [after - before for before, after in pairwise(result.token_times_s)]
    return max(times[KILL_AT - 5 :]), statistics.median(times[: KILL_AT - 5]), result.healed[0].seconds


# Legs die step by step, on a virtual clock


class TimedEngine(CountingEngine):
    """Knows how long its last call would have taken a real one."""

    took_s = 0.0
    standby = False

    def open(self, *args: Any, **named: Any) -> None:
        super().open(*args, **named)
        self.took_s = READY_S if self.standby else 0.0

    def forward(self, items: Sequence[StepInput]) -> list[StepOutput | Exception]:
        rows = sum(item.length for item in items)
        self.took_s = (TOKEN_MS if rows == 1 else max(TOKEN_MS, rows * ROW_MS)) / 1000
        return super().forward(items)


class TimedWorker(InlineWorker):
    """Lets the time pass that a call takes."""

    def __init__(self, engine: TimedEngine) -> None:
        self._engine = engine

    async def run(self, call: Callable[[], T]) -> T:
        self._engine.took_s = 0.0
        found = await super().run(call)
        await asyncio.sleep(self._engine.took_s)
        return found


class TimedMarket(SmallMarket):
    """Four legs, and others for all blocks that stand by; passes take their time."""

    async def __aenter__(self) -> Self:
        for number, node in enumerate(self.nodes):
            node.limits = limits_of(idle_s=3600.0)
            node.engine = engine = TimedEngine(node.span.start, node.span.end, BLOCKS)
            engine.standby = number >= self.on_route
            await node.start()
            node.provider._compute._worker = TimedWorker(engine)
        return self


async def played(folder: Path, deaths: Sequence[tuple[int, int]]) -> list[float]:
    """Seconds from the start to each token; at these tokens the leg at this place of the route dies."""
    spares = ((0, BLOCKS),) * len(deaths)
    async with TimedMarket(folder, spans=STEPS_LEGS, spares=spares, money=10**9) as market:
        deal = market.deal(tuple(range(1, 33)), STEPS_TOKENS, window=16, chunk=32, ahead=2, expiry_s=100_000)
        left = list(deaths)
        async with market.client.start(deal) as job:
            count = 0
            async for _ in job:
                count += 1
                while left and left[0][0] <= count:
                    _, place = left.pop(0)
                    leg = job.result.tab.book.route[place].leg
                    if market.nodes[leg].alive:
                        await market.kill(leg)
    result = job.result
    if result.error is not None or count != STEPS_TOKENS:
        raise RuntimeError(f"not healed: {result.error}")
    return [time - result.started_s for time in result.token_times_s]


def some_deaths(chance: Random) -> list[tuple[int, int]]:
    """Token and place."""
    places = range(len(STEPS_LEGS))
    return [(token, place) for token in range(1, STEPS_TOKENS) for place in places if chance.random() < DIES]


def begun_anew(times: Sequence[float]) -> float:
    """Seconds until an answer is whole that is begun anew whenever a leg dies: what is to be expected."""
    lives = (1 - DIES) ** len(STEPS_LEGS)
    lost = sum((1 - lives) * lives**token * (time + READY_S) for token, time in enumerate(times[:-1]))
    return lost / lives ** (len(times) - 1) + times[-1]


def steps(jobs: int) -> dict[str, Any]:
    """Seconds of whole answers, healed and begun anew."""
    chance = Random(1)

    def play(deaths: Sequence[tuple[int, int]]) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            return run_virtually(played(Path(folder), deaths))

    whole, healed, died = play(()), [], 0
    for number in range(jobs):
        deaths = some_deaths(chance)[: MAX_LEGS - len(STEPS_LEGS)]
        died += len(deaths)
        healed.append(play(deaths)[-1])
        print(f"job {number}: {len(deaths)} deaths, {healed[-1]:.1f} s", file=sys.stderr)
    anew = begun_anew(whole)
    return {
        "jobs": jobs,
        "deaths_a_job": died / jobs,
        "undisturbed_s": whole[-1],
        "healed_s": statistics.fmean(healed),
        "begun_anew_s": anew,
        "ratio": anew / statistics.fmean(healed),
    }


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("kill", "steps"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(kills(given.rounds)) if given.what == "kill" else steps(given.jobs)
    print(json.dumps(found) if given.json else "\n".join(f"{name}: {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
