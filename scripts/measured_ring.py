"""A ring of real nodes that measures itself, for `bench_hop`; a process of its own, so of any checkout.

It answers (`measured_market.answer`) with what the steady part of so many answers took that are `Wanted`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from measured_market import answer, market
from measured_steady import Steady

from node.app.buying.client import Client
from node.app.buying.request import Request

ROOM = ("--max-sessions", "64", "--kv-tokens", "8192")
"""Of a node; a newcomer may have a quarter of the places."""


class Wanted(NamedTuple):
    """What is to be measured."""

    streams: int
    """Answers at once."""
    most: int
    """Tokens of each."""
    prompt: int
    """Tokens."""
    settled: int
    """Tokens of each answer before what is measured."""
    drafts: str = "never"
    """As the client's setting: what is guessed makes streams uneven, and passes overlap that are one token's."""


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
    """Answers that run at the same time."""

    def __init__(self, client: Client, vocabulary: int, wanted: Wanted) -> None:
        self._client = client
        self._vocabulary = vocabulary
        self._wanted = wanted
        self._begin = asyncio.Barrier(wanted.streams)
        self._beginning = asyncio.Semaphore(4)
        self.steady = Steady(wanted.streams, settled=wanted.settled, most=wanted.most - 2)

    async def run(self, number: int) -> None:
        prompt = tuple((7 * number + 11 * at) % self._vocabulary for at in range(self._wanted.prompt))
        async with contextlib.AsyncExitStack() as stack:
            async with self._beginning:
                plan = await self._client.plan(Request(prompt=prompt, most=self._wanted.most))
                job = await stack.enter_async_context(await self._client.execute(plan))
                tokens = aiter(job)
                await anext(tokens)
            await self._begin.wait()
            async for _ in tokens:
                self.steady.note(number)
        if job.result is None or job.result.error is not None:
            raise RuntimeError("a stream did not come to its end") from (
                None if job.result is None else job.result.error
            )


async def measure(client: Client, pids: list[int], vocabulary: int, wanted: Wanted) -> dict[str, Any]:
    """Run so many answers, and say what their steady part took; no tokens where it had none."""
    client.config = dataclasses.replace(client.config, drafts=wanted.drafts)
    streams = Streams(client, vocabulary, wanted)
    steady, seconds, pids = streams.steady, 0.0, [*pids, os.getpid()]
    async with asyncio.TaskGroup() as group:
        for number in range(wanted.streams):
            group.create_task(streams.run(number))
        has_one = await steady.beginning()
        began, first = time.perf_counter(), steady.tokens
        after = before = [threads_of(pid) for pid in pids]
        if has_one:
            await steady.over.wait()
            seconds = time.perf_counter() - began
            after = [threads_of(pid) for pid in pids]
        tokens = steady.tokens - first
    *nodes, own = [spent(*each) for each in zip(pids, before, after, strict=True)]
    return {"tokens": tokens if has_one else 0, "seconds": seconds, "nodes": nodes, "client": own["loop"]}


async def be_the_ring(model: Path, spans: list[str], vocabulary: int) -> None:
    """Measure what is asked for, until nothing is."""
    async with market(model, spans, *ROOM) as ring, ring.client() as client:
        pids = [each.process.pid for each in ring.processes[1:]]
        await answer(lambda **wanted: measure(client, pids, vocabulary, Wanted(**wanted)))


def main() -> None:
    model, spans, vocabulary = sys.argv[1:]
    asyncio.run(be_the_ring(Path(model), spans.split(","), int(vocabulary)))


if __name__ == "__main__":
    main()
