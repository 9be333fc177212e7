"""Small content in a file that is written again and again, in place: what was written last, or what was before it.

::

    "JMSLOT1\\n", u64 number, u32 length of the content (both big endian), SHA-256 of these two and the content, content

A file has two slots of the same size, each of whole blocks, filled up with zeros. Every write goes to the slot whose
content is older, under the next number, and is on disk when it returns. One that a crash has left incomplete does not
fit its digest: then the other slot has what was written before it. Blocks are written apart, so that what happens to
one slot does not touch the other, and none is claimed or given back: such a write takes a sixth of the processor's time
that replacing a file takes.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

from node.durable import replace_file

__all__ = ["BLOCK", "Slots", "newest_of"]

BLOCK = 4096
"""Bytes: what file systems and disks write at a time."""
_MAGIC = b"JMSLOT1\n"
_HEAD = struct.Struct(">8sQI32s")


class Slots:
    """One file, which nobody else writes. What an earlier run has left in it counts until the first write."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = 0
        """Of a slot; 0 where the next write has to make the file."""
        self._number = self._first = 0
        """Of the newest content, and of the one that the file was made with, in its first slot."""

    def write(self, content: bytes) -> None:
        """On disk when this returns. Raises OSError, and what was written before counts on."""
        number = self._number + 1
        slot = _slot(number, content)
        if len(slot) > self._size or not self._overwrite(slot, number):
            self._size = 0  # until it is known to be made
            size = -(-len(slot) // BLOCK) * BLOCK
            replace_file(self._path, slot.ljust(2 * size, b"\0"))  # a crash leaves the old file, whole
            self._size, self._first = size, number
        self._number = number

    def _overwrite(self, slot: bytes, number: int) -> bool:
        """False where the file is gone."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_DSYNC)
        except FileNotFoundError:
            return False
        try:
            # A crash in here leaves the other slot, which is not touched.
            written = os.pwrite(descriptor, slot, (number - self._first) % 2 * self._size)
        finally:
            os.close(descriptor)
        if written < len(slot):
            raise OSError("a part of a slot only was written")
        return True


def newest_of(content: bytes) -> bytes | None:
    """What was written last into a file with this content; None where it has no slots, or none that is whole."""
    half = len(content) // 2
    found = [slot for slot in (_read(content[:half]), _read(content[half:])) if slot is not None]
    return max(found)[1] if found else None


def _slot(number: int, content: bytes) -> bytes:
    return _HEAD.pack(_MAGIC, number, len(content), _digest(number, content)) + content


def _read(slot: bytes) -> tuple[int, bytes] | None:
    if len(slot) < _HEAD.size:
        return None
    magic, number, length, digest = _HEAD.unpack_from(slot)
    content = slot[_HEAD.size : _HEAD.size + length]
    return (number, content) if magic == _MAGIC and digest == _digest(number, content) else None


def _digest(number: int, content: bytes) -> bytes:
    return hashlib.sha256(struct.pack(">QI", number, len(content)) + content).digest()
