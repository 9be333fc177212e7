"""Tries of a block: what is made is read, and nothing else."""

from __future__ import annotations

import pytest
from brevity import at_length
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.chain.rlp import rlp
from protocol.chain.trie import trie_proof, trie_root, trie_value
from protocol.errors import DishonestError, MalformedError, PeerError
from protocol.identity.ids import keccak256


def test_roots_follow_from_the_definition() -> None:
    # keys are 0x80 for number 0 and 0x01, 0x02 for the next; nodes of less than 32 bytes stand in the one above
    assert trie_root([b"a"]) == keccak256(rlp([b"\x20\x80", b"a"]))
    below = [b"", [b"\x20", b"b"], [b"\x20", b"c"], *[b""] * 14]
    assert trie_root([b"a", b"b", b"c"]) == keccak256(rlp([below, *[b""] * 7, [b"\x30", b"a"], *[b""] * 8]))


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=300), st.data())
@settings(max_examples=at_length(25), deadline=None)
def test_each_value_is_shown_at_its_number_and_nowhere_else(values: list[bytes], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(values) - 1))
    root, proof = trie_root(values), trie_proof(values, number)
    assert trie_value(root, number, proof) == values[number]
    other = data.draw(st.integers(0, 400).filter(lambda each: each != number))
    wrong = [(root, other, proof), (root, number, proof[:-1]), (root, number, (*proof, proof[-1])), (root, number, ())]
    wrong.append((keccak256(root), number, proof))
    spoilt = data.draw(st.integers(0, len(proof[-1]) - 1))
    changed = bytearray(proof[-1])
    changed[spoilt] ^= data.draw(st.integers(1, 255))
    wrong.append((root, number, (*proof[:-1], bytes(changed))))
    for case in wrong:
        try:
            found = trie_value(*case)
        except PeerError:
            continue
        assert (case[1], found) == (other, values[other])


def test_nodes_that_are_none_are_refused() -> None:
    for node in (
        b"a",
        [b"a"],
        [b"a", b"b", b"c"],
        [b"\x40", b"v"],
        [b"\x01\x80", b"v"],
        [[b"\x20"], b"v"],
        [b"", b"v"],
    ):
        encoded = rlp(node)
        with pytest.raises(MalformedError):
            trie_value(keccak256(encoded), 0, [encoded])
    for node in ([b"\x20\x80", b""], [b"\x20\x81", b"v"], [*[b""] * 17], [b"\x00\x80", b"\1" * 31]):
        encoded = rlp(node)
        with pytest.raises(DishonestError):
            trie_value(keccak256(encoded), 0, [encoded])
