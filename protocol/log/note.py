"""Signed notes: text for people and machines, with one line per signature (https://c2sp.org/signed-note).

::

    <text, one or more lines>
    <empty line>
    — <key name> <base64 of 4-byte key id and signature>

Ed25519 keys (type 0x01) sign and verify here, those of witnesses in `cosignature` (type 0x04) and
`post_quantum` (0x06). A note may carry signatures by other keys and of other types; whoever does not know a key ignores
its lines.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from protocol.encoding.text import is_plain_text
from protocol.errors import InvalidError, MalformedError, SignatureError, peers_fault

__all__ = [
    "MAX_NOTE_BYTES",
    "Note",
    "NoteKey",
    "NoteSignature",
    "VerifierKey",
    "decode_base64",
    "key_id_of",
    "lines_of",
    "open_note",
    "parse_note",
    "secret_line",
    "secret_of",
    "sign_note",
]

MAX_NOTE_BYTES = 64 * 1024
MAX_SIGNATURES = 100
"""Lines beyond this are an attack on whoever verifies them; the format asks to accept at least 16."""

ED25519 = 0x01
_SEED_BYTES = 32
_DASH = "— "
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_NOT_IN_NAMES = re.compile("[+\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
"""Plus, and the code points of Unicode's property White_Space, which Go's note package goes by too."""
_SECRET_PREFIX = "PRIVATE+KEY+"  # noqa: S105 - a label, not a secret


def decode_base64(text: str) -> bytes:
    """The bytes of standard base64 in its one canonical spelling. Raises MalformedError."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedError("not base64") from None
    if base64.b64encode(data).decode() != text:
        raise MalformedError("base64 that is not canonical")
    return data


def _is_name(name: str) -> bool:
    """C2SP signed-note: not empty, and without any Unicode space and plus."""
    return bool(name) and _NOT_IN_NAMES.search(name) is None


