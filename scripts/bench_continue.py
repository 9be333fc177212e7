"""The first token of a chat's second turn: with the first turn's positions still held by the legs, against without.

Real nodes with a random model of hidden 1,024 and 8 layers (one thread each, TLS on loopback, vouchers, receipts). A
first job leaves its positions warm; then the same second turn is asked twice, once as what goes on from the first and
once as a job that begins anew, in turns. Prints the medians of the time from the order of the session to the first
token, and their ratio. The target is a fifth, at 1,500 positions.

    python scripts/bench_continue.py [--positions 1500] [--rounds 5] [--legs 3] [--json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

from node.app.audit import BUNDLED_MODEL
from node.app.client import Client, open_client
from node.app.continuing import Earlier
from node.app.planning import Request
from node.config import ClientConfig
from node.demo.processes import ProcessGroup
from node.events import unheard
from node.keystore import LIGHT, Keystore, generate
from node.pipeline.buying.job import JobResult
from protocol.units import MICRO

LAYERS, HIDDEN = 8, 1024
ANSWER = 16
"""Tokens of the first answer."""
NEW = 16
"""Prompt tokens of the second turn that the first one did not have."""


def write_model(directory: Path, context: int) -> int:
    """A random model with the tokenizer of the demo's; its vocabulary."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary: int = json.loads((BUNDLED_MODEL / "config.json").read_text())["vocab_size"]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 11 // 4,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
        num_key_value_heads=4,
        max_position_embeddings=context,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(BUNDLED_MODEL / name, directory)
    return vocabulary


@asynccontextmanager
async def market(model: Path, legs: int, positions: int) -> AsyncIterator[Client]:
    """Nodes, and a client with money."""
    folder, passphrase = Path(tempfile.mkdtemp(prefix="joulemesh-bench-")), secrets.token_urlsafe(16)

    def environment(name: str) -> dict[str, str]:
        Keystore(folder / name / "keys").create("default", generate(), passphrase, work_factor=LIGHT)
        return {"JOULE_HOME": str(folder / name), "JOULE_PASSPHRASE": passphrase, "OMP_NUM_THREADS": "1"}

    try:
        async with AsyncExitStack() as stack:
            ledgers, nodes = [await stack.enter_async_context(ProcessGroup()) for _ in range(2)]
            ledger = ["ledger", "run", "--port", "0", "--grace-s", "60", "--faucet-limit", "5"]
            ready = await (await ledgers.start("ledger", ledger, environment("ledger"))).event("ledger ready")
            common = ["node", "run", "--model", str(model), "--ledger", ready["url"], "--jurisdiction", "DE"]
            common += ["--kv-tokens", str(6 * positions), "--joules-per-token", "1", "--chunk", "512"]
            cuts = [LAYERS * leg // legs for leg in range(legs + 1)]
            started = [
                await nodes.start(f"node{start}", [*common, "--blocks", f"{start}:{end}"], environment(f"node{start}"))
                for start, end in pairwise(cuts)
            ]
            for process in started:
                await process.event("node ready", timeout_s=120.0)
            config = ClientConfig(ledger=ready["url"], data_dir=folder / "client", latency_class="batch")
            client = await stack.enter_async_context(open_client(config, generate(), unheard))
            await client.faucet(5 * MICRO)
            await client.offers(30.0)
            yield client
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def job(client: Client, request: Request) -> JobResult:
    """One that is served to its end."""
    async with await client.execute(await client.plan(request)) as tokens:
        async for _ in tokens:
            pass
    result = tokens.result
    if result is None or result.error is not None or len(tokens.results) > 1:
        raise RuntimeError(f"a job failed: {None if result is None else result.error}")
    return result


async def measured(model: Path, vocabulary: int, legs: int, positions: int, rounds: int) -> dict[str, list[float]]:
    """Seconds to the first token of second turns, by side."""
    found: dict[str, list[float]] = {"warm": [], "anew": []}
    async with market(model, legs, positions) as client:
        for number in range(rounds):
            prompt = tuple(random.choices(range(3, vocabulary), k=positions - ANSWER))
            first = await job(client, Request(prompt=prompt, most=ANSWER))
            earlier = Earlier.of(first)
            for side in ("warm", "anew") if number % 2 else ("anew", "warm"):
                again = (*first.tab.tokens, *random.choices(range(3, vocabulary), k=NEW))
                continued = earlier if side == "warm" else None
                second = await job(client, Request(prompt=again, most=4, earlier=continued))
                held = min(each.start for each in second.tab.joinings)
                if bool(held) is not (side == "warm"):
                    raise RuntimeError(f"{held} positions were held where it was to be {side}")
                found[side].append(second.token_times_s[0] - second.started_s)
    return found


def main() -> None:
    """Print the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=1_500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--legs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="joulemesh-model-") as folder:
        vocabulary = write_model(Path(folder), 2 * chosen.positions)
        sides = asyncio.run(measured(Path(folder), vocabulary, chosen.legs, chosen.positions, chosen.rounds))
    middle = {side: median(times) for side, times in sides.items()}
    ratio = middle["warm"] / middle["anew"]
    if chosen.json:
        print(json.dumps({"seconds": sides, "ratio": ratio, "target": 0.2}))
        return
    print(f"first token of a second turn, {chosen.positions} positions held: {middle['warm']:.3f} s")
    print(f"the same begun anew:                                {middle['anew']:.3f} s")
    print(f"ratio {ratio:.3f} (target: at most 0.2)")


if __name__ == "__main__":
    main()
