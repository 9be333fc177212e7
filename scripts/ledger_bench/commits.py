"""Operations a second through the ledger's writer: a hundred in a commit, and one."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL

from ledger_bench.load import NOW, OPERATOR, Load
from node.ledger.log_key import create_log_key
from node.ledger.rows import Batch
from node.ledger.sequencer import Sequencer
from node.ledger.store import Store
from protocol.log.note import NoteKey
from protocol.settlement.operations import SignedOp
from protocol.settlement.signatures import signers_of

GROUP = 100


class TimedStore(Store):
    """Knows how long its commits took."""

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self.committing_s = 0.0
        self.sizes: list[int] = []

    async def commit(self, batch: Batch) -> None:
        began = time.perf_counter()
        await super().commit(batch)
        self.committing_s += time.perf_counter() - began
        self.sizes.append(len(batch.entries))


@asynccontextmanager
async def writing(url: URL, key: NoteKey, processes: int) -> AsyncIterator[tuple[TimedStore, Sequencer]]:
    """A ledger's writer, without what stands before it."""
    store = TimedStore(url)
    try:
        await store.become_writer()
        sequencer = await Sequencer.open(
            store, key, OPERATOR, lambda: NOW, grace_s=3600, faucet_limit=0, fee=1, processes=processes
        )
        task = asyncio.create_task(sequencer.serve())
        try:
            yield store, sequencer
        finally:
            sequencer.stop()
            await task
    finally:
        await store.close()


@dataclass(slots=True)
class Side:
    """One way to work, over the rounds; seconds for an operation, of the clock."""

    all_s: list[float] = field(default_factory=list)
    commit_s: list[float] = field(default_factory=list)

    def rate(self) -> float:
        return 1 / statistics.median(self.all_s)


async def run_one_by_one(sequencer: Sequencer, operations: Sequence[SignedOp]) -> None:
    for signed in operations:
        await sequencer.submit(signed)


async def run_in_groups(sequencer: Sequencer, operations: Sequence[SignedOp]) -> None:
    """The next group waits while one is committed, as it does under load."""
    ahead: asyncio.Task[list[int]] | None = None
    for begin in range(0, len(operations), GROUP):
        group = asyncio.gather(*(sequencer.submit(each) for each in operations[begin : begin + GROUP]))
        for _ in range(4):  # until the writer has taken it, if it is free
            await asyncio.sleep(0)
        if ahead is not None:
            await ahead
        ahead = group
    if ahead is not None:
        await ahead


@dataclass(frozen=True, slots=True)
class Commits:
    """What was measured on one kind of database."""

    single: Side
    alone: Side
    """In groups, with one process."""
    grouped: Side
    """In groups, with more."""
    signatures_s: float
    """Processor time for an operation's signatures."""


async def measure(url: URL, folder: Path, mix: str, processes: int, rounds: int, groups: int) -> Commits:
    """Sides take turns on one ledger."""
    key = create_log_key(folder / "log.key", "bench")
    single, alone, grouped = Side(), Side(), Side()
    load: Load | None = None
    for _ in range(rounds):
        for side, count in ((single, 1), (alone, 1), (grouped, processes)):
            async with writing(url, key, count) as (store, sequencer):
                if load is None:
                    load = Load(sequencer.domain, mix)
                    await run_in_groups(sequencer, list(load.deposits()))
                run = run_one_by_one if side is single else run_in_groups
                await run_in_groups(sequencer, load.take(2 * GROUP))  # warm, the other processes too
                operations = load.take(GROUP if side is single else groups * GROUP)
                store.committing_s, store.sizes = 0.0, []
                began = time.perf_counter()
                await run(sequencer, operations)
                side.all_s.append((time.perf_counter() - began) / len(operations))
                side.commit_s.append(store.committing_s / len(operations))
    signatures = load.take(GROUP)
    began = time.process_time()
    for each in signatures:
        signers_of(sequencer.domain, each)
    return Commits(single, alone, grouped, (time.process_time() - began) / len(signatures))
