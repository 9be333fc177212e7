"""Cosignatures that a quantum computer does not forge: ML-DSA-44, as C2SP tlog-cosignature has it (type 0x06).

A line of it stands beside a witness's Ed25519 line and never in its place. It signs the witness's name too, and of a
checkpoint the origin, the size and the root (docs/spec/ledger.md, clause C17)::

    "subtree/v1\\n\\0" || name<1..255> || time:u64 || origin<1..255> || 0:u64 || size:u64 || root:32
"""

from __future__ import annotations

import struct
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from protocol.errors import InvalidError, MalformedError, SignatureError
from protocol.log.checkpoint import parse_checkpoint
from protocol.log.cosignature import CosignerKey
from protocol.log.merkle import MAX_SIZE
from protocol.log.note import NoteSignature, VerifierKey, secret_line, secret_of

__all__ = ["PostQuantumCosigningKey", "PostQuantumKey", "parse_cosigner"]

ML_DSA_44 = 0x06
_LABEL = b"subtree/v1\n\0"
_MOST_NAME = 255
_SIGNATURE_BYTES = 2420
_SEED_BYTES = 32
_TIME = struct.Struct(">Q")


class PostQuantumKey(VerifierKey):
    """What verifies a witness's ML-DSA-44 cosignatures; C2SP writes it like an Ed25519 one, with type 0x06."""

    key_type: ClassVar[int] = ML_DSA_44
    key_bytes: ClassVar[int] = 1312
    what: ClassVar[str] = "ML-DSA-44 cosignature"
    __slots__ = ()

    def verify(self, text: str, signature: bytes) -> None:
        """Check a signature line's content over a checkpoint's text. Raises SignatureError."""
        message = _message(self.name, text, self.time_of(signature))
        try:
            MLDSA44PublicKey.from_public_bytes(self.key).verify(signature[_TIME.size :], message)
        except (InvalidSignature, ValueError):
            raise SignatureError(f"the signature of {self.name} does not verify") from None

    def time_of(self, signature: bytes) -> int:
        """When a cosignature says that it was made, Unix seconds. Raises SignatureError where it is none."""
        time = int.from_bytes(signature[: _TIME.size], "big")
        if len(signature) != _TIME.size + _SIGNATURE_BYTES or not 0 < time < MAX_SIZE:
            raise SignatureError(f"the cosignature of {self.name} is not 8 bytes of time and 2,420 of signature")
        return time


class PostQuantumCosigningKey:
    """A witness's second secret. Its representation never shows it."""

    __slots__ = ("_secret", "_seed", "verifier")

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != _SEED_BYTES:
            raise InvalidError(f"an ML-DSA-44 seed has {_SEED_BYTES} bytes, not {len(seed)}")
        self._seed = seed
        self._secret = MLDSA44PrivateKey.from_seed_bytes(seed)
        self.verifier = PostQuantumKey(name, self._secret.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.verifier.name})"

    @classmethod
    def parse(cls, text: str) -> PostQuantumCosigningKey:
        """The key that `encoded` wrote. Raises InvalidError, which never quotes the text."""
        name, key_id, seed = secret_of(text, PostQuantumKey)
        key = cls(name, seed)
        if key.verifier.key_id.hex() != key_id:
            raise InvalidError("the note signing key does not match its key id")
        return key

    @property
    def encoded(self) -> str:
        """The secret as one line, as of other note keys."""
        return secret_line(self.verifier, self._seed)

    def cosign(self, checkpoint_text: str, time: int) -> NoteSignature:
        """That at `time` (Unix seconds) this is the largest tree of its log that the witness knows. The signature is
        another each time, and as good.
        """
        if not 0 < time < MAX_SIZE:
            raise InvalidError(f"a cosignature dated {time}")
        signature = self._secret.sign(_message(self.verifier.name, checkpoint_text, time))
        return NoteSignature(self.verifier.name, self.verifier.key_id, _TIME.pack(time) + signature)


def parse_cosigner(text: str) -> CosignerKey | PostQuantumKey:
    """A witness's key of either type. Raises MalformedError."""
    try:
        return CosignerKey.parse(text)
    except MalformedError as error:
        try:
            return PostQuantumKey.parse(text)
        except MalformedError:
            raise error from None


def _message(name: str, checkpoint_text: str, time: int) -> bytes:
    """What is signed. Raises SignatureError for a text that is no checkpoint, or names that are too long."""
    try:
        checkpoint = parse_checkpoint(checkpoint_text)
    except MalformedError as error:
        raise SignatureError(f"a cosignature is of a checkpoint: {error.message}") from None
    names = [each.encode() for each in (name, checkpoint.origin)]
    if any(len(each) > _MOST_NAME for each in names):
        raise SignatureError(f"names that are cosigned have {_MOST_NAME} bytes at most")
    own, origin = (bytes([len(each)]) + each for each in names)
    tree = _TIME.pack(0) + _TIME.pack(checkpoint.size) + checkpoint.root
    return b"".join((_LABEL, own, _TIME.pack(time), origin, tree))
