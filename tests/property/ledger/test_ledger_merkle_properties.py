"""Trees, proofs and tiles against a naive tree that follows RFC 6962's definitions word by word."""

from __future__ import annotations

import hashlib

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.errors import DishonestError, MalformedError, PeerError
from protocol.log.merkle import (
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    range_nodes,
    root_at,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from protocol.log.tiles import TILE_WIDTH, Tile, TileAppender, TileReader, tiles_for

LEAVES = [leaf_hash(number.to_bytes(2, "big")) for number in range(700)]


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


def naive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*naive_path(index, leaves[:split]), naive_root(leaves[split:])]
    return [*naive_path(index - split, leaves[split:]), naive_root(leaves[:split])]


def naive_subproof(old: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if old == len(leaves):
        return [] if whole else [naive_root(leaves)]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if old <= split:
        return [*naive_subproof(old, leaves[:split], whole), naive_root(leaves[split:])]
    return [*naive_subproof(old - split, leaves[split:], False), naive_root(leaves[:split])]


def naive_hash_at(level: int, index: int) -> bytes:
    return naive_root(LEAVES[index << level : (index + 1) << level])


def stored_tiles(size: int, batch: int = 97) -> dict[Tile, bytes]:
    """What a log that appended in batches of `batch` serves, under the last width of each tile."""
    appender = TileAppender()
    latest: dict[tuple[int | None, int], tuple[Tile, bytes]] = {}
    for begin in range(0, size, batch):
        for tile, content in appender.append(LEAVES[begin : min(size, begin + batch)]).items():
            latest[tile.level, tile.index] = (tile, content)
    assert appender.root == naive_root(LEAVES[:size])
    return dict(latest.values())


sizes = st.integers(1, 130)


@given(sizes)
def test_frontier_gives_the_root_and_every_complete_node(size: int) -> None:
    frontier = Frontier()
    for number in range(size):
        for (level, index), found in frontier.append(LEAVES[number]):
            assert found == naive_hash_at(level, index)
        assert frontier.root == naive_root(LEAVES[: number + 1])
    resumed = Frontier(size, [naive_hash_at(*node) for node in range_nodes(0, size)])
    assert resumed.root == frontier.root
    assert root_at(size, naive_hash_at) == frontier.root


@given(st.integers(0, 200), st.integers(0, 200))
def test_range_nodes_cover_the_range_once(begin: int, length: int) -> None:
    covered = [leaf for level, index in range_nodes(begin, begin + length)
               for leaf in range(index << level, (index + 1) << level)]  # fmt: skip
    assert covered == list(range(begin, begin + length))


@given(sizes.flatmap(lambda size: st.tuples(st.integers(0, size - 1), st.just(size))))
def test_inclusion_proof_is_the_naive_one_and_verifies(case: tuple[int, int]) -> None:
    index, size = case
    proof = inclusion_proof(index, size, naive_hash_at)
    assert list(proof) == naive_path(index, LEAVES[:size])
    verify_inclusion(index, size, LEAVES[index], proof, naive_root(LEAVES[:size]))


@given(st.data(), sizes)
def test_a_changed_inclusion_proof_is_refused(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    proof = list(inclusion_proof(index, size, naive_hash_at))
    root = naive_root(LEAVES[:size])
    match data.draw(st.sampled_from(["hash", "drop", "add", "leaf", "index", "size"])):
        case "hash" if proof:
            at = data.draw(st.integers(0, len(proof) - 1))
            proof[at] = data.draw(st.binary(min_size=32, max_size=32).filter(lambda other: other != proof[at]))
            with pytest.raises(DishonestError):
                verify_inclusion(index, size, LEAVES[index], proof, root)
        case "drop" if proof:
            with pytest.raises(PeerError):
                verify_inclusion(index, size, LEAVES[index], proof[:-1], root)
        case "add":
            with pytest.raises(MalformedError):
                verify_inclusion(index, size, LEAVES[index], [*proof, root], root)
        case "index":
            with pytest.raises(PeerError):
                verify_inclusion(index + 1, size, LEAVES[index], proof, root)
        case "size":
            with pytest.raises(MalformedError):
                verify_inclusion(index, data.draw(st.integers(-3, index)), LEAVES[index], proof, root)
        case _:
            with pytest.raises(DishonestError):
                verify_inclusion(index, size, LEAVES[-1], proof, root)


@given(sizes.flatmap(lambda new: st.tuples(st.integers(1, new), st.just(new))))
def test_consistency_proof_is_the_naive_one_and_verifies(case: tuple[int, int]) -> None:
    old, new = case
    proof = consistency_proof(old, new, naive_hash_at)
    assert list(proof) == naive_subproof(old, LEAVES[:new], True)
    verify_consistency(old, new, naive_root(LEAVES[:old]), naive_root(LEAVES[:new]), proof)


@given(st.data(), sizes)
def test_a_changed_consistency_proof_is_refused(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(1, new))
    proof = list(consistency_proof(old, new, naive_hash_at))
    roots = [naive_root(LEAVES[:old]), naive_root(LEAVES[:new])]
    match data.draw(st.sampled_from(["hash", "drop", "add", "old root", "new root", "order"])):
        case "hash" if proof:
            at = data.draw(st.integers(0, len(proof) - 1))
            proof[at] = bytes(32)
        case "drop" if proof:
            proof.pop(data.draw(st.integers(0, len(proof) - 1)))
        case "add":
            proof.append(roots[0])
        case "old root":
            roots[0] = bytes(32)
        case "order":
            old = new + 1
        case _:
            roots[1] = bytes(32)
    with pytest.raises(PeerError):
        verify_consistency(old, new, roots[0], roots[1], proof)


@settings(max_examples=at_length(40))
@given(st.integers(1, 700), st.integers(1, 700), st.integers(1, 300))
def test_proofs_are_made_from_the_tiles_they_name(one: int, other: int, batch: int) -> None:
    old, size = sorted((one, other))
    stored = stored_tiles(size, batch)
    needed = tiles_for(size, lambda hash_at: consistency_proof(old, size, hash_at))
    needed |= tiles_for(size, lambda hash_at: inclusion_proof(old - 1, size, hash_at))
    assert needed <= stored.keys()
    reader = TileReader(size, {tile: stored[tile] for tile in needed})
    root = naive_root(LEAVES[:size])
    verify_inclusion(old - 1, size, LEAVES[old - 1], inclusion_proof(old - 1, size, reader.hash_at), root)
    proof = consistency_proof(old, size, reader.hash_at)
    verify_consistency(old, size, naive_root(LEAVES[:old]), root, proof)


@settings(max_examples=at_length(30))
@given(st.integers(1, 650), st.integers(1, 50))
def test_an_appender_resumes_from_the_edge_tiles_alone(size: int, more: int) -> None:
    stored = stored_tiles(size)
    edge = {tile: stored[tile] for tile in TileAppender.edge_tiles(size)}
    assert all(tile.width < TILE_WIDTH for tile in edge)
    resumed = TileAppender(size, edge)
    changed = resumed.append(LEAVES[size : size + more])
    assert resumed.root == naive_root(LEAVES[: size + more])
    fresh = stored_tiles(resumed.size)
    assert changed.items() <= fresh.items() | {(t, c) for t, c in changed.items() if t not in fresh}
    with pytest.raises(MalformedError):
        TileAppender(size, dict(list(edge.items())[1:]))


def test_a_frontier_takes_only_its_own_number_of_hashes() -> None:
    with pytest.raises(ValueError, match="1 edge hashes"):
        Frontier(4, [bytes(32), bytes(32)])


def test_proofs_of_nothing_are_refused() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 3), (0, 2**63)):
        with pytest.raises(MalformedError):
            inclusion_proof(index, size, naive_hash_at)
    for old, new in ((0, 3), (4, 3), (0, 0), (1, 2**63)):
        with pytest.raises(MalformedError):
            consistency_proof(old, new, naive_hash_at)
    with pytest.raises(MalformedError):
        verify_inclusion(0, 1, b"short", (), bytes(32))


@given(st.integers(0, 40))
def test_root_of_leaf_hashes(size: int) -> None:
    assert root_of(LEAVES[:size]) == naive_root(LEAVES[:size])
