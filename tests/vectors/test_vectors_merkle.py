"""RFC 6962 hashes, roots and proofs against transparency-dev/merkle's own test data."""

from __future__ import annotations

import base64
from collections.abc import Callable

from outside_vectors import load_vectors

from protocol.errors import PeerError
from protocol.log.merkle import EMPTY_ROOT, leaf_hash, node_hash, root_of, verify_consistency, verify_inclusion


def unpack(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def accepted(check: Callable[[], None]) -> bool:
    try:
        check()
    except PeerError:
        return False
    return True


def test_hashes_and_roots() -> None:
    vectors = load_vectors("rfc6962_hashes")
    leaves = [leaf_hash(bytes.fromhex(leaf)) for leaf in vectors["leaf_inputs"]]
    assert [root_of(leaves[:size]).hex() for size in range(len(leaves) + 1)] == vectors["roots"]
    assert vectors["roots"][0] == EMPTY_ROOT.hex()
    assert leaf_hash(vectors["leaf"]["in"].encode()).hex() == vectors["leaf"]["out"]
    node = vectors["node"]
    assert node_hash(node["l"].encode(), node["r"].encode()).hex() == node["out"]


def test_inclusion_proofs() -> None:
    cases = load_vectors("rfc6962_inclusion")["cases"]
    for case in cases:
        proof = [unpack(each) for each in case["proof"] or []]
        leaf, root = unpack(case["leafHash"]), unpack(case["root"])
        taken = accepted(lambda c=case, p=proof, x=leaf, r=root: verify_inclusion(c["leafIdx"], c["treeSize"], x, p, r))
        assert taken is not case["wantErr"], case["file"]
    assert sum(not case["wantErr"] for case in cases) > 0


def test_consistency_proofs() -> None:
    cases = load_vectors("rfc6962_consistency")["cases"]
    for case in cases:
        proof = [unpack(each) for each in case["proof"] or []]
        roots = unpack(case["root1"]), unpack(case["root2"])
        taken = accepted(lambda c=case, p=proof, r=roots: verify_consistency(c["size1"], c["size2"], *r, p))
        assert taken is not case["wantErr"], case["file"]
    assert sum(not case["wantErr"] for case in cases) > 0
