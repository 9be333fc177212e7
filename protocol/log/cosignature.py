"""Witnesses: parties that sign a log's checkpoint once they have seen that it continues the last one that they signed.

A cosignature is a line of the checkpoint's note, with the time at which it was made (https://c2sp.org/tlog-cosignature,
Ed25519, type 0x04)::

    — <witness's name> <base64 of 4-byte key id, 8-byte time, 64-byte signature>

Two histories of one log cannot both get the cosignatures of an honest witness. What a log asks a witness, and how old a
cosignature may be, is here too (https://c2sp.org/tlog-witness; docs/spec/ledger.md, clauses C13 to C15).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from protocol.errors import (
    DishonestError,
    ForkedError,
    InvalidError,
    MalformedError,
    PeerError,
    SignatureError,
    StaleError,
    UnwitnessedError,
    peers_fault,
)
from protocol.log.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from protocol.log.merkle import HASH_BYTES, MAX_SIZE, verify_consistency
from protocol.log.note import MAX_NOTE_BYTES, NoteKey, NoteSignature, VerifierKey, decode_base64, parse_note

__all__ = [
    "MAX_PROOF_LINES",
    "MAX_SECOND_KEYS",
    "MAX_WITNESSES",
    "AddCheckpoint",
    "Cosigner",
    "CosignerKey",
    "CosigningKey",
    "WitnessPolicy",
    "check_add_checkpoint",
    "cosigned_by",
    "parse_add_checkpoint",
]

MAX_WITNESSES = 16
"""Of one log, and of one policy."""
MAX_SECOND_KEYS = 4
"""Lines of ML-DSA in one policy: each is 3.3 KB, in every piece of evidence that is asked for with it."""
MAX_PROOF_LINES = 63
AHEAD_S = 300
"""A cosignature that is dated further ahead than this does not count."""

_TIME_BYTES = 8
_MOST_BYTES = MAX_NOTE_BYTES + 4 * 1024


def _signed(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class CosignerKey(VerifierKey):
    """What verifies a witness's cosignatures; C2SP writes it like a log's, with type 0x04."""

    key_type: ClassVar[int] = 0x04
    what: ClassVar[str] = "Ed25519 cosignature"

    def verify(self, text: str, signature: bytes) -> None:
        """Check a signature line's content over a checkpoint's text. Raises SignatureError."""
        self.verify_bytes(_signed(text, self.time_of(signature)), signature[_TIME_BYTES:])

    def time_of(self, signature: bytes) -> int:
        """When a cosignature says that it was made, Unix seconds. Raises SignatureError where it is none."""
        time = int.from_bytes(signature[:_TIME_BYTES], "big")
        if len(signature) != _TIME_BYTES + 64 or time >= MAX_SIZE:
            raise SignatureError(f"the cosignature of {self.name} is not 8 bytes of time and 64 of signature")
        return time


class CosigningKey(NoteKey):
    """A witness's secret."""

    __slots__ = ()
    verifier_class: ClassVar[type[VerifierKey]] = CosignerKey

    def cosign(self, checkpoint_text: str, time: int) -> NoteSignature:
        """That at `time` (Unix seconds) this is the largest tree of its log that the witness knows."""
        if not 0 <= time < MAX_SIZE:
            raise InvalidError(f"a cosignature dated {time}")
        content = struct.pack(">Q", time) + self.sign_bytes(_signed(checkpoint_text, time))
        return NoteSignature(self.verifier.name, self.verifier.key_id, content)


class Cosigner(Protocol):
    """What verifies one party's cosignatures, of whatever type."""

    @property
    def name(self) -> str: ...

    @property
    def key_id(self) -> bytes: ...

    def verify(self, text: str, signature: bytes) -> None:
        """Raises SignatureError."""

    def time_of(self, signature: bytes) -> int:
        """Unix seconds. Raises SignatureError."""


