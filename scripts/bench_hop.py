"""What a hop costs: three real nodes in a ring against the same engine in one process, and against another checkout.

Everything is real: a ledger and three nodes in processes of their own on loopback, a client in another, signed orders,
TLS, vouchers, receipts, seeds and sketches; one compute thread each. Random weights, so that nothing depends on a file.
Compared are tokens in the steady part of an answer, after every stream has begun. Each row has both sides in one go and
prints their ratio; absolute figures depend on the machine and on what else it does.

    python scripts/bench_hop.py
    python scripts/bench_hop.py --rows one,hop --json
    python scripts/bench_hop.py --rows loop --against ../another-checkout
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
RING = Path(__file__).resolve().parent / "measured_ring.py"
ROWS = ("one", "8", "16", "hop", "loop")
HOPS = 3
PROMPT = 24
SETTLED = 40
"""Tokens of each stream before what is measured: more than the two windows that come before all have begun."""
ROUNDS = 3


class Shape(NamedTuple):
    """A model of random weights."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    spans: tuple[str, ...]


LARGE = Shape(1024, 2688, 8, 16, 4, 4096, ("0:3", "3:6", "6:8"))
SMALL = Shape(192, 512, 6, 6, 3, 506, ("0:2", "2:4", "4:6"))
"""As the demo's model is."""


def make_model(directory: Path, shape: Shape) -> None:
    """A checkpoint that never ends an answer by itself."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    from node.app.audit import BUNDLED_MODEL

    logging.disable_progress_bar()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):  # nobody asks in text, but nodes want to be asked
        shutil.copy(BUNDLED_MODEL / name, directory)


class Measured(NamedTuple):
    """The steady part of some answers through a ring."""

    tokens: int
    seconds: float
    nodes: list[dict[str, int]]
    client: int

    @property
    def rate(self) -> float:
        """Tokens a second, of all streams together."""
        return self.tokens / self.seconds

    def ms(self, part: str) -> float:
        """Of one thread, for each token and node."""
        return sum(node[part] for node in self.nodes) / self.tokens / len(self.nodes) / 1e6


class Ring:
    """A ring of a checkout's code."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def open(cls, checkout: Path, model: Path, shape: Shape) -> AsyncIterator[Ring]:
        arguments = [str(RING), str(model), ",".join(shape.spans), str(shape.vocabulary)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        )
        ring = cls(process)
        try:
            await ring._answer()
            yield ring
        finally:
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()

    async def measure(self, count: int, most: int) -> Measured:
        """The steady part of `count` answers of `most` tokens at once."""
        assert self._process.stdin is not None
        wanted = {"streams": count, "most": most, "prompt": PROMPT, "settled": SETTLED}
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        return Measured(**await self._answer())

    async def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the ring has ended; what it complained about is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


# One process, and the rows


class Alone:
    """All blocks in one engine, in this process: what there is besides is the network's."""

    def __init__(self, model: Path, shape: Shape) -> None:
        from node.engine.engine import Engine

        self._engine = Engine.load(model, 0, shape.layers, kv_tokens=8192)

    def rate(self, most: int) -> float:
        """Tokens a second of one stream, over the same positions as the ring's."""
        from node.ports import StepInput, StepOutput

        self._engine.open(b"bench", max_tokens=512, temperature_milli=0, seed=0)
        data, position, began = tuple(range(PROMPT)), 0, 0.0
        for number in range(most):
            if number == SETTLED:
                began = time.perf_counter()
            item = StepInput(session=b"bench", position=position, length=len(data), data=data, draws=1)
            (output,) = self._engine.forward([item])
            if not isinstance(output, StepOutput):
                raise RuntimeError("the engine drew no token") from output
            position, data = position + len(data), output.tokens
        seconds = time.perf_counter() - began
        self._engine.close(b"bench")
        return (most - SETTLED) / seconds


Row = dict[str, Any]


def row(name: str, ours: float, other: float, unit: str, **more: object) -> Row:
    return {"row": name, "ours": round(ours, 3), "other": round(other, 3), "unit": unit, "ratio": ours / other, **more}


