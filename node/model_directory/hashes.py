"""SHA-256 of files, remembered between runs: a node does not read all its weights at each start.

A hash is remembered by path, size, times and inode. A file that was changed just before it was hashed is not: it could
change once more within one tick of the file system's clock, and nobody would see it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path

from node.durable import replace_file
from node.model_directory.files import parse_json, unreadable
from protocol.errors import ModelError

__all__ = ["HashMemory"]

FORMAT = "joulemesh-hashes/1"
MAX_ENTRIES = 4096
MAX_BYTES = 4 * 1024 * 1024
SETTLED_NS = 2_000_000_000
"""How long ago a file must have been changed for its hash to be remembered."""


class HashMemory:
    """Hashes files, and remembers what it hashed.

    Args:
        file: where to remember; None for nowhere. A file that cannot be read or makes no sense is started anew.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known = {} if file is None else _load(file)
        self.read_bytes = 0
        """How much has been read to hash it, since this was made."""

    def sha256(self, path: Path) -> tuple[int, bytes]:
        """Size and SHA-256 of a file. Raises ModelError where it cannot be read, or changes meanwhile."""
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                key = _key(path, before)
                if (known := self._known.get(key)) is not None:
                    return before.st_size, bytes.fromhex(known)
                began = time.time_ns()
                digest = hashlib.file_digest(file, "sha256").digest()
                changed = key != _key(path, os.fstat(file.fileno()))
        except OSError as error:
            raise unreadable(path, error) from None
        if changed:
            raise ModelError(f"{path.name} changed while it was read", hint="wait until the download is complete")
        self.read_bytes += before.st_size
        if before.st_mtime_ns < began - SETTLED_NS:
            self._remember(key, digest)
        return before.st_size, digest

    def _remember(self, key: str, digest: bytes) -> None:
        if self._file is None:
            return
        path = json.loads(key)[0]
        # Others may share the file, and what they have added counts; of one path only the newest state is of use.
        kept = {k: v for k, v in {**_load(self._file), **self._known}.items() if json.loads(k)[0] != path}
        kept[key] = digest.hex()
        while len(kept) > MAX_ENTRIES:
            del kept[next(iter(kept))]
        self._known = kept
        text = json.dumps({"format": FORMAT, "sha256": kept}, indent=1, ensure_ascii=False)
        with contextlib.suppress(OSError, UnicodeEncodeError):  # without it the next start takes longer, no more
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file, text.encode())


def _key(path: Path, status: os.stat_result) -> str:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return json.dumps([str(path.resolve()), status.st_size, *times, status.st_ino, status.st_dev])


def _load(file: Path) -> dict[str, str]:
    """What a file remembers; nothing where any of it is not as we write it."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        value = parse_json(data) if len(data) <= MAX_BYTES else None
        said = value["sha256"] if isinstance(value, dict) and value.get("format") == FORMAT else {}
        known = said if isinstance(said, dict) else {}
        sound = len(known) <= MAX_ENTRIES and all(_is_key(k) and _is_digest(v) for k, v in known.items())
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return known if sound else {}


def _is_key(key: str) -> bool:
    match parse_json(key.encode()):
        case [str(), int(), int(), int(), int(), int()]:
            return True
    return False


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None
