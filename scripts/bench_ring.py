"""How much of a token's time is the network's: three nodes in a ring against the same blocks in one process.

Runs the demo's market once (real processes, TLS on loopback, vouchers, receipts) and, around it, the same prompt
through our engine and through transformers' `generate` in this process, one thread each. Prints ratios; absolute
figures depend on the machine and on what else it does.

    python scripts/bench_ring.py
"""

from __future__ import annotations

import asyncio
import time

from node.app.buying.audit import BUNDLED_MODEL
from node.demo.run import DEFAULT_PROMPT, run_demo
from node.engine.engine import Engine
from node.ports import StepInput, StepOutput

HOPS = 3


def engine_rate(tokens: list[int], count: int) -> float:
    """Tokens per second of all blocks in one engine."""
    engine = Engine.load(BUNDLED_MODEL, 0, 6, kv_tokens=512)
    engine.open(b"bench", max_tokens=512)
    data, position, began = tuple(tokens), 0, 0.0
    for _ in range(count):
        item = StepInput(session=b"bench", position=position, length=len(data), data=data, draws=1)
        (output,) = engine.forward([item])
        if not isinstance(output, StepOutput) or not output.tokens:
            raise RuntimeError("the engine drew no token")
        began = began or time.perf_counter()
        position, data = position + len(data), output.tokens
    return (count - 1) / (time.perf_counter() - began)


def generate_rate(tokens: list[int], count: int) -> float:
    """Tokens per second of transformers' own generation, prefill left out."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(BUNDLED_MODEL, dtype=torch.float32)
    ids = torch.tensor([tokens])
    settings = {"do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}
    times = []
    for most in (1, count):
        began = time.perf_counter()
        model.generate(ids, max_new_tokens=most, min_new_tokens=most, **settings)
        times.append(time.perf_counter() - began)
    return (count - 1) / (times[1] - times[0])


def main() -> None:
    """Print the table."""
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(str(BUNDLED_MODEL / "tokenizer.json")).encode(DEFAULT_PROMPT).ids
    engine = [engine_rate(tokens, 80)]
    result = asyncio.run(run_demo(None, say=print, write=lambda _piece: None))
    engine.append(engine_rate(tokens, 80))
    whole = generate_rate(tokens, 80)
    ring, alone = result.report.tokens_per_second or 0.0, max(engine)
    per_hop = (1 / ring - 1 / alone) / HOPS
    print(f"\nring of {HOPS} nodes        {ring:7.1f} tokens/s")
    print(f"same blocks, one engine {alone:7.1f} tokens/s   ring / engine      {ring / alone:.2f}")
    print(f"transformers generate   {whole:7.1f} tokens/s   ring / transformers {ring / whole:.2f}")
    print(f"what a hop adds         {1000 * per_hop:7.2f} ms       of {1000 / ring:.2f} ms for a token")


if __name__ == "__main__":
    main()