async def large_rows(wanted: set[str], folder: Path) -> AsyncIterator[Row]:
    """Rows of the large model."""
    make_model(folder, LARGE)
    alone = Alone(folder, LARGE)
    async with Ring.open(ROOT, folder, LARGE) as ring:
        await ring.measure(1, SETTLED + 8)
        pairs = [(await ring.measure(1, SETTLED + 48), alone.rate(SETTLED + 48)) for _ in range(ROUNDS)]
        single = statistics.median(each.rate for each, _ in pairs)
        if "one" in wanted:
            ratio = statistics.median(each.rate / other for each, other in pairs)
            yield row("one stream, ring / one process", single, single / ratio, "tokens/s")
        if "hop" in wanted:
            yield hop_row("hop, one stream", [each for each, _ in pairs], alone=True)
        for count in (8, 16):
            if str(count) in wanted or (count == 8 and "hop" in wanted):
                together = await ring.measure(count, SETTLED + 48)
                yield row(f"{count} streams / one", together.rate, single, "tokens/s", client_ms=client_ms(together))
                if count == 8 and "hop" in wanted:
                    yield hop_row("hop, 8 streams", [together], alone=False)


def client_ms(measured: Measured) -> float:
    return round(measured.client / measured.tokens / 1e6, 3)


def hop_row(name: str, rounds: list[Measured], *, alone: bool) -> Row:
    """What is not compute, per token and leg: with one stream all the time besides, with several what they compete for.

    Where a thread that computes waits for a core, that is the machine's doing, not the hop's. What the loop waits for
    is in the time of one stream: on a busy machine it is most of it.
    """
    engine, busy, kept = (
        statistics.median(sum(each.ms(part) for part in parts) for each in rounds)
        for parts in (("engine",), ("loop", "rest"), ("loop_waited",))
    )
    whole = statistics.median(1e3 * each.seconds / each.tokens / HOPS - each.ms("engine_waited") for each in rounds)
    more = {"other_threads": round(busy, 3), "loop_without_a_core": round(kept, 3)}
    return row(name, whole - engine if alone else busy, engine, "ms per token and leg, beside compute", **more)


async def loop_row(folder: Path, against: Path | None) -> Row:
    """The event loop's CPU with 16 streams of a small model, here and in another checkout."""
    make_model(folder, SMALL)
    async with contextlib.AsyncExitStack() as stack:
        ours = await stack.enter_async_context(Ring.open(ROOT, folder, SMALL))
        other = ours if against is None else await stack.enter_async_context(Ring.open(against, folder, SMALL))
        rounds = [(await ours.measure(16, 120), await other.measure(16, 120)) for _ in range(ROUNDS)]
    mine, theirs = ([pair[side] for pair in rounds] for side in (0, 1))
    here, there = (statistics.median(each.ms("loop") for each in side) for side in (mine, theirs))
    rates = [round(statistics.median(each.rate for each in side)) for side in (mine, theirs)]
    name = "event loop, 16 small streams, here / " + ("here again" if against is None else "there")
    clients = [client_ms(side[-1]) for side in (mine, theirs)]
    return row(name, here, there, "ms per token and node", rates=rates, clients_ms=clients)


async def rows(wanted: set[str], against: Path | None) -> AsyncIterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        if wanted - {"loop"}:
            async for each in large_rows(wanted, Path(folder) / "large"):
                yield each
        if "loop" in wanted:
            yield await loop_row(Path(folder) / "small", against)


def shown(each: Row) -> Iterator[str]:
    yield f"{each['row']:<42}{each['ours']:>9.2f}{each['other']:>9.2f}{each['ratio']:>8.2f}  {each['unit']}"
    more = {name: value for name, value in each.items() if name not in ("row", "ours", "other", "ratio", "unit")}
    if more:
        yield "    " + ", ".join(f"{name} {value}" for name, value in more.items())


async def run(wanted: set[str], against: Path | None, as_json: bool) -> None:
    async for each in rows(wanted, against):
        print(json.dumps(each) if as_json else "\n".join(shown(each)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="What a hop costs.")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {','.join(ROWS)}")
    parser.add_argument("--against", type=Path, help="another checkout, for the row loop")
    parser.add_argument("--json", action="store_true", help="a JSON object a row")
    arguments = parser.parse_args()
    wanted = set(arguments.rows.split(","))
    if wanted - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(wanted - set(ROWS)))}")
    asyncio.run(run(wanted, arguments.against and arguments.against.resolve(), arguments.json))


if __name__ == "__main__":
    main()
