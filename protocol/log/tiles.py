"""A log as static files: hash tiles and entry bundles of 256 each (https://c2sp.org/tlog-tiles).

The tile at tile level L and index N holds the hashes of the Merkle tree's nodes ``(8 * L, 256 * N ...)``; the levels
between follow from them. A tile at the tree's right edge is partial. Readers find in `tiles_for` what a proof takes to
make, and verify the proof, so tiles need no signatures of their own.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.errors import InvalidError, MalformedError, peers_fault
from protocol.log.merkle import HASH_BYTES, MAX_SIZE, Frontier, HashAt, Node, node_hash, range_nodes

__all__ = [
    "MAX_TILE_LEVEL",
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "Tile",
    "TileAppender",
    "TileReader",
    "bundle_of",
    "decode_bundle",
    "encode_bundle",
    "parse_tile_path",
    "tile_path",
    "tiles_for",
]

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
"""Hashes in a full tile, entries in a full bundle."""

MAX_TILE_LEVEL = 7
_MAX_ENTRY_BYTES = 0xFFFF
_PATH = re.compile(r"tile/([0-9]|entries)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?")


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """The name of one tile or bundle."""

    level: int | None
    """Tile level, 0 to 7; None for a bundle of entries."""
    index: int
    width: int = TILE_WIDTH
    """Hashes or entries in it; 256 unless it is partial."""

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= MAX_TILE_LEVEL:
            raise InvalidError(f"no tile level {self.level}")
        if not 0 <= self.index < MAX_SIZE or not 1 <= self.width <= TILE_WIDTH:
            raise InvalidError(f"no tile {self.index} with {self.width} hashes")


def tile_path(tile: Tile) -> str:
    """``tile/0/x001/x234/067.p/17``: where a log serves the tile."""
    groups = [f"{tile.index % 1000:03d}"]
    rest = tile.index // 1000
    while rest:
        groups.append(f"x{rest % 1000:03d}")
        rest //= 1000
    level = "entries" if tile.level is None else str(tile.level)
    partial = "" if tile.width == TILE_WIDTH else f".p/{tile.width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def parse_tile_path(path: str) -> Tile:
    """The tile that `path` names. Raises MalformedError for anything but the one spelling of `tile_path`."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise MalformedError(f"{path[:80]!r} is not a tile path")
    level, index, width = match.groups()
    number = int(index.replace("x", "").replace("/", ""))
    with peers_fault():
        tile = Tile(None if level == "entries" else int(level), number, TILE_WIDTH if width is None else int(width))
    if tile_path(tile) != path:
        raise MalformedError(f"{path[:80]!r} is not the canonical path of a tile")
    return tile


