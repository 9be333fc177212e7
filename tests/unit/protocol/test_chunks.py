"""Chunks of a file: how many, how long, and which list is the file's."""

from __future__ import annotations

import hashlib

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import DishonestError, MalformedError
from protocol.identity.ids import ModelFile
from protocol.log.merkle import leaf_hash
from protocol.models.chunks import (
    CHUNK_BYTES,
    chunk_bytes,
    chunk_count,
    chunks_of_range,
    is_chunk,
    joined_hashes,
    open_chunk_list,
    root_of_chunks,
)


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50))
@settings(max_examples=at_length(50))
def test_chunks_cover_a_file_and_no_more(size: int, at: int) -> None:
    count = chunk_count(size)
    assert (count - 1) * CHUNK_BYTES < size <= count * CHUNK_BYTES
    if size:
        assert 0 < chunk_bytes(size, count - 1) <= CHUNK_BYTES
        begin = at % size
        found = chunks_of_range(begin, size)
        assert found[0] * CHUNK_BYTES <= begin < (found[0] + 1) * CHUNK_BYTES
        assert found[-1] == count - 1
    assert len(chunks_of_range(at, at)) == 0


def test_a_list_is_held_against_the_manifest() -> None:
    chunks = [bytes([number]) * CHUNK_BYTES for number in range(3)]
    chunks[2] = b"end"
    hashes = [hashlib.sha256(b"\x00" + chunk).digest() for chunk in chunks]
    assert all(map(is_chunk, chunks, hashes))
    assert not is_chunk(chunks[0] + b"x", hashes[0])
    file = ModelFile(name="f", size=2 * CHUNK_BYTES + 3, sha256=bytes(32), chunks=root_of_chunks(hashes))
    assert list(open_chunk_list(file, joined_hashes(hashes))) == hashes
    with pytest.raises(DishonestError):
        open_chunk_list(file, joined_hashes([hashes[1], hashes[0], hashes[2]]))
    for wrong in (hashes[:2], [*hashes, hashes[0]], []):
        with pytest.raises(MalformedError):
            open_chunk_list(file, joined_hashes(wrong))
    with pytest.raises(MalformedError):
        open_chunk_list(file, joined_hashes(hashes)[:-1])


def test_one_chunk_is_its_own_list_and_an_empty_file_has_none() -> None:
    assert root_of_chunks([leaf_hash(b"all")]) == leaf_hash(b"all")
    empty = ModelFile(name="f", size=0, sha256=bytes(32), chunks=hashlib.sha256(b"").digest())
    assert list(open_chunk_list(empty, b"")) == []
