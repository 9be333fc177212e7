"""How fast a long prompt goes through three nodes, against one process that holds all blocks.

Everything is real, as in `bench_hop`. Both sides take the same prompt, several times in turn; what counts is the time
from the first of the prompt to the first token, on the ring's side with orders, payment and receipts.

    python scripts/bench_prefill.py
    python scripts/bench_prefill.py --tokens 2000 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_hop import LARGE_SPANS
from measured_market import LARGE, make_model, market, served
from measured_ring import ROOM

from node.app.buying.client import Client
from node.app.buying.request import Request
from node.engine.engine import Engine
from node.ports import StepInput, StepOutput

ROUNDS = 3


def alone_s(engine: Engine, prompt: tuple[int, ...], rows: int) -> float:
    """Seconds in one engine, so many rows at a time."""
    engine.open(b"bench", max_tokens=len(prompt) + 1)
    began = time.perf_counter()
    for at in range(0, len(prompt), rows):
        data = prompt[at : at + rows]
        draws = int(at + rows >= len(prompt))
        (output,) = engine.forward([StepInput(session=b"bench", position=at, length=len(data), data=data, draws=draws)])
        if not isinstance(output, StepOutput):
            raise RuntimeError("the engine failed") from output
    seconds = time.perf_counter() - began
    engine.close(b"bench")
    return seconds


async def ring_s(client: Client, prompt: tuple[int, ...]) -> float:
    """Seconds from the job's acceptance to its first token."""
    result = await served(client, Request(prompt=prompt, most=2))
    if result.accepted_s is None:
        raise RuntimeError("the job was not accepted")
    return result.token_times_s[0] - result.accepted_s


async def measure(tokens: int) -> dict[str, Any]:
    """The fastest of some rounds on each side: the machine does other things, too."""
    with tempfile.TemporaryDirectory() as home:
        model = Path(home) / "model"
        make_model(model, LARGE)
        engine = Engine.load(model, 0, LARGE.layers, kv_tokens=tokens + 64)
        ring, alone = [], []
        async with market(model, LARGE_SPANS, *ROOM) as whole, whole.client() as client:
            for number in range(ROUNDS):
                prompt = tuple((7 * number + 11 * at) % LARGE.vocabulary for at in range(tokens))
                ring.append(await ring_s(client, prompt))
                alone.append(min(alone_s(engine, prompt, rows) for rows in (128, 512)))
    return {
        "row": f"prompt of {tokens}",
        "ours": tokens / min(ring),
        "other": tokens / min(alone),
        "unit": "tokens/s",
        "ratio": min(alone) / min(ring),
    }


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1900)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = asyncio.run(measure(chosen.tokens))
    if chosen.json:
        print(json.dumps(found))
        return
    print(
        f"{found['row']:<18} ring of three {found['ours']:7.1f} tokens/s   one process {found['other']:7.1f} tokens/s"
        f"   ratio {found['ratio']:.2f}   (target 1.5)"
    )


if __name__ == "__main__":
    main()
