"""Proofs of any entry of a long log, what memory they take, and how long a ledger with such a log takes to start."""

from __future__ import annotations

import random
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from ledger_bench.commits import writing
from ledger_bench.logs import database_of
from node.ledger.log_key import read_log_key
from node.ledger.log_source import LogReader, StoreLog
from node.ledger.published import Published
from node.ledger.schema import sqlite_url
from node.ledger.store import Store
from node.ledger.working_copy import recover
from protocol.log.merkle import leaf_hash, verify_inclusion
from protocol.log.note import NoteKey
from protocol.log.tiles import TILE_WIDTH

_FEW = 500
"""Proofs by the slower side."""


@dataclass(frozen=True, slots=True)
class Proofs:
    """Rates are a second of processor time."""

    entries: int
    proven: float
    """Made from memory, and verified."""
    from_tiles: float
    """Made from the database's tiles, as a reader does that has none of them, and verified."""
    tree_mb: float
    """Megabytes that all tiles and the hashes between them take."""
    started_s: float
    """From the first look at the database to a writer that takes operations, after a crash; of the clock."""
    again_s: float
    """The same with a log of one entry."""


async def measure(folder: Path, proofs: int) -> Proofs:
    """Of the log in `folder`."""
    url, key = sqlite_url(database_of(folder)), read_log_key(folder / "log.key")
    started_s = await _start(url, key)
    with tempfile.TemporaryDirectory() as empty:
        small = sqlite_url(database_of(Path(empty)))
        await _start(small, key)
        again_s = await _start(small, key)
    store = Store(url)
    try:
        recovered = await recover(store, key)
        if recovered is None:
            raise SystemExit("there is no log")
        published = Published(store)
        published.take(recovered.durable)
        size, root = published.head.checkpoint.size, published.head.checkpoint.root
        tree_mb = await _memory(published, size)
        drawn = random.Random(8).choices(range(size), k=proofs)
        leaves = {index: leaf_hash((await store.entries(index, index + 1))[0]) for index in drawn[:_FEW]}
        made = time.process_time()
        paths = [await published.inclusion(index, size) for index in drawn]
        made = (time.process_time() - made) / len(drawn)
        verified = time.process_time()
        for index, path in zip(drawn[:_FEW], paths, strict=False):
            verify_inclusion(index, size, leaves[index], path, root)
        verified = (time.process_time() - verified) / min(_FEW, len(drawn))
        reader = LogReader(StoreLog(store))
        read = time.process_time()
        for index in drawn[:_FEW]:
            await reader.inclusion(index, size)
        read = (time.process_time() - read) / min(_FEW, len(drawn))
        return Proofs(size, 1 / (made + verified), 1 / (read + verified), tree_mb, started_s, again_s)
    finally:
        await store.close()


async def _start(url: URL, key: NoteKey) -> float:
    began = time.perf_counter()
    async with writing(url, key, 1):
        return time.perf_counter() - began


async def _memory(published: Published, size: int) -> float:
    """What is held once a proof was asked for under every tile."""
    tracemalloc.start()
    try:
        for index in range(0, size, TILE_WIDTH):
            await published.inclusion(index, size)
        return tracemalloc.get_traced_memory()[0] / 1e6
    finally:
        tracemalloc.stop()
