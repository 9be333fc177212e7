"""The Ed25519 key that signs a ledger's checkpoints, or a witness's, in a file that only its owner can read.

Whoever holds it can show different logs to different people, which gossip of checkpoints uncovers; it moves no money.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TypeVar

from protocol.errors import InvalidError, KeystoreError
from protocol.log.cosignature import CosigningKey
from protocol.log.note import NoteKey
from protocol.log.post_quantum import PostQuantumCosigningKey

__all__ = ["create_log_key", "create_note_key", "read_log_key", "read_note_key"]


K = TypeVar("K", NoteKey, CosigningKey, PostQuantumCosigningKey)


def create_note_key(path: Path, origin: str, kind: type[K]) -> K:
    """A new key named `origin`, durable at `path` once returned. Raises KeystoreError, also where one exists."""
    key = kind(origin, secrets.token_bytes(32))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key.encoded + "\n")
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeystoreError(f"cannot write the log key {path}: {error.strerror}") from error
    # A crash here leaves a key without a ledger: the next start takes it for the ledger that it then begins.
    return key


def read_note_key(path: Path, kind: type[K]) -> K:
    """The key at `path`. Raises KeystoreError when it is missing, readable by others, or no key."""
    try:
        if path.stat().st_mode & 0o077:
            raise KeystoreError(f"others can read the log key {path}", hint=f"chmod 600 {path}")
        return kind.parse(path.read_text().strip())
    except OSError as error:
        hint = "it was made together with the ledger: restore it, or copy it from another front end of the ledger"
        raise KeystoreError(f"cannot read the log key {path}: {error.strerror}", hint=hint) from error
    except (InvalidError, UnicodeDecodeError) as error:
        raise KeystoreError(f"{path} is not a log key", hint="restore it from a backup") from error


def create_log_key(path: Path, origin: str) -> NoteKey:
    """A ledger's; as `create_note_key`."""
    return create_note_key(path, origin, NoteKey)


def read_log_key(path: Path) -> NoteKey:
    """A ledger's; as `read_note_key`."""
    return read_note_key(path, NoteKey)
