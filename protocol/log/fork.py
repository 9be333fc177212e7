"""Proof that a ledger's operator has signed two histories: two of its checkpoints that cannot both be true.

Two checkpoints of one size with two roots show it by themselves. Where the sizes differ, the larger one's log shows it:
the root that it has at the smaller size, with the consistency proof from there, and that root is not the signed one.
Whoever knows the ledger's key can check it alone (docs/spec/ledger.md, clause C11). What nobody can prove to others is
that a ledger shows fewer entries than it has signed for, or no proof at all.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.encoding.strict_json import exact_keys, parse_object
from protocol.errors import MalformedError
from protocol.identity.eip712 import struct_hash
from protocol.log.checkpoint import Checkpoint, Operator, SignedCheckpoint, check_operator_line, open_checkpoint
from protocol.log.merkle import verify_consistency
from protocol.log.note import VerifierKey, decode_base64

__all__ = ["MAX_FORK_BYTES", "ForkProof", "check_fork", "convicting_pair", "dump_fork", "load_fork"]

MAX_FORK_BYTES = 32 * 1024
MAX_HASHES = 128
_KIND = "fork-proof/1"
_KEYS = ("kind", "verifier_key", "older", "newer", "root", "consistency")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkProof:
    """See the module. It proves nothing until `check_fork` has looked at it."""

    verifier_key: str
    """C2SP text of the key that has signed both."""
    older: bytes
    """The signed note of the smaller checkpoint, or of either where both have one size."""
    newer: bytes
    root: bytes
    """32 bytes: what the newer one's log has at the older one's size."""
    consistency: tuple[bytes, ...]
    """RFC 6962 proof from that root to the newer checkpoint; empty where both have one size."""


def check_fork(proof: ForkProof) -> tuple[Checkpoint, Checkpoint]:
    """The two checkpoints that contradict each other, older first.

    The caller still owes: that `verifier_key` is the key of the ledger that it means.

    Raises:
        MalformedError: not two checkpoints in order of size, or two that agree.
        SignatureError: one of them is not signed by the key.
        DishonestError: the newer one's log does not have that root.
    """
    verifier = VerifierKey.parse(proof.verifier_key)
    older, newer = open_checkpoint(proof.older, verifier), open_checkpoint(proof.newer, verifier)
    verify_consistency(older.size, newer.size, proof.root, newer.root, proof.consistency)
    if proof.root == older.root:
        raise MalformedError("the two checkpoints are of one history: they prove nothing against anybody")
    return older, newer


def convicting_pair(proof: ForkProof, operator: Operator) -> tuple[SignedCheckpoint, SignedCheckpoint] | None:
    """The two as the operator has signed them for a venue, in order of their hashes; None where that is not enough.

    Rules that hold a bond see two roots for one size, signed by one key; between different sizes they see nothing.

    Raises MalformedError, SignatureError: as `check_operator_line`.
    """
    first, second = (check_operator_line(note, operator) for note in (proof.older, proof.newer))
    if first is None or second is None or first.checkpoint.size != second.checkpoint.size:
        return None
    low, high = sorted((first, second), key=lambda each: struct_hash(each.checkpoint))
    return low, high


def dump_fork(proof: ForkProof) -> str:
    """The proof as a file has it: JSON, with both notes in clear."""
    said = {
        "kind": _KIND,
        "verifier_key": proof.verifier_key,
        "older": proof.older.decode(),
        "newer": proof.newer.decode(),
        "root": _base64(proof.root),
        "consistency": [_base64(each) for each in proof.consistency],
    }
    return json.dumps(said, indent=1, ensure_ascii=False) + "\n"


def load_fork(data: bytes) -> ForkProof:
    """Read strictly; nothing is verified. Raises MalformedError."""
    said = exact_keys(parse_object(data, limit=MAX_FORK_BYTES, depth=2), *_KEYS)
    hashes = said["consistency"]
    texts = [said[name] for name in _KEYS if name != "consistency"]
    if said["kind"] != _KIND or not isinstance(hashes, list) or len(hashes) > MAX_HASHES:
        raise MalformedError(f"this is not a {_KIND}")
    if not all(isinstance(each, str) for each in (*texts, *hashes)):
        raise MalformedError(f"a {_KIND} has text where this has something else")
    return ForkProof(
        verifier_key=said["verifier_key"],
        older=said["older"].encode(),
        newer=said["newer"].encode(),
        root=decode_base64(said["root"]),
        consistency=_hashes(hashes),
    )


def _hashes(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(map(decode_base64, texts))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
