"""What a witness has cosigned: for each log the newest checkpoint, durable before anybody is answered.

A file for each log, named after the SHA-256 of its origin, holds the cosigned note. Losing one lets a log show the
witness another history, so a file that is spoiled stops the witness, and one process alone writes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from node.durable import replace_file
from protocol.errors import ConfigurationError, LocalError, PeerError
from protocol.log.checkpoint import Checkpoint, open_checkpoint
from protocol.log.cosignature import CosigningKey
from protocol.log.note import VerifierKey, open_note

__all__ = ["WitnessState", "log_name"]


def log_name(origin: str) -> str:
    """Under which name a witness shows a log: 64 lower-case hexadecimal digits."""
    return hashlib.sha256(origin.encode()).hexdigest()


class WitnessState:
    """The folder of one witness. Close it after use.

    Raises:
        ConfigurationError: the folder cannot be written.
        LocalError: another process has it.
    """

    def __init__(self, folder: Path, key: CosigningKey) -> None:
        self._folder = folder
        self._key = key
        self._lock = _lock(folder)

    def close(self) -> None:
        """Give the folder back."""
        os.close(self._lock)

    def load(self, log: VerifierKey) -> tuple[Checkpoint, bytes] | None:
        """The newest checkpoint of a log that was cosigned, and its note; None before the first.

        Raises LocalError where the file is not what this witness wrote.
        """
        path = self._path(log)
        try:
            note = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _spoiled(path, error.strerror or str(error)) from error
        try:
            open_note(note, self._key.verifier)
            return open_checkpoint(note, log), note
        except PeerError as error:
            raise _spoiled(path, error.message) from error

    def store(self, log: VerifierKey, note: bytes) -> None:
        """Write a cosigned note; it is on disk when this returns. Raises LocalError."""
        try:
            replace_file(self._path(log), note)
        except OSError as error:
            raise LocalError(f"cannot write {self._path(log)}: {error.strerror}", code="disk") from error

    def _path(self, log: VerifierKey) -> Path:
        return self._folder / f"{log_name(log.name)}.checkpoint"


def _spoiled(path: Path, why: str) -> LocalError:
    return LocalError(
        f"what this witness has cosigned, in {path}, cannot be read: {why}",
        code="witness-damaged",
        hint="restore the file; without it the log could show this witness another history. If you cannot, begin "
        "another witness, with a key and a folder of its own",
    )


def _lock(folder: Path) -> int:
    path = folder / "witness.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}", hint="choose another --data-dir") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LocalError(
            "another process is this witness",
            code="witness-locked",
            hint="one witness has one process: stop the other `joule witness run`, or give this one its own --data-dir",
        ) from None
    return descriptor
