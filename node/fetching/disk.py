"""Chunks on the disk, in files of their full size whose other parts are holes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from protocol.errors import LocalError
from protocol.identity.ids import ModelFile
from protocol.models.chunks import CHUNK_BYTES, chunk_bytes, is_chunk

__all__ = ["ChunkFile", "require_space"]

RESERVE_BYTES = 64 * 1024 * 1024
"""What a fetch leaves free on the disk: the journals of a running node have to go on."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ChunkFile:
    """One file of a model in a directory, whole or in part.

    Args:
        hashes: of its chunks, held against the manifest.
    """

    def __init__(self, directory: Path, file: ModelFile, hashes: Sequence[bytes]) -> None:
        self.file = file
        self.hashes = hashes
        self.path = directory / file.name

    def missing(self, wanted: Iterable[int]) -> list[int]:
        """Those of some chunks that are not here as they should be; reads them. Raises LocalError."""
        try:
            with self.path.open("rb") as opened:
                if os.fstat(opened.fileno()).st_size != self.file.size:
                    return sorted(wanted)
                return [index for index in sorted(wanted) if not self._holds(opened.fileno(), index)]
        except FileNotFoundError:
            return sorted(wanted)
        except OSError as error:
            raise _refused(self.path, error) from None

    def _holds(self, descriptor: int, index: int) -> bool:
        size = chunk_bytes(self.file.size, index)
        return is_chunk(os.pread(descriptor, size, index * CHUNK_BYTES), self.hashes[index])

    def read(self, index: int) -> bytes | None:
        """A chunk, if it is here and right."""
        try:
            with self.path.open("rb") as opened:
                data = os.pread(opened.fileno(), chunk_bytes(self.file.size, index), index * CHUNK_BYTES)
        except OSError:
            return None
        return data if is_chunk(data, self.hashes[index]) else None

    def write(self, index: int, chunk: bytes) -> None:
        """Put a chunk in its place; the file has its full size from the first one on. Raises LocalError."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            try:
                if os.fstat(descriptor).st_size != self.file.size:
                    os.ftruncate(descriptor, self.file.size)
                at = index * CHUNK_BYTES
                while chunk:
                    written = os.pwrite(descriptor, chunk, at)
                    chunk, at = chunk[written:], at + written
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _refused(self.path, error) from None

    def flush(self) -> None:
        """See to it that what was written outlives a power cut. Raises LocalError."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _refused(self.path, error) from None


def require_space(directory: Path, size: int) -> None:
    """Raises LocalError (code ``disk-full``) where so many more bytes do not fit beside a reserve."""
    free = shutil.disk_usage(directory).free
    if size > free - RESERVE_BYTES:
        raise LocalError(
            f"{size // 10**6} MB are missing, and {directory} has {free // 10**6} MB free",
            code="disk-full",
            hint="make room, name fewer --blocks, or put --data-dir on another disk; what was fetched is kept",
        )


def _refused(path: Path, error: OSError) -> LocalError:
    if error.errno in _FULL:
        hint = "make room and start again: what was fetched is kept, and what is half written is fetched anew"
        return LocalError(f"the disk is full: {path.name} cannot be written", code="disk-full", hint=hint)
    return LocalError(f"cannot read or write {path}: {error.strerror}", hint="the data directory must be yours")
