"""A model's files in pieces that can be proven one by one: how chunks are cut, hashed and held against a manifest.

A file is cut into chunks of `CHUNK_BYTES`, the last one shorter; its manifest entry has the root of the Merkle tree
(RFC 6962) over them, so whoever has the list of their hashes knows of each chunk, from whomever it comes, whether it is
the model's (docs/spec/wire.md, clause W14).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocol.errors import DishonestError, MalformedError
from protocol.identity.ids import ModelFile
from protocol.log.merkle import leaf_hash, root_of

__all__ = [
    "CHUNK_BYTES",
    "HASH_BYTES",
    "chunk_bytes",
    "chunk_count",
    "chunks_of_range",
    "is_chunk",
    "joined_hashes",
    "open_chunk_list",
    "root_of_chunks",
]

CHUNK_BYTES = 1 << 20
HASH_BYTES = 32


def chunk_count(size: int) -> int:
    """Chunks of a file of so many bytes; an empty one has none."""
    return -(-size // CHUNK_BYTES)


def chunk_bytes(size: int, index: int) -> int:
    """Bytes of one chunk of a file of `size` bytes."""
    return min(CHUNK_BYTES, size - index * CHUNK_BYTES)


def chunks_of_range(begin: int, end: int) -> range:
    """The chunks that hold the bytes ``[begin, end)``."""
    return range(begin // CHUNK_BYTES, chunk_count(end)) if begin < end else range(0)


def root_of_chunks(hashes: Iterable[bytes]) -> bytes:
    """What a manifest says of a file whose chunks have these hashes."""
    return root_of(hashes)


def joined_hashes(hashes: Iterable[bytes]) -> bytes:
    """A list of chunk hashes as it travels."""
    return b"".join(hashes)


def open_chunk_list(file: ModelFile, data: bytes) -> Sequence[bytes]:
    """The hashes of a file's chunks, held against its manifest entry.

    Raises MalformedError for another number of them, DishonestError for those of another file.
    """
    if len(data) != HASH_BYTES * chunk_count(file.size):
        raise MalformedError(f"{len(data)} bytes are no chunk list of {file.name}")
    hashes = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
    if root_of_chunks(hashes) != file.chunks:
        raise DishonestError(f"a chunk list that is not that of the model's {file.name}")
    return hashes


def is_chunk(content: bytes, expected: bytes) -> bool:
    """Whether this is the chunk with this hash."""
    return leaf_hash(content) == expected