def bundle_of(index: int, size: int) -> Tile:
    """The bundle that holds entry `index` of a log with `size` entries."""
    bundle = index // TILE_WIDTH
    return Tile(None, bundle, min(TILE_WIDTH, size - bundle * TILE_WIDTH))


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Entries, each behind its length as a big-endian uint16. Raises InvalidError when one is too long."""
    parts = []
    for entry in entries:
        if len(entry) > _MAX_ENTRY_BYTES:
            raise InvalidError(f"an entry of {len(entry)} bytes where {_MAX_ENTRY_BYTES} are allowed")
        parts += [struct.pack(">H", len(entry)), entry]
    return b"".join(parts)


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """The `width` entries of a bundle. Raises MalformedError for fewer, more, or truncated ones."""
    entries: list[bytes] = []
    offset = 0
    while offset < len(data) and len(entries) < width:
        if offset + 2 > len(data):
            raise MalformedError("a bundle that ends inside a length")
        (length,) = struct.unpack_from(">H", data, offset)
        entry = data[offset + 2 : offset + 2 + length]
        if len(entry) != length:
            raise MalformedError("a bundle that ends inside an entry")
        entries.append(entry)
        offset += 2 + length
    if len(entries) != width or offset != len(data):
        raise MalformedError(f"a bundle that does not hold exactly {width} entries")
    return entries


def _tile_of(node: Node, size: int) -> tuple[Tile, int, int]:
    """The tile of a log of `size` entries that fixes `node`, and which of its hashes ``[begin, end)`` are under it."""
    level, place = node
    tile_level, above = divmod(level, TILE_HEIGHT)
    first = place << above
    index = first // TILE_WIDTH
    hashes = size >> (tile_level * TILE_HEIGHT)
    begin = first % TILE_WIDTH
    return Tile(tile_level, index, min(TILE_WIDTH, hashes - index * TILE_WIDTH)), begin, begin + (1 << above)


def tiles_for(size: int, prove: Callable[[HashAt], Any]) -> set[Tile]:
    """The tiles of a log of `size` entries that `prove` looks nodes up in.

    `prove` is one of the proofs of `merkle` with all but its lookup given; it runs once, on hashes without meaning.
    """
    needed: set[Tile] = set()

    def note_down(level: int, index: int) -> bytes:
        needed.add(_tile_of((level, index), size)[0])
        return bytes(HASH_BYTES)

    prove(note_down)
    return needed


class TileReader:
    """Looks nodes up in tiles that were read from a log of `size` entries; see `hash_at`.

    Raises MalformedError when a tile's content does not have the tile's width.
    """

    def __init__(self, size: int, tiles: Mapping[Tile, bytes]) -> None:
        for tile, content in tiles.items():
            if len(content) != tile.width * HASH_BYTES:
                raise MalformedError(f"{tile_path(tile)} has {len(content)} bytes, not {tile.width * HASH_BYTES}")
        self._size = size
        self._tiles = tiles

    def hash_at(self, level: int, index: int) -> bytes:
        """The hash of a node; a KeyError where its tile is not among those given."""
        tile, begin, end = _tile_of((level, index), self._size)
        content = self._tiles[tile]
        hashes = [content[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in range(begin, end)]
        while len(hashes) > 1:
            hashes = [node_hash(*pair) for pair in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]


class TileAppender:
    """The writer's side: the tree's right edge, and the partial tiles on it.

    Takes a log's size and the contents of the partial tiles at its edge (`edge_tiles`), by tile level.

    Raises MalformedError when they do not fit each other.
    """

    def __init__(self, size: int = 0, edge: Mapping[Tile, bytes] | None = None) -> None:
        edge = edge or {}
        reader = TileReader(size, edge)
        try:
            hashes = [reader.hash_at(level, index) for level, index in range_nodes(0, size)]
        except KeyError as missing:
            raise MalformedError(f"the log of {size} entries lacks its tile {missing}") from None
        self._frontier = Frontier(size, hashes)
        self._edge: dict[int | None, bytes] = {tile.level: content for tile, content in edge.items()}

    @staticmethod
    def edge_tiles(size: int) -> set[Tile]:
        """The tiles that appending to a log of `size` entries starts from."""
        return tiles_for(size, lambda hash_at: [hash_at(level, index) for level, index in range_nodes(0, size)])

    @property
    def size(self) -> int:
        """Entries in the log."""
        return self._frontier.size

    @property
    def root(self) -> bytes:
        """Root over them."""
        return self._frontier.root

    def append(self, leaves: Sequence[bytes]) -> dict[Tile, bytes]:
        """Add leaf hashes; returns every tile that they change, under its new width, with its whole content."""
        changed: dict[tuple[int, int], bytes] = {}
        for leaf in leaves:
            for (node_level, place), found in self._frontier.append(leaf):
                level, between = divmod(node_level, TILE_HEIGHT)
                if between:
                    continue
                content = self._edge.get(level, b"") + found
                changed[level, place // TILE_WIDTH] = content
                self._edge[level] = content if len(content) < TILE_WIDTH * HASH_BYTES else b""
        return {Tile(level, index, len(content) // HASH_BYTES): content for (level, index), content in changed.items()}
