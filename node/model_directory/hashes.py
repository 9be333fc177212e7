"""What files hash to, remembered between runs: a node does not read all its weights at each start.

A hash is remembered by path, size, times and inode. A file that was changed just before it was hashed is not: it could
change once more within one tick of the file system's clock, and nobody would see it. The hashes of a file's chunks are
kept beside, in a file named by their root: whoever has some of the chunks only needs them to know that they are right.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.durable import replace_file
from node.model_directory.files import parse_json, unreadable
from protocol.errors import ModelError, PeerError
from protocol.identity.ids import ModelFile
from protocol.log.merkle import leaf_hash
from protocol.models.chunks import CHUNK_BYTES, is_chunk, joined_hashes, open_chunk_list, root_of_chunks

__all__ = ["FileHash", "HashMemory"]

FORMAT = "joulemesh-hashes/2"
LISTS_FOLDER = "model-chunks"
MAX_ENTRIES = 4096
MAX_BYTES = 4 * 1024 * 1024
SETTLED_NS = 2_000_000_000
"""How long ago a file must have been changed for its hash to be remembered."""


@dataclass(frozen=True, slots=True)
class FileHash:
    """What a whole file hashes to."""

    size: int
    """Bytes."""
    sha256: bytes
    chunks: bytes
    """Root over its chunks (`protocol.models.chunks`)."""


class HashMemory:
    """Hashes files, and remembers what it hashed.

    Args:
        file: where to remember; None for nowhere. A file that cannot be read or makes no sense is started anew.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._known = {} if file is None else _load(file)
        self._lists: dict[bytes, bytes] = {}
        self.read_bytes = 0
        """How much has been read to hash it, since this was made."""

    def unread(self) -> HashMemory:
        """One that remembers chunk lists only: for whoever wants to read all files again."""
        other = HashMemory(self._file)
        other._known = {}
        return other

    def of(self, path: Path) -> FileHash:
        """What a file hashes to. Raises ModelError where it cannot be read, or changes meanwhile."""
        try:
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from None
        if (known := self._known.get(_key(path, status))) is not None:
            return FileHash(status.st_size, bytes.fromhex(known[:64]), bytes.fromhex(known[64:]))
        return self.read_anew(path)

    def read_anew(self, path: Path) -> FileHash:
        """As `of`, whatever is remembered: also its chunk list is here then."""
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                key = _key(path, before)
                began = time.time_ns()
                digest, hashes = _read(file)
                changed = key != _key(path, os.fstat(file.fileno()))
        except OSError as error:
            raise unreadable(path, error) from None
        if changed:
            raise ModelError(f"{path.name} changed while it was read", hint="wait until the download is complete")
        found = FileHash(before.st_size, digest, root_of_chunks(hashes))
        self.read_bytes += before.st_size
        self.keep_list(found.chunks, joined_hashes(hashes))
        if before.st_mtime_ns < began - SETTLED_NS:
            self._remember(key, digest + found.chunks)
        return found

    def has_chunks(self, path: Path, file: ModelFile, wanted: Collection[int]) -> bool:
        """Whether a file, which may have holes, has these chunks of what the manifest lists.

        Raises ModelError where it cannot be read, or its chunk list is not here (`chunk_list`).
        """
        hashes = self.chunk_list(file)
        if hashes is None:
            raise ModelError(f"the chunk list of {file.name} is not here", hint="fetch the model again")
        try:
            with path.open("rb") as opened:
                before = os.fstat(opened.fileno())
                key = _key(path, before, wanted)
                known = (file.sha256 + file.chunks).hex()
                if before.st_size != file.size:
                    return False
                if known in (self._known.get(key), self._known.get(_key(path, before))):
                    return True
                began = time.time_ns()
                for index in sorted(wanted):
                    opened.seek(index * CHUNK_BYTES)
                    chunk = opened.read(CHUNK_BYTES)
                    self.read_bytes += len(chunk)
                    if not is_chunk(chunk, hashes[index]):
                        return False
        except OSError as error:
            raise unreadable(path, error) from None
        if before.st_mtime_ns < began - SETTLED_NS:
            self._remember(key, file.sha256 + file.chunks)
        return True

    def chunk_list(self, file: ModelFile) -> Sequence[bytes] | None:
        """The hashes of a file's chunks, if they are kept here."""
        data = self._lists.get(file.chunks)
        if data is None and self._file is not None:
            try:
                data = self._list_path(file.chunks).read_bytes()
            except OSError:
                return None
        if data is None:
            return None
        try:
            return open_chunk_list(file, data)
        except PeerError:  # cut short, or damaged
            return None

    def keep_list(self, root: bytes, data: bytes) -> None:
        """Keep a file's chunk list, by its root."""
        if self._file is None:
            self._lists[root] = data
            return
        path = self._list_path(root)
        with contextlib.suppress(OSError):  # without it the file is read again, no more
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                replace_file(path, data)

    def _list_path(self, root: bytes) -> Path:
        assert self._file is not None, "asked only where there is a file"
        return self._file.parent / LISTS_FOLDER / root.hex()

    def _remember(self, key: str, digest: bytes) -> None:
        if self._file is None:
            return
        path, *_, parts = json.loads(key)
        # Others may share the file, and what they have added counts; of one path only the newest state is of use.
        known = {**_load(self._file), **self._known}
        kept = {k: v for k, v in known.items() if _is_other(json.loads(k), path, parts)}
        kept[key] = digest.hex()
        while len(kept) > MAX_ENTRIES:
            del kept[next(iter(kept))]
        self._known = kept
        text = json.dumps({"format": FORMAT, "hashes": kept}, indent=1, ensure_ascii=False)
        with contextlib.suppress(OSError, UnicodeEncodeError):  # without it the next start takes longer, no more
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file, text.encode())


def _read(file: Any) -> tuple[bytes, list[bytes]]:
    """SHA-256 of a file's content, and the hashes of its chunks."""
    whole, hashes = hashlib.sha256(), []
    while chunk := file.read(CHUNK_BYTES):
        whole.update(chunk)
        hashes.append(leaf_hash(chunk))
    return whole.digest(), hashes


def _key(path: Path, status: os.stat_result, parts: Collection[int] | None = None) -> str:
    times = (status.st_mtime_ns, status.st_ctime_ns)
    which = "" if parts is None else hashlib.sha256(json.dumps(sorted(parts)).encode()).hexdigest()
    return json.dumps([str(path.resolve()), status.st_size, *times, status.st_ino, status.st_dev, which])


def _is_other(key: Sequence[Any], path: str, parts: str) -> bool:
    """Whether what is remembered under a key stays beside something new of a path."""
    return bool(key[0] != path or key[-1] != parts)


def _load(file: Path) -> dict[str, str]:
    """What a file remembers; nothing where any of it is not as we write it."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        value = parse_json(data) if len(data) <= MAX_BYTES else None
        said = value["hashes"] if isinstance(value, dict) and value.get("format") == FORMAT else {}
        known = said if isinstance(said, dict) else {}
        sound = len(known) <= MAX_ENTRIES and all(_is_key(k) and _is_digest(v) for k, v in known.items())
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return known if sound else {}


def _is_key(key: str) -> bool:
    match parse_json(key.encode()):
        case [str(), int(), int(), int(), int(), int(), str()]:
            return True
    return False


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{128}", value) is not None
