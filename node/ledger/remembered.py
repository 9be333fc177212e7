"""What a client remembers of a ledger between runs: its verifier key and the newest checkpoint it saw.

Without it a ledger could show every run another history; with it, one that rewrites its past is found out.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from node.durable import replace_file
from protocol.encoding.strict_json import parse_object
from protocol.errors import ConfigurationError, PeerError
from protocol.log.checkpoint import Checkpoint, open_checkpoint
from protocol.log.note import VerifierKey

__all__ = ["Memory"]

_log = logging.getLogger(__name__)

_WRITE_EVERY_S = 1.0
_MAX_BYTES = 128 * 1024
"""Of the file: a note of the longest kind, as JSON writes it, and a key."""


@dataclass(slots=True)
class Memory:
    """The pinned key and the last checkpoint of one ledger; in a file where a path is given, else for one run."""

    path: Path | None = None
    verifier: VerifierKey | None = None
    note: bytes | None = None
    clock: Callable[[], float] = time.monotonic
    _written_at: float | None = field(default=None, init=False)
    _is_behind: bool = field(default=False, init=False)
    """Whether the file lacks the note."""
    _failed: bool = field(default=False, init=False)
    """Whether it could not be written the last time, which was told."""

    @classmethod
    def load(cls, path: Path | None) -> Memory:
        """What the file remembers; nothing where there is no file yet. Raises ConfigurationError when it is spoiled."""
        memory = cls(path)
        if path is None or not path.exists():
            return memory
        try:
            with path.open("rb") as file:
                stored = parse_object(file.read(_MAX_BYTES + 1), limit=_MAX_BYTES, depth=1)
            memory.verifier = VerifierKey.parse(stored["verifier_key"])
            memory.note = stored["checkpoint"].encode()
            open_checkpoint(memory.note, memory.verifier)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, PeerError) as error:
            raise ConfigurationError(
                f"what was remembered of the ledger, in {path}, cannot be read",
                hint="remove the file only if you trust the ledger's whole history again",
            ) from error
        return memory

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The remembered checkpoint, its signature verified again."""
        if self.note is None or self.verifier is None:
            return None
        return open_checkpoint(self.note, self.verifier)

    def remember(self, note: bytes) -> None:
        """Take in a newer checkpoint, which the caller has verified. Written at most once a second; `flush` at the end.

        Raises ConfigurationError when the file cannot be written the first time. Later a disk that is full ends
        nothing: what is remembered is then older than what is known, and is written as soon as that goes.
        """
        self.note = note
        self._is_behind = True
        now = self.clock()
        if self._written_at is None:
            self.flush()
        elif now - self._written_at < _WRITE_EVERY_S:
            return
        else:
            try:
                self.flush()
            except ConfigurationError as error:
                if not self._failed:
                    _log.warning("%s", error.message)
                self._failed = True
            else:
                self._failed = False
        self._written_at = now

    def flush(self) -> None:
        """Write what is not written yet; the file changes whole or not at all. Raises ConfigurationError."""
        if self.path is None or self.verifier is None or self.note is None or not self._is_behind:
            return
        self._is_behind = False  # also where writing fails: that is told once
        content = json.dumps({"verifier_key": str(self.verifier), "checkpoint": self.note.decode()}, indent=1)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, (content + "\n").encode())
        except OSError as error:
            raise ConfigurationError(f"cannot remember the ledger in {self.path}: {error.strerror}") from error
