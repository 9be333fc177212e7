"""Checkpoints: what a log commits to, as the text of a signed note (https://c2sp.org/tlog-checkpoint).

::

    <origin: the log's name>
    <number of entries>
    <base64 of the Merkle root>

Beside the log's Ed25519 key its operator may sign, with the secp256k1 key that its account has: not the text but typed
data that says the same, so that a ledger's rules or a contract can hold two of them against a bond. C2SP readers pass
over that line, as over every key that they do not know.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from protocol.encoding.codec import Message, message
from protocol.encoding.text import is_plain_text
from protocol.errors import DishonestError, InvalidError, MalformedError, SignatureError, peers_fault
from protocol.identity.eip712 import Domain, Recover, recover_typed, sign_typed
from protocol.identity.ids import U64, Address, Bytes32, SignatureBytes, keccak256
from protocol.identity.signing import SigningKey
from protocol.log.merkle import EMPTY_ROOT, HASH_BYTES, MAX_SIZE, leaf_hash, verify_inclusion
from protocol.log.note import (
    Note,
    NoteKey,
    NoteSignature,
    VerifierKey,
    decode_base64,
    key_id_of,
    open_note,
    parse_note,
    sign_note,
)

__all__ = [
    "MAX_GOSSIPED_BYTES",
    "Checkpoint",
    "Operator",
    "SignedCheckpoint",
    "TypedCheckpoint",
    "check_gossiped",
    "check_operator_line",
    "format_checkpoint",
    "open_checkpoint",
    "operator_line",
    "operators_in",
    "own_note",
    "parse_checkpoint",
    "recover_checkpoint",
    "sign_checkpoint",
    "sign_typed_checkpoint",
    "typed_checkpoint",
    "verify_entry",
]

MAX_GOSSIPED_BYTES = 1_024
"""Of a checkpoint on gossip: a long origin, a size, a root, and two signatures."""
_OPERATOR_TYPE = b"\xffeip712-secp256k1"
"""A type of one's own, as C2SP signed-note has 0xff for."""


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


def sign_checkpoint(checkpoint: Checkpoint, key: NoteKey, *lines: NoteSignature) -> bytes:
    """The signed note of a checkpoint, with further `lines`.

    Raises InvalidError when the key bears another name than the log.
    """
    if key.verifier.name != checkpoint.origin:
        raise InvalidError(f"a checkpoint of {checkpoint.origin} is not for {key.verifier.name} to sign")
    return sign_note(format_checkpoint(checkpoint), [key], *lines)


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


def own_note(note: bytes, verifier: VerifierKey, operator: Operator | None = None) -> bytes:
    """A note that the log's key has signed, without what others have put on it but its `operator`'s line.

    That line is as it came: `check_operator_line` verifies it. Raises MalformedError.
    """
    found = parse_note(note)
    kept = [line for line in found.signatures if (line.name, line.key_id) == (verifier.name, verifier.key_id)][:1]
    if operator is not None:
        key_id = _operator_key_id(verifier.name, operator.address)
        kept += [line for line in found.signatures if (line.name, line.key_id) == (verifier.name, key_id)][:1]
    return bytes(Note(found.text, tuple(kept)))


def check_gossiped(note: bytes, verifier: VerifierKey | None, operator: Operator | None = None) -> bytes:
    """A checkpoint as gossip may carry it: short, signed by its log, and by nobody else but the log's operator.

    So each is one message whoever sends it on, and nobody relays what the log has not signed (docs/spec/ledger.md,
    clauses C1 and C12).

    Args:
        verifier: the log's key; None where it is not known, and then the form alone is checked.
        operator: whose line may stand on it; without one, none may where `verifier` is known.

    Raises MalformedError, SignatureError, DishonestError.
    """
    if len(note) > MAX_GOSSIPED_BYTES:
        raise MalformedError(f"a checkpoint of {len(note)} bytes where gossip carries {MAX_GOSSIPED_BYTES}")
    found = parse_note(note)
    parse_checkpoint(found.text)
    if len(found.signatures) > 2:
        raise MalformedError("on gossip a checkpoint carries its log's and its operator's signature alone")
    if verifier is not None:
        open_checkpoint(note, verifier)
        if own_note(note, verifier, operator) != note:
            raise MalformedError("on gossip a checkpoint carries its log's and its operator's signature alone")
    if operator is not None:
        check_operator_line(note, operator)
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


