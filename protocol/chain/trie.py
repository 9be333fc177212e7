"""Merkle-Patricia tries of an EVM block (Ethereum yellow paper, appendix D): what stands at one place, and the proof.

A block's header names the roots of its transactions and of their receipts; the key of each is its number, in RLP. A
proof is the nodes from the root to the value, each but the first named by a hash in the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.chain.rlp import Item, read_rlp, rlp
from protocol.errors import DishonestError, MalformedError
from protocol.identity.ids import keccak256

__all__ = ["MAX_NODES", "trie_proof", "trie_root", "trie_value"]

MAX_NODES = 16
"""In a proof: a number's key has at most ten digits."""
_HASH = 32
_BRANCH = 17
_SHORT = 2
_ODD, _LEAF = 1, 2


def trie_value(root: bytes, number: int, proof: Sequence[bytes]) -> bytes:
    """What stands at a number, by a trie's root.

    Raises:
        MalformedError: nodes in another form, or more than lead there.
        DishonestError: they do not lead from this root to a value at this number.
    """
    left = iter(proof)

    def named(name: bytes) -> bytes:
        node = next(left, None)
        if node is None or keccak256(node) != name:
            raise DishonestError("a trie's proof that does not begin at the root, or breaks off")
        return node

    value = _walk(named, root, number)
    if next(left, None) is not None:
        raise MalformedError("a trie's proof with nodes that lead nowhere")
    return value


def trie_root(values: Sequence[bytes]) -> bytes:
    """The root of a trie of these values, numbered from 0; at least one."""
    return _build(values)[0]


def trie_proof(values: Sequence[bytes], number: int) -> tuple[bytes, ...]:
    """The nodes that lead to one of the values."""
    root, nodes = _build(values)
    proof = []

    def named(name: bytes) -> bytes:
        proof.append(nodes[name])
        return nodes[name]

    _walk(named, root, number)
    return tuple(proof)


def _walk(named: Callable[[bytes], bytes], root: bytes, number: int) -> bytes:
    path, child = _digits(rlp(number)), root
    node: Item = read_rlp(named(child))
    while True:
        if isinstance(node, (bytes, int)) or len(node) not in (_SHORT, _BRANCH):
            raise MalformedError("a trie with a node that is none")
        if len(node) == _BRANCH:
            if not path:
                return _leaf(node[-1])
            below, path = node[path[0]], path[1:]
        else:
            part, is_leaf = _path(node[0])
            if path[: len(part)] != part or (is_leaf and path != part):
                raise DishonestError("a trie that has nothing at this number")
            if is_leaf:
                return _leaf(node[1])
            below, path = node[1], path[len(part) :]
        if isinstance(below, bytes) and len(below) == _HASH:
            node = read_rlp(named(below))
        elif isinstance(below, bytes):
            raise DishonestError("a trie that has nothing at this number")
        else:
            node = below  # a node of less than 32 bytes stands in the one above


def _leaf(value: Item) -> bytes:
    if not isinstance(value, bytes) or not value:
        raise DishonestError("a trie that has nothing at this number")
    return value


def _digits(data: bytes) -> tuple[int, ...]:
    return tuple(digit for byte in data for digit in (byte >> 4, byte & 15))


def _path(said: Item) -> tuple[tuple[int, ...], bool]:
    """The digits of a short node, and whether it is the last one."""
    digits = _digits(said) if isinstance(said, bytes) else ()
    if not digits or digits[0] > (_ODD | _LEAF) or (not digits[0] & _ODD and digits[1]):
        raise MalformedError("a trie with a path that is none")
    return digits[1 if digits[0] & _ODD else 2 :], bool(digits[0] & _LEAF)


# Made


def _build(values: Sequence[bytes]) -> tuple[bytes, dict[bytes, bytes]]:
    """The root, and all nodes by their hashes."""
    nodes: dict[bytes, bytes] = {}

    def kept(encoded: bytes) -> bytes:
        name = keccak256(encoded)
        nodes[name] = encoded
        return name

    def below(node: Item) -> Item:
        encoded = rlp(node)
        return kept(encoded) if len(encoded) >= _HASH else node

    def made(items: Sequence[tuple[tuple[int, ...], bytes]]) -> Item:
        first, value = items[0]
        if len(items) == 1:
            return [_packed(first, _LEAF), value]
        last = items[-1][0]
        shared = next(at for at in range(len(first) + 1) if first[at : at + 1] != last[at : at + 1])
        if shared:
            return [_packed(first[:shared], 0), below(made([(path[shared:], each) for path, each in items]))]
        children: list[Item] = []
        for digit in range(_BRANCH - 1):
            under = [(path[1:], each) for path, each in items if path[0] == digit]
            children.append(below(made(under)) if under else b"")
        return [*children, b""]  # no number's key begins another's

    items = sorted((_digits(rlp(number)), value) for number, value in enumerate(values))
    return kept(rlp(made(items))), nodes


def _packed(path: Sequence[int], kind: int) -> bytes:
    digits = (kind | _ODD, *path) if len(path) % 2 else (kind, 0, *path)
    return bytes(high << 4 | low for high, low in zip(digits[::2], digits[1::2], strict=True))