def cosigned_by(note: bytes, witness: Cosigner) -> int | None:
    """When a witness has cosigned the checkpoint in a note, Unix seconds; None where it has not.

    Of several lines by it the newest counts. Raises MalformedError, and SignatureError for a line that does not verify.
    """
    found = parse_note(note)
    times = []
    for line in found.signatures:
        if (line.name, line.key_id) == (witness.name, witness.key_id):
            witness.verify(found.text, line.signature)
            times.append(witness.time_of(line.signature))
    return max(times, default=None)


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """What a reader asks of a checkpoint beside its log's signature."""

    witnesses: tuple[CosignerKey, ...] = ()
    """Those that are trusted."""
    least: int = 0
    """How many of them must have cosigned; 0 asks for none."""
    max_age_s: int = 0
    """Seconds that a cosignature may be old; 0 for any age."""
    second_keys: tuple[Cosigner, ...] = ()
    """Second keys of some of them, by name, of a kind that quantum computers do not forge: such a witness counts where
    both of its keys have signed.
    """

    def __post_init__(self) -> None:
        keys = {each.key for each in self.witnesses}
        names = [each.name for each in self.witnesses]
        twins = [each.name for each in self.second_keys]
        if len(twins) > MAX_SECOND_KEYS or any(names.count(name) != 1 or twins.count(name) != 1 for name in twins):
            raise InvalidError(
                f"a second key of a witness stands alone, twice, or there are more than {MAX_SECOND_KEYS}",
                hint="name the Ed25519 key of the same witness, too: an ML-DSA key counts beside it, and never instead",
            )
        if len(keys) != len(self.witnesses):
            raise InvalidError("a witness is named twice", hint="each witness is one key, and counts once")
        if not 0 <= self.least <= len(self.witnesses) <= MAX_WITNESSES:
            raise InvalidError(
                f"{self.least} cosignatures are asked for, by {len(self.witnesses)} witnesses that are trusted",
                hint=f"name as many witnesses as have to sign, and {MAX_WITNESSES} at most",
            )

    def check(self, note: bytes, now: int) -> None:
        """Raises UnwitnessedError where too few have cosigned, or too long ago; MalformedError, SignatureError."""
        if self.least == 0:
            return
        times = [time for each in self.witnesses if (time := self._signed_at(note, each)) is not None]
        oldest = now - self.max_age_s if self.max_age_s else 0
        good = [time for time in times if oldest <= time <= now + AHEAD_S]
        if len(good) >= self.least:
            return
        names = ", ".join(each.name for each in self.witnesses)
        what = f"{len(good)} of the {self.least} witnesses that are asked for have cosigned the checkpoint"
        if len(times) > len(good):
            what += f" within the last {self.max_age_s} s, {len(times)} at any time"
        raise UnwitnessedError(
            f"{what} (trusted: {names})",
            hint="try again in a minute, and see whether the ledger submits to these witnesses and they answer; else "
            "change `witnesses`, `min_witnesses` or `max_checkpoint_age_s`",
        )

    def _signed_at(self, note: bytes, witness: CosignerKey) -> int | None:
        """When the older one of its lines was made; None where one is missing."""
        keys = (witness, *(each for each in self.second_keys if each.name == witness.name))
        times = [cosigned_by(note, each) for each in keys]
        return None if None in times else min(time for time in times if time is not None)

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        """Which lines to ask for: of witnesses with two keys the second, which comes with the first."""
        second = {each.name: each for each in self.second_keys}
        return tuple(second.get(each.name, each).key_id for each in self.witnesses)


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a log asks a witness: to cosign its checkpoint, which continues the one of the old size."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def __bytes__(self) -> bytes:
        hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in self.proof)
        return f"old {self.old}\n{hashes}\n".encode() + self.note

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says; its signatures are not looked at. Raises MalformedError."""
        return parse_checkpoint(parse_note(self.note).text)


def parse_add_checkpoint(data: bytes) -> AddCheckpoint:
    """The request that `data` spells. Raises MalformedError."""
    if len(data) > _MOST_BYTES:
        raise MalformedError(f"a request of {len(data)} bytes where {_MOST_BYTES} are allowed")
    head, separator, note = data.partition(b"\n\n")
    try:
        first, *hashes = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise MalformedError("a request whose first lines are not ASCII") from None
    word, space, size = first.partition(" ")
    if not separator or (word, space) != ("old", " ") or not _is_size(size):
        raise MalformedError("a request begins with a line like: old 17")
    return AddCheckpoint(int(size), _hashes(hashes), note)


def check_add_checkpoint(request: AddCheckpoint, log: VerifierKey, latest: Checkpoint | None) -> Checkpoint:
    """The checkpoint that a witness may cosign, where `latest` is the last one of this log that it did.

    Raises:
        MalformedError: no checkpoint, or one of fewer entries than the old size.
        SignatureError: not signed by the log's key.
        StaleError: the witness is elsewhere than at the old size.
        ForkedError: the log has signed two roots for one size.
        DishonestError: the proof does not lead from the old size to the checkpoint.
    """
    new = open_checkpoint(request.note, log)
    if request.old > new.size:
        raise MalformedError(f"an old size of {request.old} for a checkpoint of {new.size} entries")
    if request.old != (0 if latest is None else latest.size):
        raise StaleError("the old size is not that of the last checkpoint that was cosigned here")
    if latest is not None and latest.size == new.size and latest.root != new.root:
        raise ForkedError("another root was cosigned here for this size")
    try:
        if request.old == 0 and request.proof:
            raise DishonestError("nothing can be proven of the empty tree")
        if request.old > 0 and latest is not None:
            verify_consistency(latest.size, new.size, latest.root, new.root, request.proof)
    except PeerError as error:
        raise DishonestError(f"the consistency proof does not hold: {error.message}") from error
    return new


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdecimal() and (text[0] != "0" or text == "0") and len(text) <= 19


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    if len(lines) > MAX_PROOF_LINES:
        raise MalformedError(f"a proof of {len(lines)} hashes where {MAX_PROOF_LINES} are allowed")
    with peers_fault():
        hashes = tuple(map(decode_base64, lines))
    if any(len(each) != HASH_BYTES for each in hashes):
        raise MalformedError("a proof's hashes have 32 bytes each")
    return hashes
