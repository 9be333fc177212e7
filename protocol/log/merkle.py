"""The ledger's Merkle tree: RFC 6962 hashes, inclusion and consistency proofs, and appending without the whole tree.

A *node* ``(level, index)`` is the root of the complete subtree over leaves ``[index << level, (index + 1) << level)``.
Proofs are made by looking nodes up one at a time, so whoever makes one decides where the nodes come from: memory, a
database, or tiles read from a log that need not be trusted (`tiles`). docs/spec/ledger.md, clauses T1 to T4.

It does not sign, and does not know what a leaf means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from protocol.errors import DishonestError, MalformedError

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "MAX_SIZE",
    "Frontier",
    "HashAt",
    "Node",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "range_nodes",
    "root_at",
    "root_of",
    "verify_consistency",
    "verify_inclusion",
]

HASH_BYTES = 32
MAX_SIZE = 2**63
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves (RFC 6962, 2.1)."""


Node = tuple[int, int]
"""``(level, index)``: the root of a complete subtree of ``2**level`` leaves with `index` such subtrees before it."""

HashAt = Callable[[int, int], bytes]
"""Looks up the 32-byte hash of the node ``(level, index)``."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one log entry (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def range_nodes(begin: int, end: int) -> list[Node]:
    """The fewest complete subtrees that together cover the leaves ``[begin, end)``, from left to right."""
    nodes: list[Node] = []
    while begin < end:
        aligned = (begin & -begin).bit_length() - 1 if begin else MAX_SIZE.bit_length()
        level = min(aligned, (end - begin).bit_length() - 1)
        nodes.append((level, begin >> level))
        begin += 1 << level
    return nodes


def _fold(hashes: Sequence[bytes]) -> bytes:
    """The hash of the subtree whose complete parts are `hashes`, from left (the largest) to right."""
    if not hashes:
        return EMPTY_ROOT
    *others, folded = hashes
    for left in reversed(others):
        folded = node_hash(left, folded)
    return folded


def root_at(size: int, hash_at: HashAt) -> bytes:
    """Root of the tree of the first `size` leaves."""
    return _subtree(0, size, hash_at)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Root of the tree over these leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root


def _subtree(begin: int, end: int, hash_at: HashAt) -> bytes:
    return _fold([hash_at(level, index) for level, index in range_nodes(begin, end)])


def _split(size: int) -> int:
    """The largest power of two below `size` (`size` is at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)


class Frontier:
    """The right edge of a growing tree: all that appending needs, at most 63 hashes.

    `hashes` are those of `range_nodes(0, size)`.
    """

    __slots__ = ("hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)
        if len(self.hashes) != size.bit_count():
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} edge hashes, not {len(self.hashes)}")

    def append(self, leaf: bytes) -> list[tuple[Node, bytes]]:
        """Add one leaf hash; returns every node that it completes with its hash, from the leaf upwards."""
        completed: list[tuple[Node, bytes]] = [((0, self.size), leaf)]
        self.hashes.append(leaf)
        level, index = 0, self.size
        while index & 1:
            right = self.hashes.pop()
            joined = node_hash(self.hashes.pop(), right)
            self.hashes.append(joined)
            level, index = level + 1, index >> 1
            completed.append(((level, index), joined))
        self.size += 1
        return completed

    @property
    def root(self) -> bytes:
        """Root of the tree as it stands."""
        return _fold(self.hashes)


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> tuple[bytes, ...]:
    """The audit path of leaf `index` in the tree of `size` leaves, deepest first (RFC 6962, 2.1.1).

    Raises MalformedError when the tree has no such leaf.
    """
    _check_index(index, size)
    path = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_subtree(middle, end, hash_at))
            end = middle
        else:
            path.append(_subtree(begin, middle, hash_at))
            begin = middle
    return tuple(reversed(path))


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that the leaf with hash `leaf` stands at `index` of the tree (`size`, `root`) (RFC 9162, 2.1.3.2).

    Raises:
        MalformedError: no such leaf in a tree of that size, or a proof of the wrong shape.
        DishonestError: the proof leads to another root.
    """
    _check_index(index, size)
    _check_hashes((leaf, *proof))
    position, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise MalformedError("the inclusion proof is too long")
        if position & 1 or position == last:
            found = node_hash(sibling, found)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise MalformedError("the inclusion proof is too short")
    if found != root:
        raise DishonestError(f"entry {index} is not in the tree of {size} entries that the checkpoint commits to")


def consistency_proof(old: int, new: int, hash_at: HashAt) -> tuple[bytes, ...]:
    """The proof that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 6962, 2.1.2).

    Raises MalformedError unless ``1 <= old <= new``: nothing can be proven of an empty tree.
    """
    _check_sizes(old, new)
    path = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_subtree(middle, end, hash_at))
            end = middle
        else:
            path.append(_subtree(begin, middle, hash_at))
            begin, whole = middle, False
    if not whole:
        path.append(_subtree(begin, end, hash_at))
    return tuple(reversed(path))


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (`old`, `old_root`) is a prefix of (`new`, `new_root`) (RFC 9162, 2.1.4.2).

    Raises:
        MalformedError: sizes out of order, or a proof of the wrong shape.
        DishonestError: the trees contradict each other.
    """
    _check_sizes(old, new)
    _check_hashes(proof)
    if old == new:
        if proof:
            raise MalformedError("a consistency proof between equal sizes is empty")
        _require_equal(old_root, new_root, old, new)
        return
    # A complete old tree is itself the first node of the proof, so the proof leaves it out.
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        raise MalformedError("the consistency proof is too short")
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    old_found = new_found = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise MalformedError("the consistency proof is too long")
        if first & 1 or first == last:
            old_found, new_found = node_hash(sibling, old_found), node_hash(sibling, new_found)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            new_found = node_hash(new_found, sibling)
        first, last = first >> 1, last >> 1
    if last != 0:
        raise MalformedError("the consistency proof is too short")
    _require_equal(old_found, old_root, old, new)
    _require_equal(new_found, new_root, old, new)


def _require_equal(found: bytes, expected: bytes, old: int, new: int) -> None:
    if found != expected:
        raise DishonestError(f"the tree of {new} entries does not continue the tree of {old} entries")


def _check_index(index: int, size: int) -> None:
    if not 0 <= index < size < MAX_SIZE:
        raise MalformedError(f"no entry {index} in a tree of {size}")


def _check_sizes(old: int, new: int) -> None:
    if not 1 <= old <= new < MAX_SIZE:
        raise MalformedError(f"no consistency proof leads from a tree of {old} to a tree of {new}")


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(each) != HASH_BYTES for each in hashes):
        raise MalformedError("a hash has 32 bytes")
