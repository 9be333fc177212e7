"""Checkpoints: what a log commits to, as the text of a signed note (https://c2sp.org/tlog-checkpoint).

::

    <origin: the log's name>
    <number of entries>
    <base64 of the Merkle root>
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from protocol.errors import DishonestError, InvalidError, MalformedError, peers_fault
from protocol.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, leaf_hash, verify_inclusion
from protocol.note import Note, NoteKey, VerifierKey, decode_base64, open_note, parse_note, sign_note
from protocol.text import is_plain_text

__all__ = [
    "MAX_GOSSIPED_BYTES",
    "Checkpoint",
    "check_gossiped",
    "format_checkpoint",
    "open_checkpoint",
    "own_note",
    "parse_checkpoint",
    "sign_checkpoint",
    "verify_entry",
]

MAX_GOSSIPED_BYTES = 1_024
"""Of a checkpoint on gossip: a long origin, a size, a root, and one signature."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head."""

    origin: str
    """The log's name, which is also the name of the key that signs for it."""
    size: int
    """Entries in the tree."""
    root: bytes
    """32 bytes: RFC 6962 root over them."""

    def __post_init__(self) -> None:
        if not self.origin or not is_plain_text(self.origin):
            raise InvalidError("a checkpoint names its log in one line")
        if not 0 <= self.size < MAX_SIZE:
            raise InvalidError(f"a checkpoint with a size of {self.size}")
        if len(self.root) != HASH_BYTES:
            raise InvalidError(f"a checkpoint's root has 32 bytes, not {len(self.root)}")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise InvalidError("a checkpoint of an empty tree with a root that is not the empty tree's")

    def __str__(self) -> str:
        return f"{self.origin} with {self.size} entries and root {self.root.hex()}"


def format_checkpoint(checkpoint: Checkpoint) -> str:
    """The text that is signed."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that `text` spells; further non-empty lines are allowed and have no meaning here.

    Raises MalformedError.
    """
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines):
        raise MalformedError("a checkpoint has three or more lines, none of them empty")
    origin, size, root, *_ = lines
    if not (size.isascii() and size.isdecimal()) or (size[0] == "0" and size != "0") or len(size) > 19:
        raise MalformedError(f"a checkpoint with a size of {size[:40]!r}")
    with peers_fault():
        return Checkpoint(origin, int(size), decode_base64(root))


def sign_checkpoint(checkpoint: Checkpoint, key: NoteKey) -> bytes:
    """The signed note of a checkpoint. Raises InvalidError when the key bears another name than the log."""
    if key.verifier.name != checkpoint.origin:
        raise InvalidError(f"a checkpoint of {checkpoint.origin} is not for {key.verifier.name} to sign")
    return sign_note(format_checkpoint(checkpoint), [key])


def open_checkpoint(note: bytes, verifier: VerifierKey) -> Checkpoint:
    """The checkpoint in a note that the log's key has signed.

    The caller still owes: consistency with the last checkpoint it saw (`merkle.verify_consistency`).

    Raises:
        MalformedError: not a note, or its text is not a checkpoint.
        SignatureError: not signed by the log's key.
        DishonestError: signed by the log's key for another log.
    """
    text, _ = open_note(note, verifier)
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != verifier.name:
        raise DishonestError(f"{verifier.name} signed a checkpoint of another log, {checkpoint.origin}")
    return checkpoint


def own_note(note: bytes, verifier: VerifierKey) -> bytes:
    """A note that the log's key has signed, without what others have put on it. Raises MalformedError."""
    found = parse_note(note)
    own = [line for line in found.signatures if (line.name, line.key_id) == (verifier.name, verifier.key_id)]
    return bytes(Note(found.text, tuple(own[:1])))


def check_gossiped(note: bytes, verifier: VerifierKey | None) -> bytes:
    """A checkpoint as gossip may carry it: short, with one signature, the log's own (docs/spec/ledger.md, clause C1).

    So each is one message whoever sends it on, and nobody relays what the log has not signed.

    Args:
        verifier: the log's key; None where it is not known, and then the form alone is checked.

    Raises MalformedError, SignatureError, DishonestError.
    """
    if len(note) > MAX_GOSSIPED_BYTES:
        raise MalformedError(f"a checkpoint of {len(note)} bytes where gossip carries {MAX_GOSSIPED_BYTES}")
    found = parse_note(note)
    parse_checkpoint(found.text)
    if len(found.signatures) != 1:
        raise MalformedError("on gossip a checkpoint carries the log's signature alone")
    if verifier is not None:
        open_checkpoint(note, verifier)
    return note


def verify_entry(data: bytes, index: int, proof: Sequence[bytes], note: bytes, verifier: VerifierKey) -> Checkpoint:
    """Check offline that `data` is entry `index` of the log that `verifier` signs for; returns the checkpoint it is in.

    Raises:
        MalformedError: the note is no checkpoint, or the proof has the wrong shape.
        SignatureError: the checkpoint is not signed by the log's key.
        DishonestError: the entry is not in the log there.
    """
    checkpoint = open_checkpoint(note, verifier)
    verify_inclusion(index, checkpoint.size, leaf_hash(data), proof, checkpoint.root)
    return checkpoint
