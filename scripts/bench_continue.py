"""First tokens with positions that the legs still hold, against without: second turns, and many that begin alike.

Real nodes with a random model of hidden 1,024 and 8 layers (one thread each, TLS on loopback, vouchers, receipts). A
first job leaves its positions warm; then the same second turn is asked twice, once as what goes on from the first and
once as a job that begins anew, in turns. Prints the medians of the time from the order of the session to the first
token, and their ratio. The target is a fifth, at 1,500 positions. With `--alike` so many sessions of one client begin
with the same 1,000 tokens, at once and after one that did: an eighth.

    python scripts/bench_continue.py [--positions 1500] [--rounds 5] [--legs 3] [--alike 16] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from pathlib import Path
from statistics import median

from measured_market import LONG, make_model, market, served

from node.app.buying.continuing import Earlier
from node.app.buying.request import Request

ANSWER = 16
"""Tokens of the first answer."""
NEW = 16
"""Prompt tokens of the second turn that the first one did not have."""


async def measured(model: Path, legs: int, positions: int, rounds: int) -> dict[str, list[float]]:
    """Seconds to the first token of second turns, by side."""
    found: dict[str, list[float]] = {"warm": [], "anew": []}
    room = ("--kv-tokens", str(6 * positions), "--joules-per-token", "1", "--chunk", "512")
    async with market(model, LONG.spans(legs), *room, "--jurisdiction", "DE") as ring, ring.client() as client:
        for number in range(rounds):
            prompt = tuple(random.choices(range(3, LONG.vocabulary), k=positions - ANSWER))
            first = await served(client, Request(prompt=prompt, most=ANSWER))
            earlier = Earlier.of(first)
            for side in ("warm", "anew") if number % 2 else ("anew", "warm"):
                again = (*first.tab.tokens, *random.choices(range(3, LONG.vocabulary), k=NEW))
                continued = earlier if side == "warm" else None
                second = await served(client, Request(prompt=again, most=4, earlier=continued))
                held = min(each.start for each in second.tab.joinings)
                if bool(held) is not (side == "warm"):
                    raise RuntimeError(f"{held} positions were held where it was to be {side}")
                found[side].append(second.token_times_s[0] - second.started_s)
    return found


async def alike(model: Path, legs: int, sessions: int, common: int = 1_000) -> dict[str, list[float]]:
    """Seconds to the first tokens of sessions that begin alike, at once, by side."""
    found: dict[str, list[float]] = {}
    kv_tokens = (sessions + 2) * (common + 64)
    room = ("--kv-tokens", str(kv_tokens), "--max-sessions", "64", "--wait", "60", "--joules-per-token", "1")
    async with market(model, LONG.spans(legs), *room, "--jurisdiction", "DE") as ring, ring.client() as client:
        for side in ("warm", "anew"):
            begins = tuple(random.choices(range(3, LONG.vocabulary), k=common))
            first = await served(client, Request(prompt=(*begins, 3), most=2))
            earlier = Earlier.of(first) if side == "warm" else None
            prompts = [(*begins, *random.choices(range(3, LONG.vocabulary), k=NEW)) for _ in range(sessions)]
            asks = [served(client, Request(prompt=each, most=2, earlier=earlier)) for each in prompts]
            results = await asyncio.gather(*asks)
            if any(bool(min(each.start for each in result.tab.joinings)) is not (side == "warm") for result in results):
                raise RuntimeError("not all sessions had what was to be held")
            found[side] = [result.token_times_s[0] - result.started_s for result in results]
    return found


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--legs", type=int, default=3)
    parser.add_argument("--alike", type=int, default=0, help="so many sessions that begin alike, in place of turns")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="joulemesh-model-") as folder:
        make_model(Path(folder), LONG._replace(context=2 * chosen.positions))
        asked = (
            alike(Path(folder), chosen.legs, chosen.alike)
            if chosen.alike
            else measured(Path(folder), chosen.legs, chosen.positions, chosen.rounds)
        )
        sides = asyncio.run(asked)
    middle = {side: median(times) for side, times in sides.items()}
    ratio = middle["warm"] / middle["anew"]
    if chosen.json:
        print(json.dumps({"seconds": sides, "ratio": ratio, "target": 0.125 if chosen.alike else 0.2}))
        return
    if chosen.alike:
        print(f"first tokens of {chosen.alike} that begin alike: {middle['warm']:.3f} s, anew {middle['anew']:.3f} s")
        print(f"ratio {ratio:.3f} (target: at most 0.125)")
        return
    print(f"first token of a second turn, {chosen.positions} positions held: {middle['warm']:.3f} s")
    print(f"the same begun anew:                                {middle['anew']:.3f} s")
    print(f"ratio {ratio:.3f} (target: at most 0.2)")


if __name__ == "__main__":
    main()