def key_id_of(name: str, typed_key: bytes) -> bytes:
    """4 bytes: C2SP signed-note, of a key whose type goes before it."""
    return hashlib.sha256(name.encode() + b"\n" + typed_key).digest()[:4]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """What verifies a party's notes: ``<name>+<key id in hex>+<base64 of type and key>``."""

    key_type: ClassVar[int] = ED25519
    key_bytes: ClassVar[int] = 32
    what: ClassVar[str] = "Ed25519"

    name: str
    """Whose key; for a log, its origin."""
    key: bytes
    """`key_bytes` bytes."""

    def __post_init__(self) -> None:
        if not _is_name(self.name) or not is_plain_text(self.name):
            raise InvalidError(f"{self.name[:40]!r} is not a key name", hint="a key name has no spaces and no +")
        if len(self.key) != self.key_bytes:
            raise InvalidError(f"an {self.what} key has {self.key_bytes} bytes, not {len(self.key)}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `text` writes. Raises MalformedError."""
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise MalformedError(f"{text[:80]!r} is not a verifier key", hint="it looks like name+1a2b3c4d+AbC...=")
        name, key_id, encoded = parts
        typed_key = decode_base64(encoded)
        if len(typed_key) != 1 + cls.key_bytes or typed_key[0] != cls.key_type:
            raise MalformedError(f"the verifier key of {name[:40]!r} is not an {cls.what} key")
        with peers_fault():
            found = cls(name, typed_key[1:])
        if found.key_id.hex() != key_id:
            raise MalformedError(f"the verifier key of {name[:40]!r} does not match its key id")
        return found

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.key_type]) + self.key).decode()}"

    @property
    def key_id(self) -> bytes:
        """4 bytes that find the key's line in a note; no proof of anything."""
        return key_id_of(self.name, bytes([self.key_type]) + self.key)

    def verify(self, text: str, signature: bytes) -> None:
        """Check a signature line's content over `text`. Raises SignatureError."""
        self.verify_bytes(text.encode(), signature)

    def verify_bytes(self, message: bytes, signature: bytes) -> None:
        """Check an Ed25519 signature. Raises SignatureError."""
        try:
            Ed25519PublicKey.from_public_bytes(self.key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise SignatureError(f"the signature of {self.name} does not verify") from None


def secret_line(verifier: VerifierKey, seed: bytes) -> str:
    """A secret as one line, in the form that Go's checksum database tools use."""
    encoded = base64.b64encode(bytes([verifier.key_type]) + seed).decode()
    return f"{_SECRET_PREFIX}{verifier.name}+{verifier.key_id.hex()}+{encoded}"


def secret_of(text: str, kind: type[VerifierKey]) -> tuple[str, str, bytes]:
    """Name, key id and seed of such a line. Raises InvalidError, which never quotes the text."""
    parts = text.removeprefix(_SECRET_PREFIX).split("+", 2)
    if not text.startswith(_SECRET_PREFIX) or len(parts) != 3:
        raise InvalidError("not a note signing key")
    name, key_id, encoded = parts
    try:
        typed_seed = decode_base64(encoded)
    except MalformedError as error:
        raise InvalidError(error.message) from None
    if typed_seed[:1] != bytes([kind.key_type]):
        raise InvalidError(f"not an {kind.what} note signing key")
    return name, key_id, typed_seed[1:]


class NoteKey:
    """A secret that signs notes under a name. Its representation never shows it."""

    __slots__ = ("_secret", "_seed", "verifier")
    verifier_class: ClassVar[type[VerifierKey]] = VerifierKey

    def __init__(self, name: str, seed: bytes) -> None:
        if len(seed) != _SEED_BYTES:
            raise InvalidError(f"an Ed25519 seed has 32 bytes, not {len(seed)}")
        self._seed = seed
        self._secret = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = self.verifier_class(name, self._secret.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.verifier.name})"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that `encoded` wrote. Raises InvalidError, which never quotes the text."""
        name, key_id, seed = secret_of(text, cls.verifier_class)
        key = cls(name, seed)
        if key.verifier.key_id.hex() != key_id:
            raise InvalidError("the note signing key does not match its key id")
        return key

    @property
    def encoded(self) -> str:
        """The secret as one line, in the form that Go's checksum database tools use."""
        return secret_line(self.verifier, self._seed)

    def sign(self, text: str) -> bytes:
        """64 bytes: the Ed25519 signature over `text`; the same text always gives the same signature."""
        return self.sign_bytes(text.encode())

    def sign_bytes(self, message: bytes) -> bytes:
        """64 bytes: the same over any message."""
        return self._secret.sign(message)


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line."""

    name: str
    key_id: bytes
    """4 bytes."""
    signature: bytes
    """Of a form that the key's type decides; at least 1 byte."""

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose form is right. Its signatures prove nothing until `open_note` has looked at them."""

    text: str
    """Ends with a newline."""
    signatures: tuple[NoteSignature, ...]

    def __bytes__(self) -> bytes:
        return "".join((self.text, "\n", *map(str, self.signatures))).encode()


def parse_note(data: bytes) -> Note:
    """The note that `data` spells. Raises MalformedError."""
    if len(data) > MAX_NOTE_BYTES:
        raise MalformedError(f"a note of {len(data)} bytes where {MAX_NOTE_BYTES} are allowed")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise MalformedError("a note that is not UTF-8") from None
    if _CONTROL.search(whole):
        raise MalformedError("a note with control characters")
    text, separator, lines = whole.rpartition("\n\n")
    if not separator or not lines.endswith("\n"):
        raise MalformedError("a note ends with an empty line and its signature lines")
    signature_lines = lines[:-1].split("\n")
    if len(signature_lines) > MAX_SIGNATURES:
        raise MalformedError(f"a note with {len(signature_lines)} signatures where {MAX_SIGNATURES} are allowed")
    return Note(text + "\n", tuple(map(_parse_signature, signature_lines)))


def lines_of(data: bytes) -> tuple[NoteSignature, ...]:
    """Signature lines without a note, as a witness answers with. Raises MalformedError."""
    found = parse_note(b"-\n\n" + data)
    if found.text != "-\n":
        raise MalformedError("signature lines with an empty line among them")
    return found.signatures


def _parse_signature(line: str) -> NoteSignature:
    name, separator, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not separator:
        raise MalformedError("a note with a line that is no signature")
    if not _is_name(name):
        raise MalformedError(f"{name[:40]!r} is not a key name")
    payload = decode_base64(encoded)
    if len(payload) < 5:
        raise MalformedError("a note with a signature that is too short")
    return NoteSignature(name, payload[:4], payload[4:])


def open_note(data: bytes, *known: VerifierKey) -> tuple[str, tuple[VerifierKey, ...]]:
    """The text of a note, and which of the `known` keys signed it: at least one.

    Raises:
        MalformedError: not a note, or two of the known keys share name and key id.
        SignatureError: a known key's signature does not verify, or no known key signed.
    """
    note = parse_note(data)
    verified: list[VerifierKey] = []
    for line in note.signatures:
        keys = [key for key in known if (key.name, key.key_id) == (line.name, line.key_id)]
        if len(keys) > 1:
            raise MalformedError(f"two known keys of {line.name} have the same key id")
        if keys and keys[0] not in verified:
            keys[0].verify(note.text, line.signature)
            verified.append(keys[0])
    if not verified:
        raise SignatureError("the note is not signed by any known key")
    return note.text, tuple(verified)


def sign_note(text: str, keys: Sequence[NoteKey], *further: NoteSignature) -> bytes:
    """A note of `text` (which ends with a newline), signed by `keys`, then `further` lines. Raises InvalidError."""
    lines = tuple(NoteSignature(key.verifier.name, key.verifier.key_id, key.sign(text)) for key in keys)
    data = bytes(Note(text, (*lines, *further)))
    try:
        kept = parse_note(data).text == text
    except MalformedError as error:
        raise InvalidError(error.message) from None
    if not kept:
        raise InvalidError("a note's text is one or more lines, each ended by a newline")
    return data
