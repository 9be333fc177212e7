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


# The ring, in a process of its own: it speaks JSON lines with whoever started it


class Thread(NamedTuple):
    """Nanoseconds that a thread has computed, and waited for a core."""

    busy: int
    kept_waiting: int


def threads_of(pid: int) -> dict[int, Thread]:
    """By thread id; that of the event loop is the process's own."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            busy, waited, _ = (task / "schedstat").read_text().split()
            found[int(task.name)] = Thread(int(busy), int(waited))
    return found


def spent(pid: int, before: dict[int, Thread], after: dict[int, Thread]) -> dict[str, int]:
    """Nanoseconds of a node's event loop, and of the thread that computes: of the others the busiest."""
    gone = {
        task: Thread(now.busy - before[task].busy, now.kept_waiting - before[task].kept_waiting)
        for task, now in after.items()
        if task in before
    }
    loop = gone.pop(pid)
    engine = max(gone.values())
    rest = sum(each.busy for each in gone.values()) - engine.busy
    return {
        "loop": loop.busy,
        "engine": engine.busy,
        "rest": rest,
        "loop_waited": loop.kept_waiting,
        "engine_waited": engine.kept_waiting,
    }


class Streams:
    """Answers that run at the same time, and when each of their tokens came."""

    def __init__(self, client: Any, vocabulary: int, count: int, most: int) -> None:
        self._client = client
        self._vocabulary = vocabulary
        self._most = most
        self._begin = asyncio.Barrier(count)
        self._beginning = asyncio.Semaphore(4)
        self._counts = [0] * count
        self.settled = asyncio.Event()
        self.over = asyncio.Event()

    @property
    def tokens(self) -> int:
        """That came in all."""
        return sum(self._counts)

    async def run(self, number: int) -> None:
        from node.app.planning import Request

        prompt = tuple((7 * number + 11 * at) % self._vocabulary for at in range(PROMPT))
        async with contextlib.AsyncExitStack() as stack:
            async with self._beginning:
                plan = await self._client.plan(Request(prompt=prompt, most=self._most))
                job = await stack.enter_async_context(await self._client.execute(plan))
                tokens = aiter(job)
                await anext(tokens)
            await self._begin.wait()
            async for _ in tokens:
                self._note(number)
        if job.result is None or job.result.error is not None:
            raise RuntimeError("a stream did not come to its end") from job.result and job.result.error

    def _note(self, number: int) -> None:
        self._counts[number] += 1
        if not self.settled.is_set() and min(self._counts) >= SETTLED:
            self.settled.set()
        if self._counts[number] >= self._most - 2:
            self.over.set()


async def measure(client: Any, pids: list[int], vocabulary: int, count: int, most: int) -> dict[str, Any]:
    """Run so many answers, and say what their steady part took."""
    streams = Streams(client, vocabulary, count, most)
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(streams.run(number))
        await streams.settled.wait()
        pids = [*pids, os.getpid()]
        began, first, before = time.perf_counter(), streams.tokens, [threads_of(pid) for pid in pids]
        await streams.over.wait()
        tokens, seconds = streams.tokens - first, time.perf_counter() - began
        after = [threads_of(pid) for pid in pids]
    *nodes, own = [spent(*each) for each in zip(pids, before, after, strict=True)]
    return {"tokens": tokens, "seconds": seconds, "nodes": nodes, "client": own["loop"]}


@asynccontextmanager
async def market(model: Path, spans: tuple[str, ...], home: Path) -> AsyncIterator[tuple[Any, list[int]]]:
    """A ledger, a node for each span, and a client with money; the client, and the nodes' process ids."""
    from node.app.client import open_client
    from node.config import ClientConfig
    from node.demo.processes import ProcessGroup
    from node.events import unheard
    from node.keystore import LIGHT, Keystore, generate

    def environment(name: str) -> dict[str, str]:
        Keystore(home / name / "keys").create("default", generate(), "bench", work_factor=LIGHT)
        return {"JOULE_HOME": str(home / name), "JOULE_PASSPHRASE": "bench", "OMP_NUM_THREADS": "1"}

    async with ProcessGroup() as ledgers, ProcessGroup() as group:
        arguments = ["ledger", "run", "--port", "0", "--faucet-limit", "50"]
        ledger = await ledgers.start("ledger", arguments, environment("ledger"))
        url = (await ledger.event("ledger ready"))["url"]
        nodes = []
        for number, span in enumerate(spans):
            arguments = ["node", "run", "--model", str(model), "--blocks", span, "--ledger", url, "--max-sessions"]
            arguments += ["64", "--kv-tokens", "8192"]  # a newcomer may have a quarter of the places
            nodes.append(await group.start(f"node {number}", arguments, environment(f"node{number}")))
        for node in nodes:
            await node.event("node ready", timeout_s=120)
        config = ClientConfig(ledger=url, data_dir=home / "client", latency_class="batch")
        async with open_client(config, generate(), unheard) as client:
            await client.faucet(50_000_000)
            await client.offers(30.0, enough=lambda found: len({each.public_key for each in found}) == len(spans))
            yield client, [node.process.pid for node in nodes]


async def be_the_ring(model: Path, spans: tuple[str, ...], vocabulary: int) -> None:
    """Measure what is asked for, one line of numbers at a time, until there are no more lines."""
    with tempfile.TemporaryDirectory() as home:
        async with market(model, spans, Path(home)) as (client, pids):
            print(json.dumps({"ready": True}), flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                count, most = json.loads(line)
                print(json.dumps(await measure(client, pids, vocabulary, count, most)), flush=True)


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
        arguments = [__file__, "--ring", str(model), ",".join(shape.spans), str(shape.vocabulary)]
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
        self._process.stdin.write(json.dumps([count, most]).encode() + b"\n")
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
            yield hop_row("hop, one stream", [each for each, _ in pairs])
        for count in (8, 16):
            if str(count) in wanted or (count == 8 and "hop" in wanted):
                together = await ring.measure(count, SETTLED + 48)
                yield row(f"{count} streams / one", together.rate, single, "tokens/s", client_ms=client_ms(together))
                if count == 8 and "hop" in wanted:
                    yield hop_row("hop, 8 streams", [together])


def client_ms(measured: Measured) -> float:
    return round(measured.client / measured.tokens / 1e6, 3)


def hop_row(name: str, rounds: list[Measured]) -> Row:
    """What is not compute, per token and leg: of one stream all time besides, of several what the event loops take."""
    one = statistics.median(1e3 * each.seconds / each.tokens for each in rounds) if "one" in name else None
    engine = statistics.median(each.ms("engine") for each in rounds)
    loop = statistics.median(each.ms("loop") + each.ms("rest") for each in rounds)
    waited = statistics.median(each.ms("engine_waited") + each.ms("loop_waited") for each in rounds)
    # Time in which a thread could have run and had no core is the machine's, not the hop's.
    beside = loop if one is None else one / HOPS - engine - waited
    return row(name, beside, engine, "ms per token and leg", without_a_core=round(waited, 3), loop=round(loop, 3))


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
    parser.add_argument("--ring", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ring:
        model, spans, vocabulary = arguments.ring
        asyncio.run(be_the_ring(Path(model), tuple(spans.split(",")), int(vocabulary)))
        return
    wanted = set(arguments.rows.split(","))
    if wanted - set(ROWS):
        parser.error(f"there is no row {', '.join(sorted(wanted - set(ROWS)))}")
    asyncio.run(run(wanted, arguments.against and arguments.against.resolve(), arguments.json))


if __name__ == "__main__":
    main()
