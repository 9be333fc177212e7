"""Proofs from tiles in memory: of trees with full tiles on two levels, as they grow."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.ledger.schema import sqlite_url
from node.ledger.store import Store
from node.ledger.tree import ShownTree
from protocol.log.merkle import consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion
from protocol.log.tiles import TILE_WIDTH, Tile, TileAppender

SIZES = (1, 2, 255, 256, 257, 700, 65_536, 65_537, 66_300)


@pytest.mark.asyncio
async def test_proofs_of_every_shape(tmp_path: Path) -> None:
    store = Store(sqlite_url(tmp_path / "none.sqlite3"))  # nothing has to be asked of it
    tree, appender = ShownTree(store), TileAppender()
    leaves = [leaf_hash(str(number).encode()) for number in range(SIZES[-1])]
    roots: dict[int, bytes] = {}
    for size in SIZES:
        # In batches, as they are committed: what was partial comes again, wider.
        for begin in range(appender.size, size, 300):
            tiles = appender.append(leaves[begin : min(size, begin + 300)])
            tree.grow(appender.size, tiles)
        roots[size] = appender.root
        for index in {0, 1, size // 3, size - size % TILE_WIDTH, size - 2, size - 1} & set(range(size)):
            proof = await tree.prove(lambda hash_at, index=index, size=size: inclusion_proof(index, size, hash_at))
            verify_inclusion(index, size, leaves[index], proof, roots[size])
        for old in roots:
            proof = await tree.prove(lambda hash_at, old=old, size=size: consistency_proof(old, size, hash_at))
            verify_consistency(old, size, roots[old], roots[size], proof)
    whole = await tree.tile(Tile(0, 3))
    assert whole == b"".join(leaves[3 * TILE_WIDTH : 4 * TILE_WIDTH])
    assert await tree.tile(Tile(0, 3, 17)) == b"".join(leaves[3 * TILE_WIDTH :][:17])
    assert await tree.tile(Tile(1, 1)) is None
    assert await tree.tile(Tile(1, 1, 2)) is not None
    await store.close()