# The operator's word as typed data


@message(typed=True, typed_as="Checkpoint")
class TypedCheckpoint(Message):
    """A checkpoint as an operator signs it with its account's key, which a ledger's rules and a contract can check."""

    origin: Bytes32
    """Keccak-256 of the origin line."""
    size: U64
    """Entries in the tree."""
    root: Bytes32
    """RFC 6962 root over them."""


@message()
class SignedCheckpoint(Message):
    """A typed checkpoint with its operator's signature."""

    checkpoint: TypedCheckpoint
    signature: SignatureBytes


def typed_checkpoint(checkpoint: Checkpoint) -> TypedCheckpoint:
    """The typed data that says what a checkpoint says."""
    return TypedCheckpoint(
        origin=keccak256(checkpoint.origin.encode()), size=checkpoint.size, root=bytes(checkpoint.root)
    )


def sign_typed_checkpoint(domain: Domain, checkpoint: Checkpoint, key: SigningKey) -> SignedCheckpoint:
    """A checkpoint signed by an operator's key for one venue: its own ledger, or a contract that holds its bond."""
    typed = typed_checkpoint(checkpoint)
    return SignedCheckpoint(checkpoint=typed, signature=sign_typed(domain, typed, key))


def recover_checkpoint(domain: Domain, signed: SignedCheckpoint, recover: Recover = recover_typed) -> Address:
    """Who signed a typed checkpoint for this venue. Raises SignatureError."""
    return recover(domain, signed.checkpoint, signed.signature)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who answers with its bond for a log's checkpoints, and in which venue."""

    domain: Domain
    address: Address


def operator_line(domain: Domain, checkpoint: Checkpoint, key: SigningKey) -> NoteSignature:
    """The same as a further line of the checkpoint's note, under the log's name (docs/spec/ledger.md, clause C12)."""
    signed = sign_typed_checkpoint(domain, checkpoint, key)
    return NoteSignature(checkpoint.origin, _operator_key_id(checkpoint.origin, key.address), signed.signature)


def check_operator_line(note: bytes, operator: Operator) -> SignedCheckpoint | None:
    """What the operator has signed in a note; None where it has no line of it.

    Raises:
        MalformedError: not a note, or its text is not a checkpoint.
        SignatureError: the line is not the operator's, for this venue.
    """
    found = parse_note(note)
    checkpoint = parse_checkpoint(found.text)
    wanted = (checkpoint.origin, _operator_key_id(checkpoint.origin, operator.address))
    line = next((line for line in found.signatures if (line.name, line.key_id) == wanted), None)
    if line is None:
        return None
    if len(line.signature) != 64:
        raise SignatureError("the operator's line of a checkpoint has no signature of 64 bytes")
    signed = SignedCheckpoint(checkpoint=typed_checkpoint(checkpoint), signature=line.signature)
    if recover_checkpoint(operator.domain, signed) != operator.address:
        raise SignatureError("the operator's line of a checkpoint is not signed by the operator for this ledger")
    return signed


def operators_in(note: bytes, domain: Domain) -> set[Address]:
    """Every account that has a line on a note, signed for a ledger with this domain. Raises MalformedError."""
    found = parse_note(note)
    checkpoint = parse_checkpoint(found.text)
    signers = set()
    for line in found.signatures:
        if line.name == checkpoint.origin and len(line.signature) == 64:
            signed = SignedCheckpoint(checkpoint=typed_checkpoint(checkpoint), signature=line.signature)
            with suppress(SignatureError):
                signers.add(recover_checkpoint(domain, signed))
    return {each for each in signers if check_operator_line(note, Operator(domain, each)) is not None}


def _operator_key_id(origin: str, operator: Address) -> bytes:
    """As C2SP has it; the address stands for the key, which follows from the signature."""
    return key_id_of(origin, _OPERATOR_TYPE + operator)
