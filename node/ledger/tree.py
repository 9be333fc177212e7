"""The ledger's tree as proofs are made from it: tiles in memory, and others from the database when they are asked for.

A full tile never changes, so the hashes between its own and the next tile level's are kept behind them once somebody
has asked for one: twice the room, and a proof is a few slices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from node.ledger.recent import Recent
from node.ledger.store import Store
from protocol.errors import LocalError
from protocol.log.merkle import HASH_BYTES, HashAt, Node, node_hash
from protocol.log.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, tile_path

__all__ = ["ShownTree", "lacks"]

_TILES = 4_096
"""64 MiB, where each is asked for: all of a log of a million entries. The edge of the tree is among them."""
_NODES = 4_096
"""Of the tiles at the edge, which are not full yet."""
_TILE_BYTES = TILE_WIDTH * HASH_BYTES
_BEGINNINGS = tuple(2 * _TILE_BYTES - (2 * _TILE_BYTES >> above) for above in range(TILE_HEIGHT))
"""Where the nodes of each level stand in a tile that holds them all."""


class _MissingTileError(LookupError):
    """A tile that is not in memory."""

    def __init__(self, place: tuple[int, int]) -> None:
        super().__init__(place)
        self.place = place


class ShownTree:
    """Only the writer's task calls `grow`; everybody else reads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._size = 0
        self._tiles: Recent[tuple[int, int], bytes] = Recent(_TILES)
        """By level and index: all hashes that are known of it. They never change, there are only more of them."""
        self._nodes: Recent[Node, bytes] = Recent(_NODES)

    def grow(self, size: int, tiles: Mapping[Tile, bytes]) -> None:
        """Take the tiles that have changed since the last time."""
        self._size = size
        for tile, content in tiles.items():
            self._keep(tile, content)

    async def tile(self, tile: Tile) -> bytes | None:
        """The hashes of a tile; None where the log does not reach that far."""
        level = tile.level or 0
        if tile.index * TILE_WIDTH + tile.width > self._size >> (level * TILE_HEIGHT):
            return None
        content = self._tiles.get((level, tile.index)) or b""
        if len(content) < tile.width * HASH_BYTES:
            return await self._load(tile)
        return content[: tile.width * HASH_BYTES]

    async def prove(self, prove: Callable[[HashAt], tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """What `prove` makes of the tree: one of the proofs of `merkle` with all but its lookup given."""
        # What is read for this proof stays with it: memory may be short, and others read too.
        read: dict[tuple[int, int], bytes] = {}
        while True:
            try:
                return prove(lambda level, index: self._hash_at(level, index, read))
            except _MissingTileError as missing:
                level, number = missing.place
                width = min(TILE_WIDTH, (self._size >> (level * TILE_HEIGHT)) - number * TILE_WIDTH)
                read[missing.place] = await self._load(Tile(level, number, width))

    def _hash_at(self, level: int, index: int, read: Mapping[tuple[int, int], bytes]) -> bytes:
        tile_level, above = divmod(level, TILE_HEIGHT)
        place = (tile_level, (index << above) // TILE_WIDTH)
        content = self._tiles.get(place) or b""
        if above and len(content) == _TILE_BYTES:
            content = with_inner(content)
            self._tiles.put(place, content)
        at = index % (TILE_WIDTH >> above) * HASH_BYTES
        if not above or len(content) > _TILE_BYTES:
            at += _BEGINNINGS[above]
            found = content[at : at + HASH_BYTES]
            # Of a tile that was not full when it came, there may be more by now.
            found = found or read.get(place, b"")[at : at + HASH_BYTES]
            if not found:
                raise _MissingTileError(place)
            return found
        return self._inner_at(level, index, read)

    def _inner_at(self, level: int, index: int, read: Mapping[tuple[int, int], bytes]) -> bytes:
        found = self._nodes.get((level, index))
        if found is None:
            left, right = (self._hash_at(level - 1, 2 * index + side, read) for side in (0, 1))
            found = node_hash(left, right)
            self._nodes.put((level, index), found)
        return found

    def _keep(self, tile: Tile, content: bytes) -> None:
        # What was read before a batch may arrive after it.
        place = (tile.level or 0, tile.index)
        if len(self._tiles.get(place) or b"") <= len(content):
            self._tiles.put(place, content)

    async def _load(self, tile: Tile) -> bytes:
        content = await self._store.tile(tile)
        if content is None:
            raise lacks(tile_path(tile))
        self._keep(tile, content)
        return content


def with_inner(hashes: bytes) -> bytes:
    """A full tile, and behind it the nodes of each level up to the two below the next tile level."""
    levels = [hashes]
    while len(levels[-1]) > 2 * HASH_BYTES:
        below = levels[-1]
        pairs = range(0, len(below), 2 * HASH_BYTES)
        levels.append(b"".join([_joined(below[at : at + 2 * HASH_BYTES]) for at in pairs]))
    return b"".join(levels)


def _joined(pair: bytes) -> bytes:
    return node_hash(pair[:HASH_BYTES], pair[HASH_BYTES:])


def lacks(what: str) -> LocalError:
    """The database does not hold what it should."""
    hint = "joule ledger verify names the first bad entry; restore the database from a backup"
    return LocalError(f"the ledger database lacks {what}", code="ledger-damaged", hint=hint)
